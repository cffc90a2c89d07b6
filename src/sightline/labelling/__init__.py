"""Labelling images in the browser: the label file, the server on this machine, and its page."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
