"""Classifiers: what an image shows."""
