"""A classification network as a model: images of any size in, class scores out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.model import Calls, Losses, Model
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.nn.backbones import darknet, resnet, vgg
from sightline.nn.backbones import efficientnet as efficient
from sightline.nn.backbones import mobilenet_v1 as v1
from sightline.nn.backbones import mobilenet_v2 as v2
from sightline.nn.backbones import mobilenet_v3 as v3
from sightline.nn.backbones.alexnet import alexnet as build_alexnet
from sightline.ops.resizing import Interpolation
from sightline.structures import Classes, ClassScores, ImageBatch, Size


class ImageClassifier(Model):
    """A model of task "classification": `model(images, targets)` gives losses, `model(images)` gives `ClassScores`.

    Args:
        classes: names of the K classes.
        network: batch [N, C, S, S] → logits [N, K]; its last dense layer gives the logits.
        in_channels: C.
        image_size: S, the centre crop's side.
        smoothing: label smoothing of the loss.
        crop_pct: the shorter side of the image is first resized to S / crop_pct.
        interpolation, antialias: how; as in `Preprocess`.
    """

    task = "classification"
    __call__: Calls[ClassScores]

    def __init__(
        self,
        classes: Iterable[str],
        network: nn.Module,
        *,
        in_channels: int = 3,
        image_size: int = 224,
        smoothing: float = 0.0,
        crop_pct: float = 0.875,
        interpolation: Interpolation = "bilinear",
        antialias: bool = True,
    ):
        if image_size < 1 or not 0 < crop_pct <= 1:
            raise InputError(
                f"image_size is {image_size} and crop_pct {crop_pct}, but image_size ≥ 1 and 0 < crop_pct ≤ 1 must hold"
            )
        preprocess = Preprocess(
            for_channels(IMAGENET_MEAN, in_channels),
            for_channels(IMAGENET_STD, in_channels),
            min_size=round(image_size / crop_pct),
            max_size=None,
            divisor=1,
            antialias=antialias,
            interpolation=interpolation,
        )
        super().__init__(classes, preprocess)
        self.network = network
        self.crop, self.smoothing = image_size, smoothing
        last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        self.class_layers = rf"^network\.{re.escape(last)}\."

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """All in one batch: each image is seen as a square of the same size."""
        self.preprocess.check(images)
        return [list(range(len(images)))]

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[ClassScores] | None
    ) -> tuple[ImageBatch, list[int] | None]:
        """Images → the batch of their centre crops; targets → their labels."""
        self.preprocess.check(images)
        crops = torch.stack([self._centre(self.preprocess.prepare(x)) for x in images])
        originals: list[Size] = [(int(x.shape[-2]), int(x.shape[-1])) for x in images]
        batch = ImageBatch(crops, [(self.crop, self.crop)] * len(images), originals)
        if targets is None:
            return batch, None
        labels = []
        for target in targets:
            self.require_classes(target)
            if target.label is None:
                raise InputError(f"{target.source or 'a target'} has no label, so it cannot train a classifier")
            labels.append(target.label)
        return batch, labels

    def batch_losses(self, batch: ImageBatch, targets: Sequence[int]) -> Losses:
        """The cross-entropy of the labels."""
        logits = self.network(batch.tensor)
        truth = torch.tensor(targets, device=logits.device)
        return {"loss_classification": F.cross_entropy(logits, truth, label_smoothing=self.smoothing)}

    def batch_results(self, batch: ImageBatch) -> list[ClassScores]:
        """The probabilities of the classes."""
        rows = zip(batch.original_sizes, self.network(batch.tensor).float().softmax(-1), strict=True)
        return [ClassScores(size, scores=scores, classes=self.classes) for size, scores in rows]

    def _centre(self, image: Tensor) -> Tensor:
        """The middle [C, S, S]; an image so long that its shorter side stays below S has a border of the mean."""
        down, right = (max(0, self.crop - side) for side in image.shape[-2:])
        if down or right:
            image = F.pad(image, (right // 2, right - right // 2, down // 2, down - down // 2))
        # half a pixel goes to the even side, as torchvision's does
        top, left = (round((side - self.crop) / 2) for side in image.shape[-2:])
        return image[:, top : top + self.crop, left : left + self.crop]


def resnet18(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """ResNet-18 as a classifier of images.

    Args:
        classes: names of the classes.
        in_channels: channels of the images.
        image_size: side of the square that the network sees, the middle of the image.
        crop_pct: the shorter side of the image is first resized to image_size / crop_pct.
        interpolation: how images are resized: "bilinear" or "bicubic".
        antialias: images are antialiased when downsampled.
    """
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(resnet.resnet18, classes, in_channels, view)


def resnet34(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """ResNet-34 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(resnet.resnet34, classes, in_channels, view)


