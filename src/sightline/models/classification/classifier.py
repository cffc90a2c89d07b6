"""Classification models: a classification network with its preprocessing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.model import Calls, Losses, Model
from sightline.models.preprocess import imagenet_preprocess
from sightline.nn.backbones.aux_heads import NetworkWithHeads
from sightline.nn.backbones.map_layers import MapSource
from sightline.ops.resizing import Interpolation
from sightline.runtime.values import require_number
from sightline.structures import ClassScores, ImageBatch, Size
from sightline.structures.batch import Frame


class ImageClassifier(Model):
    """A model of task "classification".

    `model(images, targets)` returns losses by name; `model(images)` returns `ClassScores` for each image.

    Args:
        classes: names of the K classes.
        network: batch [N, C, S, S] → logits [N, K]. Its last `nn.Linear` (or without one, its last
            convolution) gives the logits. The auxiliary heads of a `NetworkWithHeads` are used for the losses alone.
        in_channels: number of channels C of the images.
        image_size: side S of the centre crop in pixels.
        label_smoothing: amount of label smoothing in the loss.
        crop_pct: the shorter side of the image is first resized to S / crop_pct.
        interpolation, antialias: how images are resized, see `Preprocess`.
        aux_loss_weight: weight of the losses of auxiliary heads (Szegedy et al. 2015, section 5).
    """

    task = "classification"
    competing_classes = True
    recipe_defaults: dict[str, Any] = {"augmentation": "resized_crops", "batch_size": 32, "lr": 1e-3}
    finetune_defaults: dict[str, Any] = {"backbone_lr_factor": 0.3}  # the head alone starts from random numbers
    __call__: Calls[ClassScores]

    def __init__(
        self,
        classes: Iterable[str],
        network: nn.Module,
        *,
        in_channels: int = 3,
        image_size: int = 224,
        label_smoothing: float = 0.0,
        crop_pct: float = 0.875,
        interpolation: Interpolation = "bilinear",
        antialias: bool = True,
        aux_loss_weight: float = 0.3,
    ):
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing is {label_smoothing}, but must be at least 0 and below 1; 0 disables it")
        if image_size < 1 or not 0 < crop_pct <= 1:
            raise InputError(
                f"image_size is {image_size} and crop_pct {crop_pct}, but image_size ≥ 1 and 0 < crop_pct ≤ 1 must hold"
            )
        preprocess = imagenet_preprocess(
            in_channels,
            min_size=round(image_size / crop_pct),
            max_size=None,
            divisor=1,
            antialias=antialias,
            interpolation=interpolation,
        )
        super().__init__(classes, preprocess)
        self.network = network
        self.crop, self.label_smoothing = image_size, label_smoothing
        self.aux_loss_weight = require_aux_loss_weight(aux_loss_weight)
        heads = [head.module for head in network.aux_heads] if isinstance(network, NetworkWithHeads) else []
        self.head_is(_last_layer(network), *(f"{head}.{_last_layer(network.get_submodule(head))}" for head in heads))

    def head_is(self, layer: str, *auxiliary: str) -> None:
        """The layers that give the logits, the network's and those of auxiliary heads; all others are the backbone."""
        names = "|".join(re.escape(name) for name in (layer, *auxiliary))
        self.head_layer = f"network.{layer}"
        self.class_layers = rf"^network\.({names})\."
        self.backbone_layers = rf"^network\.(?!({names})\.)"

    @property
    def architecture(self) -> type[nn.Module]:
        """The network's class."""
        return type(self.network)

    def groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        """One batch with all images, since all centre crops have the same size."""
        self.preprocess.check(images)
        return [list(range(len(images)))]

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[ClassScores] | None
    ) -> tuple[ImageBatch, list[int | Tensor] | None]:
        """Convert images to a batch of centre crops, and targets to labels, or to probabilities [K] if they have no
        label but scores."""
        self.preprocess.check(images)
        crops = torch.stack([self._centre(self.preprocess.prepare(x)) for x in images])
        originals: list[Size] = [(int(x.shape[-2]), int(x.shape[-1])) for x in images]
        frames = [self._frame(size) for size in originals]
        batch = ImageBatch(crops, [(self.crop, self.crop)] * len(images), originals, frames=frames)
        if targets is None:
            return batch, None
        labels: list[int | Tensor] = []
        for target in targets:
            self.require_classes(target)
            labels.append(_probabilities(target, len(self.classes)) if target.label is None else target.label)
        return batch, labels

    def logits(self, batch: ImageBatch) -> Tensor:
        """The class scores before the softmax, [N, K], differentiable with respect to the batch."""
        with _large_enough(self, batch):
            logits: Tensor = self.network(batch.tensor)
        return logits

    def map_layers(self) -> list[nn.Module]:
        """The last map before pooling, for a network that says which that is."""
        return self.network.map_layers() if isinstance(self.network, MapSource) else []

    def batch_losses(self, batch: ImageBatch, targets: Sequence[int | Tensor]) -> Losses:
        """The cross-entropy losses: "loss_classification", and "loss_NAME" of each auxiliary head, weighted.

        The loss of a soft target is the mean over its classes.
        """
        with _large_enough(self, batch):
            if isinstance(self.network, NetworkWithHeads):
                outputs = self.network.outputs(batch.tensor)
            else:
                outputs = {"out": self.network(batch.tensor)}
        truth = stacked_targets(targets, len(self.classes)).to(batch.tensor.device)
        losses = {n: F.cross_entropy(o, truth, label_smoothing=self.label_smoothing) for n, o in outputs.items()}
        auxiliary = {f"loss_{n}": self.aux_loss_weight * loss for n, loss in losses.items() if n != "out"}
        return {"loss_classification": losses["out"], **auxiliary}

    def batch_results(self, batch: ImageBatch) -> list[ClassScores]:
        """The class probabilities of each image."""
        rows = zip(batch.original_sizes, self.logits(batch).float().softmax(-1), strict=True)
        return [ClassScores(size, scores=scores, classes=self.classes) for size, scores in rows]

    def _centre(self, image: Tensor) -> Tensor:
        """The centre crop [C, S, S]. An image whose shorter side is below S is padded with the mean colour."""
        down, right = (max(0, self.crop - side) for side in image.shape[-2:])
        if down or right:
            image = F.pad(image, (right // 2, right - right // 2, down // 2, down - down // 2))
        top, left = (_crop_start(side, self.crop) for side in image.shape[-2:])
        return image[:, top : top + self.crop, left : left + self.crop]

    def _frame(self, size: Size) -> Frame:
        """Where an image of this size lies in the batch, as `_centre` crops and pads it."""
        height, width = self.preprocess.resized(size)
        top, left = (max(0, self.crop - s) // 2 - _crop_start(max(s, self.crop), self.crop) for s in (height, width))
        return left, top, left + width, top + height


def stacked_targets(targets: Sequence[int | Tensor], classes: int) -> Tensor:
    """Labels and probabilities [K] as `F.cross_entropy` takes them: [N] int64, or [N, K] if some are probabilities."""
    if all(isinstance(target, int) for target in targets):
        return torch.tensor(targets)
    return torch.stack([t.cpu() if isinstance(t, Tensor) else torch.eye(classes)[t] for t in targets])


@contextmanager
def _large_enough(model: ImageClassifier, batch: ImageBatch) -> Iterator[None]:
    """Context of a forward pass, in which a map without pixels is reported as an image that is too small.

    Raises:
        InputError: a convolution or pooling has fewer pixels than it needs.
    """
    try:
        yield
    except RuntimeError as error:
        if not re.search(
            r"output size is too small|can't be greater than actual input size", str(error), re.IGNORECASE
        ):
            raise
        height, width = batch.tensor.shape[-2:]
        raise InputError(
            f"{model.title} cannot take images of {height}×{width} pixels, since its later maps would have no pixel; "
            "create it with a larger image_size, such as 224"
        ) from None


def _probabilities(target: ClassScores, classes: int) -> Tensor:
    """The scores of a soft target as probabilities [K].

    Raises:
        InputError: they are not probabilities of the model's classes.
    """
    scores = target.scores
    fits = scores is not None and scores.shape == (classes,) and bool((scores >= 0).all())
    if scores is None or not fits or abs(float(scores.sum()) - 1) > 1e-3:
        raise InputError(
            f"{target.source or 'a target'} has no label and its scores are not probabilities of {classes} classes, so "
            "it cannot train a classifier; give it a label, or scores that sum to 1"
        )
    return scores.float()


def _crop_start(side: int, crop: int) -> int:
    """The first pixel of the centre crop; rounds half to even, like torchvision."""
    return round((side - crop) / 2)


def require_aux_loss_weight(value: Any) -> float:
    """Return the weight of the losses of auxiliary heads as a float; an `InputError` if it is negative or no number."""
    return require_number("aux_loss_weight", value, 0, math.inf, "0 disables these losses")


def _last_layer(network: nn.Module) -> str:
    """The name of the layer that gives the logits: the last linear layer or, without one, the last convolution."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return ([name for name, module in layers if isinstance(module, nn.Linear)] or [name for name, _ in layers])[-1]
