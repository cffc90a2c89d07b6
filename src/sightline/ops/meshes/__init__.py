"""Operations on triangle meshes in plain PyTorch: batched, and differentiable where that makes sense."""

from sightline.submodules import submodules

__getattr__, __dir__ = submodules(__name__, __path__)
