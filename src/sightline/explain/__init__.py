"""Explanations: why a model answers what it answers. The function to call is `sightline.explain_images`."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
