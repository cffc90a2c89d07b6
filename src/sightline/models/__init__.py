"""The systems, one file a paper, and the catalog that names them."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
