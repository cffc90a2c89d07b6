"""Every pixel a class: encoder → decoder → logits at the image's own size."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
