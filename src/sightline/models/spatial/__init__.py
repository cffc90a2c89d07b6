"""Models of the scene in 3-D: cuboids and meshes, one file per paper."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
