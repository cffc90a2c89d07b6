"""Backbones by name: the classification networks that detectors and segmenters are built on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sightline.errors import InputError
from sightline.nn.backbones.alexnet import alexnet
from sightline.nn.backbones.darknet import darknet19, darknet53
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
from sightline.nn.backbones.features import Network
from sightline.nn.backbones.mobilenet_v1 import mobilenet_v1
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from sightline.nn.backbones.resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from sightline.nn.backbones.vgg import vgg16, vgg16_bn, vgg19
from sightline.nn.layers.norm import Norm, norm_maker

BACKBONES: dict[str, Callable[..., Network]] = {
    build.__name__: build
    for build in (
        *(resnet18, resnet34, resnet50, resnet101, resnet152),
        *(alexnet, vgg16, vgg16_bn, vgg19, mobilenet_v1, mobilenet_v2, mobilenet_v3_small, mobilenet_v3_large),
        *(efficientnet_b0, efficientnet_b1, efficientnet_b2, efficientnet_b3),
        *(efficientnet_b4, efficientnet_b5, efficientnet_b6, efficientnet_b7),
        *(darknet19, darknet53),
    )
}
"""(num_classes, *, in_channels, …) → network, by the name of the classifier whose weights it takes."""

StridedName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
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
]
"""Networks that shrink their maps by convolutions alone behind stride 4, so that `dilate` can undo it."""
PyramidName = Literal[StridedName, "darknet19", "vgg16", "vgg16_bn", "vgg19"]
"""Networks whose maps of strides 2, 4, 8, 16 and 32 lie on each other cell by cell."""
BackboneName = Literal[PyramidName, "alexnet"]


@dataclass(frozen=True)
class BackboneOptions:
    """How a backbone is normalised, and how much of it learns.

    Attributes:
        norm: "batch" learns the backbone's normalisation, "frozen" keeps it.
        norm_eps: added to the variance there; None for the network's own.
        trainable_layers: how many of the backbone's parts learn, counted from its end (a ResNet has five); None for
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
    """A classification network to cut open, from random numbers.

    Args:
        name: of the catalog's classifier.
        in_channels: number of channels of the images.
        options: of its normalisation, where it has any.
        num_classes: outputs of its last layer, which a system leaves out.
        known: the literal type of the names that suit.
        arguments: of the network's own.

    Raises:
        InputError: the name is not among those that suit; the message has them all.
    """
    if name not in get_args(known):
        raise InputError(f"there is no backbone {name!r} for this model; give one of {', '.join(get_args(known))}")
    build, options = BACKBONES[name], options or BackboneOptions()
    own = inspect.signature(build).parameters.get("norm")
    if own is not None and "norm" not in arguments:
        arguments["norm"] = norm_maker(options.norm, options.norm_eps, own.default)
    return build(num_classes, in_channels=in_channels, **arguments)
