"""Operations on boxes, masks and features, in plain PyTorch."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
