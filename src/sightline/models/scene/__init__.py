"""Models that describe scenes: captions of regions and events, relations between objects."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
