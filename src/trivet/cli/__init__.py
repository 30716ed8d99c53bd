"""The command line: it parses, calls one public function a verb, and prints."""
