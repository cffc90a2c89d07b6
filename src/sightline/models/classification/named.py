"""The classification models of the catalog. Their networks are those of `sightline.nn.backbones.named`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sightline.errors import InputError
from sightline.models.classification.classifier import ImageClassifier, require_aux_loss_weight
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
        own: additional arguments of the network.
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


@extends(classifier)
def aux_classifier(
    classes: Iterable[str], *, aux_heads: bool = True, aux_loss_weight: float = 0.3, **arguments: Any
) -> ImageClassifier:
    """A classifier with auxiliary heads, which classify earlier maps in training and are not computed in prediction.

    Args:
        classes: names of the classes.
        aux_heads: whether the network has auxiliary heads.
        aux_loss_weight: weight of their losses.
        arguments: as for `classifier`.
    """
    model = classifier(classes, aux_heads=aux_heads, **arguments)
    model.aux_loss_weight = require_aux_loss_weight(aux_loss_weight)
    return model


@extends(aux_classifier)
def transforming_classifier(
    classes: Iterable[str], *, transform_input: bool = True, **arguments: Any
) -> ImageClassifier:
    """A classifier with auxiliary heads whose network takes images in −1 … 1.

    Args:
        classes: names of the classes.
        transform_input: whether the network converts images, normalised for ImageNet, to −1 … 1. Its published weights
            were trained with such images.
        arguments: as for `aux_classifier`.
    """
    return aux_classifier(classes, transform_input=transform_input, **arguments)


@extends(classifier)
def dense_block_classifier(
    classes: Iterable[str], *, growth: int = 32, depths: Sequence[int] = (6, 12, 24, 16), **arguments: Any
) -> ImageClassifier:
    """A DenseNet of any growth rate and depth.

    Args:
        classes: names of the classes.
        growth: number of channels that each layer adds.
        depths: number of layers of each block.
        arguments: as for `classifier`.
    """
    return classifier(classes, growth=growth, depths=tuple(depths), **arguments)


@extends(classifier)
def staged_classifier(
    classes: Iterable[str], *, width: int = 96, depths: Sequence[int] = (3, 3, 9, 3), **arguments: Any
) -> ImageClassifier:
    """A classifier of stages of any width and depth.

    Args:
        classes: names of the classes.
        width: number of channels of the first stage; each later stage has twice as many.
        depths: number of blocks of each stage.
        arguments: as for `classifier`.
    """
    return classifier(classes, width=width, depths=tuple(depths), **arguments)


@extends(classifier)
def token_classifier(
    classes: Iterable[str], *, width: int = 768, depth: int = 12, grid: int = 14, **arguments: Any
) -> ImageClassifier:
    """A vision transformer of any width and depth.

    Args:
        classes: names of the classes.
        width: number of channels of a token, a multiple of 64.
        depth: number of layers.
        grid: number of patches per side of the images in pretraining. For other images, position embeddings are
            interpolated.
        arguments: as for `classifier`.
    """
    return classifier(classes, width=width, depth=depth, grid=grid, **arguments)


@extends(classifier)
def cell_classifier(
    classes: Iterable[str], *, repeats: int = 6, filters: int = 4032, **arguments: Any
) -> ImageClassifier:
    """NASNet-A (N @ P) of any size.

    Args:
        classes: names of the classes.
        repeats: number of normal cells of each stage (N).
        filters: number of channels of the last map (P), a multiple of 96.
        arguments: as for `classifier`.
    """
    return classifier(classes, repeats=repeats, filters=filters, **arguments)


_RESNET = "He et al. 2016, Deep residual learning"
_ALEXNET = "Krizhevsky et al. 2012, ImageNet classification; Krizhevsky 2014, One weird trick"
_VGG = "Simonyan and Zisserman 2015, Very deep convolutional networks"
_RESNEXT = "Xie et al. 2017, Aggregated residual transformations"
_WIDE = "Zagoruyko and Komodakis 2016, Wide residual networks"
_SENET = "Hu et al. 2018, Squeeze-and-excitation networks"
_GOOGLENET = "Szegedy et al. 2015, Going deeper with convolutions"
_V3 = "Howard et al. 2019, Searching for MobileNetV3"
_EFFICIENTNET = "Tan and Le 2019, EfficientNet"
_DENSENET = "Huang et al. 2017, Densely connected convolutional networks"
_SQUEEZENET = "Iandola et al. 2016, SqueezeNet"
_VIT = "Dosovitskiy et al. 2021, An image is worth 16x16 words"
_NASNET = "Zoph et al. 2018, Learning transferable architectures for scalable image recognition"

# title, paper, builder
_NETWORKS = {
    **{f"resnet{depth}": (f"ResNet-{depth}", _RESNET, classifier) for depth in (18, 34, 50, 101, 152)},
    "resnext50_32x4d": ("ResNeXt-50 32×4d", _RESNEXT, classifier),
    "resnext101_32x8d": ("ResNeXt-101 32×8d", _RESNEXT, classifier),
    "resnext101_64x4d": ("ResNeXt-101 64×4d", _RESNEXT, classifier),
    "wide_resnet50_2": ("Wide ResNet-50-2", _WIDE, classifier),
    "wide_resnet101_2": ("Wide ResNet-101-2", _WIDE, classifier),
    "seresnet50": ("SE-ResNet-50", _SENET, classifier),
    "senet154": ("SENet-154", _SENET, classifier),
    "googlenet": ("GoogLeNet with batch normalisation", _GOOGLENET, transforming_classifier),
    "googlenet_lrn": ("GoogLeNet with local response normalisation", _GOOGLENET, aux_classifier),
    "inception_v3": (
        "Inception v3",
        "Szegedy et al. 2016, Rethinking the inception architecture",
        transforming_classifier,
    ),
    "alexnet_lrn": (
        "AlexNet in two groups with local response normalisation",
        "Krizhevsky et al. 2012, ImageNet classification",
        dense_classifier,
    ),
    "alexnet": ("AlexNet", _ALEXNET, dense_classifier),
    **{f"vgg{depth}": (f"VGG-{depth}", _VGG, dense_classifier) for depth in (11, 13, 16, 19)},
    **{
        f"vgg{depth}_bn": (f"VGG-{depth} with batch normalisation", _VGG, dense_classifier)
        for depth in (11, 13, 16, 19)
    },
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
    "densenet121": ("DenseNet-121", _DENSENET, dense_block_classifier),
    **{f"densenet{depth}": (f"DenseNet-{depth}", _DENSENET, classifier) for depth in (161, 169, 201)},
    **{f"squeezenet1_{i}": (f"SqueezeNet 1.{i}", _SQUEEZENET, classifier) for i in range(2)},
    "xception": ("Xception", "Chollet 2017, Xception", classifier),
    "efficientnet_v2_s": ("EfficientNet v2-S", "Tan and Le 2021, EfficientNetV2", classifier),
    "convnext_tiny": ("ConvNeXt-T", "Liu et al. 2022, A ConvNet for the 2020s", staged_classifier),
    **{f"vit_b_{patch}": (f"ViT-B/{patch}", _VIT, token_classifier) for patch in (16, 32)},
    "swin_t": ("Swin-T", "Liu et al. 2021, Swin transformer", staged_classifier),
    "nasnet_large": ("NASNet-A (6 @ 4032)", _NASNET, cell_classifier),
    "nasnet_mobile": ("NASNet-A (4 @ 1056)", _NASNET, cell_classifier),
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
    "inception_v3": (299, 299 / 342),
    "xception": (299, 0.8975),
    "efficientnet_v2_s": (384, 1.0),
    "convnext_tiny": (224, 224 / 236),
    "swin_t": (224, 224 / 232),
    "nasnet_large": (331, 0.911),
}
# other defaults that differ from the builder's
_OWN: dict[str, dict[str, Any]] = {
    "efficientnet_v2_s": {"interpolation": "bilinear"},
    "vit_b_32": {"grid": 7},
    "swin_t": {"depths": (2, 2, 6, 2), "interpolation": "bicubic"},
    "nasnet_mobile": {"repeats": 4, "filters": 1056},
}
_WITHOUT_NORM = ("alexnet", "alexnet_lrn", "googlenet_lrn", "vgg11", "vgg13", "vgg16", "vgg19")
_SQUEEZENETS = ("squeezenet1_0", "squeezenet1_1")  # without normalisation as well
_LAYER_NORM = ("convnext_tiny", "vit_b_16", "vit_b_32", "swin_t")

ENTRIES = tuple(
    Entry(
        name=name,
        builder=builder,
        task="classification",
        paper=paper,
        summary=f"{title} as a classifier of images.",
        fixed={"network": name},
        defaults=dict(zip(("image_size", "crop_pct"), _SIZES.get(name, (224, 0.875)), strict=True))
        | ({"interpolation": "bicubic"} if name.startswith("efficientnet") else {})
        | _OWN.get(name, {}),
        recipe={"lr": 1e-4} if name in (*_WITHOUT_NORM, *_SQUEEZENETS, *_LAYER_NORM) else {},
        plan=plan if name.startswith("efficientnet_lite") else None,
    )
    for name, (title, paper, builder) in _NETWORKS.items()
)
