"""Outputs and truth -> losses; outputs -> predictions."""
