"""Modules to build with: layers, backbones, necks and heads. They know tensors, not files or labels' formats."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
