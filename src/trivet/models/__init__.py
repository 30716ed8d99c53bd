"""Backbone, neck and head, and the published models made of them."""