def resnet50(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """ResNet-50 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(resnet.resnet50, classes, in_channels, view)


def resnet101(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """ResNet-101 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(resnet.resnet101, classes, in_channels, view)


def resnet152(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """ResNet-152 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(resnet.resnet152, classes, in_channels, view)


def mobilenet_v1(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    width: float = 1.0,
) -> ImageClassifier:
    """MobileNet v1 as a classifier of images. `width` is the factor on its channel counts.

    Arguments as for `resnet18`.
    """
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(v1.mobilenet_v1, classes, in_channels, view, width=width)


def mobilenet_v2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """MobileNet v2 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(v2.mobilenet_v2, classes, in_channels, view)


def mobilenet_v3_small(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """MobileNet v3 small as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(v3.mobilenet_v3_small, classes, in_channels, view)


def mobilenet_v3_large(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """MobileNet v3 large as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(v3.mobilenet_v3_large, classes, in_channels, view)


def alexnet(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    hidden: int = 4096,
) -> ImageClassifier:
    """AlexNet as a classifier of images. `hidden` is the width of its dense layers.

    Arguments as for `resnet18`.
    """
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(build_alexnet, classes, in_channels, view, hidden=hidden)


def vgg16(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    hidden: int = 4096,
) -> ImageClassifier:
    """VGG-16 as a classifier of images. `hidden` is the width of its dense layers.

    Arguments as for `resnet18`.
    """
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(vgg.vgg16, classes, in_channels, view, hidden=hidden)


def vgg16_bn(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    hidden: int = 4096,
) -> ImageClassifier:
    """VGG-16 with batch normalisation as a classifier of images. `hidden` is the width of its dense layers.

    Arguments as for `resnet18`.
    """
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(vgg.vgg16_bn, classes, in_channels, view, hidden=hidden)


def vgg19(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    hidden: int = 4096,
) -> ImageClassifier:
    """VGG-19 as a classifier of images. `hidden` is the width of its dense layers.

    Arguments as for `resnet18`.
    """
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(vgg.vgg19, classes, in_channels, view, hidden=hidden)


def efficientnet_b0(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> ImageClassifier:
    """EfficientNet B0 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(efficient.efficientnet_b0, classes, in_channels, view)


def efficientnet_b1(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 240,
    crop_pct: float = 240 / 256,
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> ImageClassifier:
    """EfficientNet B1 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(efficient.efficientnet_b1, classes, in_channels, view)


def efficientnet_b2(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 288,
    crop_pct: float = 1.0,
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> ImageClassifier:
    """EfficientNet B2 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(efficient.efficientnet_b2, classes, in_channels, view)


def efficientnet_b3(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 300,
    crop_pct: float = 300 / 320,
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> ImageClassifier:
    """EfficientNet B3 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(efficient.efficientnet_b3, classes, in_channels, view)


def efficientnet_b4(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 380,
    crop_pct: float = 380 / 384,
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> ImageClassifier:
    """EfficientNet B4 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(efficient.efficientnet_b4, classes, in_channels, view)


def efficientnet_b5(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 456,
    crop_pct: float = 1.0,
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> ImageClassifier:
    """EfficientNet B5 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(efficient.efficientnet_b5, classes, in_channels, view)


def efficientnet_b6(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 528,
    crop_pct: float = 1.0,
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> ImageClassifier:
    """EfficientNet B6 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(efficient.efficientnet_b6, classes, in_channels, view)


def efficientnet_b7(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 600,
    crop_pct: float = 1.0,
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> ImageClassifier:
    """EfficientNet B7 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(efficient.efficientnet_b7, classes, in_channels, view)


def darknet19(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 224,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
) -> ImageClassifier:
    """Darknet-19 as a classifier of images. Arguments as for `resnet18`."""
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(darknet.darknet19, classes, in_channels, view)


def darknet53(
    classes: Iterable[str],
    *,
    in_channels: int = 3,
    image_size: int = 256,
    crop_pct: float = 0.875,
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    slope: float = 0.1,
) -> ImageClassifier:
    """Darknet-53 as a classifier of images. `slope` is that of its leaky ReLU below 0.

    Arguments as for `resnet18`.
    """
    view = _View(image_size, crop_pct, interpolation, antialias)
    return _classifier(darknet.darknet53, classes, in_channels, view, slope=slope)


class _View(NamedTuple):
    """How a classifier looks at an image; as in `ImageClassifier`."""

    image_size: int
    crop_pct: float
    interpolation: Interpolation
    antialias: bool


def _classifier(build: Any, classes: Iterable[str], in_channels: int, view: _View, **arguments: Any) -> ImageClassifier:
    names = Classes(classes)
    if not len(names):
        raise InputError("a classifier needs at least one class; give classes=[…] with their names")
    network = build(len(names), in_channels=in_channels, **arguments)
    return ImageClassifier(names, network, in_channels=in_channels, **view._asdict())
