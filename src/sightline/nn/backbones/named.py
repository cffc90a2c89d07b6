"""Backbones by name: the classification networks that detectors and segmenters are built on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sightline.errors import InputError
from sightline.nn.backbones.alexnet import alexnet, alexnet_lrn
from sightline.nn.backbones.convnext import convnext_tiny
from sightline.nn.backbones.darknet import darknet19, darknet53
from sightline.nn.backbones.densenet import densenet121, densenet161, densenet169, densenet201
from sightline.nn.backbones.efficientnet import (
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
)
from sightline.nn.backbones.efficientnet_lite import efficientnet_lite0, efficientnet_lite1, efficientnet_lite2
from sightline.nn.backbones.efficientnet_v2 import efficientnet_v2_s
from sightline.nn.backbones.features import Network
from sightline.nn.backbones.googlenet import googlenet, googlenet_lrn
from sightline.nn.backbones.inception_v3 import inception_v3
from sightline.nn.backbones.mobilenet_v1 import mobilenet_v1
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from sightline.nn.backbones.nasnet import nasnet_large, nasnet_mobile
from sightline.nn.backbones.resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from sightline.nn.backbones.resnext import (
    resnext50_32x4d,
    resnext101_32x8d,
    resnext101_64x4d,
    wide_resnet50_2,
    wide_resnet101_2,
)
from sightline.nn.backbones.senet import senet154, seresnet50
from sightline.nn.backbones.squeezenet import squeezenet1_0, squeezenet1_1
from sightline.nn.backbones.swin import swin_t
from sightline.nn.backbones.vgg import vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from sightline.nn.backbones.vit import vit_b_16, vit_b_32
from sightline.nn.backbones.xception import xception
from sightline.nn.layers.norm import Norm, norm_maker

BACKBONES: dict[str, Callable[..., Network]] = {
    build.__name__: build
    for build in (
        *(resnet18, resnet34, resnet50, resnet101, resnet152),
        *(resnext50_32x4d, resnext101_32x8d, resnext101_64x4d, wide_resnet50_2, wide_resnet101_2),
        *(seresnet50, senet154, alexnet, alexnet_lrn, googlenet, googlenet_lrn, inception_v3),
        *(vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn),
        *(mobilenet_v1, mobilenet_v2, mobilenet_v3_small, mobilenet_v3_large),
        *(efficientnet_b0, efficientnet_b1, efficientnet_b2, efficientnet_b3),
        *(efficientnet_b4, efficientnet_b5, efficientnet_b6, efficientnet_b7),
        *(efficientnet_lite0, efficientnet_lite1, efficientnet_lite2),
        *(darknet19, darknet53),
        *(densenet121, densenet161, densenet169, densenet201, squeezenet1_0, squeezenet1_1, xception),
        *(efficientnet_v2_s, convnext_tiny, vit_b_16, vit_b_32, swin_t, nasnet_large, nasnet_mobile),
    )
}
"""Functions (num_classes, *, in_channels, …) → network, by the name of the classifier whose weights fit it."""

StridedName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "seresnet50",
    "senet154",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "darknet53",
    "efficientnet_v2_s",
]
"""Networks that reduce the size of maps beyond stride 4 only by convolutions, so that `dilate` can remove strides."""
PyramidName = Literal[
    StridedName,
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "darknet19",
    "googlenet",
    "googlenet_lrn",
    "inception_v3",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19_bn",
    "vgg19",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "squeezenet1_0",
    "squeezenet1_1",
    "xception",
    "convnext_tiny",
    "vit_b_16",
    "vit_b_32",
    "swin_t",
    "nasnet_large",
    "nasnet_mobile",
]
"""Networks whose maps of strides 2 (unless they begin with stride 4), 4, 8, 16 and 32 are aligned."""
BackboneName = Literal[PyramidName, "alexnet", "alexnet_lrn"]


@dataclass(frozen=True)
class BackboneOptions:
    """Normalisation and trainable layers of a backbone.

    Attributes:
        norm: "batch" trains the backbone's batch normalisation, "frozen" keeps it fixed.
        norm_eps: ε of the backbone's batch normalisation; None for the default of the network.
        trainable_layers: number of the backbone's parts to train, counted from its end (a ResNet has five); None trains
            all.
    """

    norm: Norm = "batch"
    norm_eps: float | None = None
    trainable_layers: int | None = None


OPTIONS = BackboneOptions()


def build_backbone(
    name: str,
    in_channels: int = 3,
    options: BackboneOptions | None = None,
    *,
    num_classes: int = 1000,
    known: Any = BackboneName,
    **arguments: Any,
) -> Network:
    """Build a classification network with random weights, for use as a backbone.

    Args:
        name: catalog name of the classifier.
        in_channels: number of channels of the images.
        options: options of its normalisation, if it has any.
        num_classes: number of outputs of its last layer, which detectors do not use.
        known: Literal type of the suitable names.
        arguments: additional arguments of the network.

    Raises:
        InputError: the name is not suitable. The message lists those that are.
    """
    if name not in get_args(known):
        raise InputError(f"there is no backbone {name!r} for this model; give one of {', '.join(get_args(known))}")
    build, options = BACKBONES[name], options or BackboneOptions()
    parameters = inspect.signature(build).parameters
    own = parameters.get("norm")
    if "padded" in parameters and known is not BackboneName:  # the maps must be aligned
        arguments.setdefault("padded", True)
    if own is not None and "norm" not in arguments:
        arguments["norm"] = norm_maker(options.norm, options.norm_eps, own.default)
    return build(num_classes, in_channels=in_channels, **arguments)
