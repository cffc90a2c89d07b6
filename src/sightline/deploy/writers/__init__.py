"""Write predictions to a folder, one file per task."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
