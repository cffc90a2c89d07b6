"""What joins a backbone's maps before the heads."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
