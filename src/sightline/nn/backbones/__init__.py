"""Classification networks that serve as classifiers and, cut open, as backbones."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
