"""Heads: feature maps -> raw outputs."""
