"""Classifiers: what an image shows."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
