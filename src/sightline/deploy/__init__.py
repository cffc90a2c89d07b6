"""Use trained models: predictions for images and folders."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
