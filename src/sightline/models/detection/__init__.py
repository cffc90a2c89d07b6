"""Detectors: where the objects of an image are, and what they are."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
