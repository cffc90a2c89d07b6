"""Explanations: why a model answers what it answers."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
