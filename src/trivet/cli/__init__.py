"""The command line: it parses, calls one public function a verb, and prints."""

from trivet.cli.app import main

__all__ = ["main"]
