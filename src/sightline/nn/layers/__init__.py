"""Small layers that many networks share."""

from sightline.nn.layers.conv import ConvNormAct, SqueezeExcitation, make_divisible
from sightline.nn.layers.coordinates import CoordConv
from sightline.nn.layers.deform import DeformConv2d
from sightline.nn.layers.drop_block import DropBlock
from sightline.nn.layers.fuse import fuse
from sightline.nn.layers.norm import FrozenBatchNorm2d, Norm, NormLayer, batch_norm, freeze_norms, norm_maker
from sightline.nn.layers.separable import DepthwiseSeparable
from sightline.nn.layers.space_to_depth import DarknetReorg, SpaceToDepth
from sightline.nn.layers.spatial_pyramid import SpatialPyramidPooling
from sightline.nn.layers.stochastic_depth import StochasticDepth

__all__ = [
    "ConvNormAct",
    "CoordConv",
    "DarknetReorg",
    "DeformConv2d",
    "DepthwiseSeparable",
    "DropBlock",
    "FrozenBatchNorm2d",
    "Norm",
    "NormLayer",
    "SpaceToDepth",
    "SpatialPyramidPooling",
    "SqueezeExcitation",
    "StochasticDepth",
    "batch_norm",
    "freeze_norms",
    "fuse",
    "make_divisible",
    "norm_maker",
]
