"""The classification models of the catalog. Their networks are those of `sightline.nn.backbones.named`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sightline.errors import InputError
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.classification.plan import plan
from sightline.models.entry import Entry, extends
from sightline.nn.backbones.named import OPTIONS, BackboneName, BackboneOptions, build_backbone
from sightline.ops.resizing import Interpolation
from sightline.structures import Classes


def classifier(
    classes: Iterable[str],
    *,
    network: BackboneName = "resnet50",
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    label_smoothing: float = 0.1,
    options: BackboneOptions = OPTIONS,
    **own: Any,
) -> ImageClassifier:
    """An image classifier with any classification network.

    Args:
        classes: names of the classes.
        network: name of the network.
        in_channels: number of channels of the images.
        image_size: side of the centre crop in pixels.
        crop_pct: the shorter side of the image is first resized to image_size / crop_pct.
        interpolation: how images are resized: "bilinear" or "bicubic".
        antialias: images are antialiased when downsampled.
        label_smoothing: amount of label smoothing in the loss (Szegedy et al. 2016, section 7); 0 disables it.
        options: normalisation of the network, and how many of its parts learn. What follows the last part (the last
            convolution of an EfficientNet, the fully connected layers) always learns.
        own: further arguments of the network.
    """
    names = Classes(classes)
    if not len(names):
        raise InputError("a classifier needs at least one class; give classes=[…] with their names")
    net = build_backbone(network, in_channels, options, num_classes=len(names), **own)
    if options.trainable_layers is not None:
        net.maps([stage.stride for stage in net.stages], options.trainable_layers)  # freezes the network's own layers
    return ImageClassifier(
        names,
        net,
        in_channels=in_channels,
        image_size=image_size,
        label_smoothing=label_smoothing,
        crop_pct=crop_pct,
        interpolation=interpolation,
        antialias=antialias,
    )


@extends(classifier)
def dense_classifier(classes: Iterable[str], *, hidden: int = 4096, **arguments: Any) -> ImageClassifier:
    """A classifier with fully connected layers. `hidden` is the width of these layers.

    Arguments as for `classifier`.
    """
    return classifier(classes, hidden=hidden, **arguments)


@extends(classifier)
def scaled_classifier(classes: Iterable[str], *, width: float = 1.0, **arguments: Any) -> ImageClassifier:
    """A classifier of variable width. `width` is the factor on all channel counts. Arguments as for `classifier`."""
    return classifier(classes, width=width, **arguments)


@extends(classifier)
def leaky_classifier(classes: Iterable[str], *, slope: float = 0.1, **arguments: Any) -> ImageClassifier:
    """A classifier with leaky ReLUs. `slope` is the negative slope of the leaky ReLU. Arguments as for `classifier`."""
    return classifier(classes, slope=slope, **arguments)


_RESNET = "He et al. 2016, Deep residual learning"
_ALEXNET = "Krizhevsky et al. 2012, ImageNet classification; Krizhevsky 2014, One weird trick"
_VGG = "Simonyan and Zisserman 2015, Very deep convolutional networks"
_V3 = "Howard et al. 2019, Searching for MobileNetV3"
_EFFICIENTNET = "Tan and Le 2019, EfficientNet"

# title, paper, builder
_NETWORKS = {
    **{f"resnet{depth}": (f"ResNet-{depth}", _RESNET, classifier) for depth in (18, 34, 50, 101, 152)},
    "alexnet": ("AlexNet", _ALEXNET, dense_classifier),
    "vgg16": ("VGG-16", _VGG, dense_classifier),
    "vgg16_bn": ("VGG-16 with batch normalisation", _VGG, dense_classifier),
    "vgg19": ("VGG-19", _VGG, dense_classifier),
    "mobilenet_v1": ("MobileNet v1", "Howard et al. 2017, MobileNets", scaled_classifier),
    "mobilenet_v2": ("MobileNet v2", "Sandler et al. 2018, MobileNetV2", classifier),
    "mobilenet_v3_small": ("MobileNet v3 small", _V3, classifier),
    "mobilenet_v3_large": ("MobileNet v3 large", _V3, classifier),
    **{f"efficientnet_b{i}": (f"EfficientNet B{i}", _EFFICIENTNET, classifier) for i in range(8)},
    **{
        f"efficientnet_lite{i}": (f"EfficientNet-Lite{i}", _EFFICIENTNET + ", Lite variant", classifier)
        for i in range(3)
    },
    "darknet19": ("Darknet-19", "Redmon and Farhadi 2017, YOLO9000", classifier),
    "darknet53": ("Darknet-53", "Redmon and Farhadi 2018, YOLOv3", leaky_classifier),
}
# image_size, crop_pct: as published, where they are not 224 and 0.875
_SIZES: dict[str, tuple[int, float]] = {
    "efficientnet_b1": (240, 240 / 256),
    "efficientnet_b2": (288, 1.0),
    "efficientnet_b3": (300, 300 / 320),
    "efficientnet_b4": (380, 380 / 384),
    "efficientnet_b5": (456, 1.0),
    "efficientnet_b6": (528, 1.0),
    "efficientnet_b7": (600, 1.0),
    "efficientnet_lite1": (240, 240 / 272),
    "efficientnet_lite2": (260, 260 / 292),
    "darknet53": (256, 0.875),
}
_WITHOUT_NORM = ("alexnet", "vgg16", "vgg19")

ENTRIES = tuple(
    Entry(
        name=name,
        builder=builder,
        task="classification",
        paper=paper,
        summary=f"{title} as a classifier of images.",
        fixed={"network": name},
        defaults=dict(zip(("image_size", "crop_pct"), _SIZES.get(name, (224, 0.875)), strict=True))
        | ({"interpolation": "bicubic"} if name.startswith("efficientnet") else {}),
        recipe={"lr": 1e-4} if name in _WITHOUT_NORM else {},
        plan=plan if name.startswith("efficientnet_lite") else None,
    )
    for name, (title, paper, builder) in _NETWORKS.items()
)
