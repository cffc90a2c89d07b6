"""A classification network as a model: images of any size in, class scores out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, for_channels
from sightline.nn.backbones import darknet, resnet, vgg
from sightline.nn.backbones import efficientnet as efficient
from sightline.nn.backbones import mobilenet_v1 as v1
from sightline.nn.backbones import mobilenet_v2 as v2
from sightline.nn.backbones import mobilenet_v3 as v3
from sightline.nn.backbones.alexnet import alexnet as build_alexnet
from sightline.structures import Classes, ClassScores


class ImageClassifier(nn.Module):
    """A model of task "classification": `model(images, targets)` gives losses, `model(images)` gives `ClassScores`.

    Args:
        classes: names of the K classes.
        network: batch [N, C, S, S] → logits [N, K]; its last dense layer gives the logits.
        in_channels: C.
        crop: S, the centre crop's side.
        smoothing: label smoothing of the loss.
        kept: the shorter side of the image is first resized to S / kept.
    """

    task = "classification"
    name = ""
    arguments: dict[str, Any]
    class_layers: str

    def __init__(
        self,
        classes: Iterable[str],
        network: nn.Module,
        *,
        in_channels: int = 3,
        crop: int = 224,
        smoothing: float = 0.0,
        kept: float = 0.875,
    ):
        super().__init__()
        self.classes = classes if isinstance(classes, Classes) else Classes(classes)
        self.network = network
        self.crop, self.smoothing = crop, smoothing
        last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        self.class_layers = rf"^network\.{re.escape(last)}\."
        mean, std = for_channels(IMAGENET_MEAN, in_channels), for_channels(IMAGENET_STD, in_channels)
        side = round(crop / kept)
        self.preprocess = Preprocess(mean, std, min_size=side, max_size=100 * side, divisor=1)

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return self.preprocess.channels

    @overload
    def forward(self, images: Sequence[Tensor], targets: Sequence[ClassScores]) -> dict[str, Tensor]: ...
    @overload
    def forward(self, images: Sequence[Tensor], targets: None = None) -> list[ClassScores]: ...
    def forward(
        self, images: Sequence[Tensor], targets: Sequence[ClassScores] | None = None
    ) -> dict[str, Tensor] | list[ClassScores]:
        """Images [C, Hi, Wi] → scores of each; with targets, the cross-entropy instead."""
        self.preprocess.check(images)
        batch = torch.stack([self._centre(self.preprocess.prepare(x)) for x in images])
        logits = self.network(batch)
        if targets is None:
            rows = zip(images, logits.float().softmax(-1), strict=True)
            return [ClassScores((x.shape[-2], x.shape[-1]), scores=s, classes=self.classes) for x, s in rows]
        labels = []
        for target in targets:
            if target.classes is not None and target.classes != self.classes:
                self.classes.require_same(target.classes, "the model", target.source or "the targets")
            if target.label is None:
                raise InputError(f"{target.source or 'a target'} has no label, so it cannot train a classifier")
            labels.append(target.label)
        truth = torch.tensor(labels, device=logits.device)
        return {"loss_classification": F.cross_entropy(logits, truth, label_smoothing=self.smoothing)}

    def _centre(self, image: Tensor) -> Tensor:
        """The middle [C, S, S]; an image so long that its shorter side stays below S has a border of the mean."""
        down, right = (max(0, self.crop - side) for side in image.shape[-2:])
        if down or right:
            image = F.pad(image, (right // 2, right - right // 2, down // 2, down - down // 2))
        top, left = (image.shape[-2] - self.crop) // 2, (image.shape[-1] - self.crop) // 2
        return image[:, top : top + self.crop, left : left + self.crop]


def resnet18(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """ResNet-18 as a classifier of images."""
    return _classifier(resnet.resnet18, classes, in_channels, crop)


def resnet34(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """ResNet-34 as a classifier of images."""
    return _classifier(resnet.resnet34, classes, in_channels, crop)


def resnet50(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """ResNet-50 as a classifier of images."""
    return _classifier(resnet.resnet50, classes, in_channels, crop)


def resnet101(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """ResNet-101 as a classifier of images."""
    return _classifier(resnet.resnet101, classes, in_channels, crop)


def resnet152(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """ResNet-152 as a classifier of images."""
    return _classifier(resnet.resnet152, classes, in_channels, crop)


def mobilenet_v1(
    classes: Iterable[str], *, in_channels: int = 3, crop: int = 224, width: float = 1.0
) -> ImageClassifier:
    """MobileNet v1 as a classifier of images. `width` is the factor on its channel counts."""
    return _classifier(v1.mobilenet_v1, classes, in_channels, crop, width=width)


def mobilenet_v2(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """MobileNet v2 as a classifier of images."""
    return _classifier(v2.mobilenet_v2, classes, in_channels, crop)


def mobilenet_v3_small(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """MobileNet v3 small as a classifier of images."""
    return _classifier(v3.mobilenet_v3_small, classes, in_channels, crop)


def mobilenet_v3_large(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """MobileNet v3 large as a classifier of images."""
    return _classifier(v3.mobilenet_v3_large, classes, in_channels, crop)


def alexnet(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224, hidden: int = 4096) -> ImageClassifier:
    """AlexNet as a classifier of images. `hidden` is the width of its dense layers."""
    return _classifier(build_alexnet, classes, in_channels, crop, hidden=hidden)


def vgg16(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224, hidden: int = 4096) -> ImageClassifier:
    """VGG-16 as a classifier of images. `hidden` is the width of its dense layers."""
    return _classifier(vgg.vgg16, classes, in_channels, crop, hidden=hidden)


def vgg16_bn(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224, hidden: int = 4096) -> ImageClassifier:
    """VGG-16 with batch normalisation as a classifier of images. `hidden` is the width of its dense layers."""
    return _classifier(vgg.vgg16_bn, classes, in_channels, crop, hidden=hidden)


def vgg19(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224, hidden: int = 4096) -> ImageClassifier:
    """VGG-19 as a classifier of images. `hidden` is the width of its dense layers."""
    return _classifier(vgg.vgg19, classes, in_channels, crop, hidden=hidden)


def efficientnet_b0(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """EfficientNet B0 as a classifier of images."""
    return _classifier(efficient.efficientnet_b0, classes, in_channels, crop)


def efficientnet_b1(classes: Iterable[str], *, in_channels: int = 3, crop: int = 240) -> ImageClassifier:
    """EfficientNet B1 as a classifier of images."""
    return _classifier(efficient.efficientnet_b1, classes, in_channels, crop, kept=240 / 256)


def efficientnet_b2(classes: Iterable[str], *, in_channels: int = 3, crop: int = 288) -> ImageClassifier:
    """EfficientNet B2 as a classifier of images."""
    return _classifier(efficient.efficientnet_b2, classes, in_channels, crop, kept=1.0)


def efficientnet_b3(classes: Iterable[str], *, in_channels: int = 3, crop: int = 300) -> ImageClassifier:
    """EfficientNet B3 as a classifier of images."""
    return _classifier(efficient.efficientnet_b3, classes, in_channels, crop, kept=300 / 320)


def efficientnet_b4(classes: Iterable[str], *, in_channels: int = 3, crop: int = 380) -> ImageClassifier:
    """EfficientNet B4 as a classifier of images."""
    return _classifier(efficient.efficientnet_b4, classes, in_channels, crop, kept=380 / 384)


def efficientnet_b5(classes: Iterable[str], *, in_channels: int = 3, crop: int = 456) -> ImageClassifier:
    """EfficientNet B5 as a classifier of images."""
    return _classifier(efficient.efficientnet_b5, classes, in_channels, crop, kept=1.0)


def efficientnet_b6(classes: Iterable[str], *, in_channels: int = 3, crop: int = 528) -> ImageClassifier:
    """EfficientNet B6 as a classifier of images."""
    return _classifier(efficient.efficientnet_b6, classes, in_channels, crop, kept=1.0)


def efficientnet_b7(classes: Iterable[str], *, in_channels: int = 3, crop: int = 600) -> ImageClassifier:
    """EfficientNet B7 as a classifier of images."""
    return _classifier(efficient.efficientnet_b7, classes, in_channels, crop, kept=1.0)


def darknet19(classes: Iterable[str], *, in_channels: int = 3, crop: int = 224) -> ImageClassifier:
    """Darknet-19 as a classifier of images."""
    return _classifier(darknet.darknet19, classes, in_channels, crop)


def darknet53(classes: Iterable[str], *, in_channels: int = 3, crop: int = 256, slope: float = 0.1) -> ImageClassifier:
    """Darknet-53 as a classifier of images. `slope` is that of its leaky ReLU below 0."""
    return _classifier(darknet.darknet53, classes, in_channels, crop, slope=slope)


def _classifier(
    build: Any, classes: Iterable[str], in_channels: int, crop: int, *, kept: float = 0.875, **arguments: Any
) -> ImageClassifier:
    names = Classes(classes)
    if not len(names):
        raise InputError("a classifier needs at least one class; give classes=[…] with their names")
    network = build(len(names), in_channels=in_channels, **arguments)
    return ImageClassifier(names, network, in_channels=in_channels, crop=crop, kept=kept)
