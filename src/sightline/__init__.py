"""Sightline: what is in an image, where, and why the model thinks so."""

__version__ = "0.1.0"
