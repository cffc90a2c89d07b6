"""Small layers that many networks share."""

from sightline.nn.layers.conv import ConvNormAct, SqueezeExcitation, make_divisible
from sightline.nn.layers.fuse import fuse
from sightline.nn.layers.norm import FrozenBatchNorm2d, NormLayer, batch_norm, freeze_norms

__all__ = [
    "ConvNormAct",
    "FrozenBatchNorm2d",
    "NormLayer",
    "SqueezeExcitation",
    "batch_norm",
    "freeze_norms",
    "fuse",
    "make_divisible",
]
