"""Pure tensor functions on boxes and anchors."""
