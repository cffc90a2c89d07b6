"""Small layers that many networks share."""

from sightline.nn.layers.conv import Attention, ConvNormAct, SqueezeExcitation, make_divisible
from sightline.nn.layers.coordinates import CoordConv
from sightline.nn.layers.deform import DeformConv2d
from sightline.nn.layers.drop_block import DropBlock
from sightline.nn.layers.fuse import fuse
from sightline.nn.layers.fused_block import FusedBlock
from sightline.nn.layers.norm import (
    FrozenBatchNorm2d,
    Norm,
    NormLayer,
    batch_norm,
    freeze_norms,
    local_response_norm,
    norm_maker,
)
from sightline.nn.layers.renormalise import Renormalise
from sightline.nn.layers.separable import DepthwiseSeparable
from sightline.nn.layers.space_to_depth import DarknetReorg, SpaceToDepth
from sightline.nn.layers.spatial_pyramid import SpatialPyramidPooling
from sightline.nn.layers.stochastic_depth import StochasticDepth
from sightline.nn.layers.transformer import MapNorm, Permute, feed_forward, normal_start

__all__ = [
    "Attention",
    "ConvNormAct",
    "CoordConv",
    "DarknetReorg",
    "DeformConv2d",
    "DepthwiseSeparable",
    "DropBlock",
    "FrozenBatchNorm2d",
    "FusedBlock",
    "MapNorm",
    "Norm",
    "NormLayer",
    "Permute",
    "Renormalise",
    "SpaceToDepth",
    "SpatialPyramidPooling",
    "SqueezeExcitation",
    "StochasticDepth",
    "batch_norm",
    "feed_forward",
    "freeze_norms",
    "fuse",
    "local_response_norm",
    "make_divisible",
    "norm_maker",
    "normal_start",
]
