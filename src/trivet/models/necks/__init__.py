"""Necks: the backbone's feature maps -> maps of one width on every level."""
