"""Small layers that many networks share."""

from sightline.nn.layers.conv import ConvNormAct, DepthwiseSeparable, SqueezeExcitation, make_divisible
from sightline.nn.layers.fuse import fuse
from sightline.nn.layers.norm import FrozenBatchNorm2d, NormLayer, batch_norm, freeze_norms
from sightline.nn.layers.space_to_depth import DarknetReorg, SpaceToDepth
from sightline.nn.layers.stochastic_depth import StochasticDepth

__all__ = [
    "ConvNormAct",
    "DarknetReorg",
    "DepthwiseSeparable",
    "FrozenBatchNorm2d",
    "NormLayer",
    "SpaceToDepth",
    "SqueezeExcitation",
    "StochasticDepth",
    "batch_norm",
    "freeze_norms",
    "fuse",
    "make_divisible",
]
