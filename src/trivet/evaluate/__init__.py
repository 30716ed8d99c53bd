"""Predictions and truth -> scores, intervals and mistakes."""
