"""Data: datasets, formats, checks, transforms, rendered scenes."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
