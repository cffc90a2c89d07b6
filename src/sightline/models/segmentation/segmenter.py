"""The base class of all segmentation models: loss, and class maps at the size of the original images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.model import Calls, Losses, Model
from sightline.models.preprocess import Preprocess
from sightline.nn.backbones.map_layers import map_layers
from sightline.ops.pixel_losses import pixel_cross_entropy
from sightline.ops.resized_logits import ResizedLogits
from sightline.structures import IGNORE, ClassMap, ImageBatch, Size

PixelLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits [N, K, H, W] and labels [N, H, W] int64 with `IGNORE` → a scalar."""


@runtime_checkable
class MainOutput(Protocol):
    """A network that computes what predictions need alone: no auxiliary outputs, logits of any size."""

    def main(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits "out" [N, K, h, w]."""
        ...


class Segmenter(Model):
    """Base class of models of task "segmentation".

    `model(images, targets)` returns losses by name; `model(images)` returns a `ClassMap` for each image.

    Args:
        classes: names of the K classes, including the background if there is one.
        preprocess: preprocessing of images into a batch. Padding to a multiple of its divisor is removed from results.
        network: batch [N, C, H, W] → logits [N, K, h, w], or a dictionary with logits "out" and auxiliary outputs such
            as "aux". Logits are resized bilinearly to the size of the batch.
        loss: loss of every output; by default the mean cross-entropy over all pixels that are not ignored.
        aux_loss_weight: weight of the losses of auxiliary outputs.
    """

    task = "segmentation"
    backbone_layers = r"^network\.(encoder|backbone)\."
    __call__: Calls[ClassMap]
    recipe_defaults: dict[str, Any] = {"augmentation": "crops"}

    def __init__(
        self,
        classes: Iterable[str],
        preprocess: Preprocess,
        network: nn.Module,
        *,
        loss: PixelLoss | None = None,
        aux_loss_weight: float = 0.5,
    ):
        super().__init__(classes, preprocess)
        if not len(self.classes):
            raise InputError("a segmenter needs at least one class; give classes=[…] with their names")
        self.network = network
        self.loss = loss or pixel_cross_entropy
        weights = getattr(loss, "class_weights", None)
        if weights is not None and len(weights) != len(self.classes):
            raise InputError(
                f"there are {len(weights)} class weights but {len(self.classes)} classes; give one per class, in their "
                "order"
            )
        self.aux_loss_weight = aux_loss_weight

    def batch_losses(self, batch: ImageBatch, targets: Sequence[ClassMap]) -> Losses:
        return self.losses(self.outputs(batch), self.assign(targets, batch))

    def batch_results(self, batch: ImageBatch) -> list[ClassMap]:
        return self.decode(self.network_logits(batch), batch)

    def outputs(self, batch: ImageBatch) -> dict[str, Tensor]:
        """The logits [N, K, H, W] of a batch by name, at the size of the batch."""
        found = self.network(batch.tensor)
        named: Mapping[str, Tensor] = found if isinstance(found, Mapping) else {"out": found}
        return {name: resized(logits, map_size(batch.tensor)) for name, logits in named.items()}

    def logits(self, batch: ImageBatch) -> Tensor:
        """The logits "out" [N, K, H, W] alone, at the size of the batch; auxiliary outputs are not computed."""
        return resized(self.network_logits(batch), map_size(batch.tensor))

    def network_logits(self, batch: ImageBatch) -> Tensor:
        """The logits "out" [N, K, h, w] of the size that the network gives them."""
        network = self.network
        found = network.main(batch.tensor) if isinstance(network, MainOutput) else network(batch.tensor)
        logits: Tensor = found["out"] if isinstance(found, Mapping) else found
        return logits

    @torch.no_grad()
    def assign(self, targets: Sequence[ClassMap], batch: ImageBatch) -> Tensor:
        """The target labels of a batch: [N, H, W] int64, `IGNORE` for padding and for pixels to ignore.

        Raises:
            InputError: a map has a different size than its image, or labels that are no classes of the model.
        """
        if len(targets) != len(batch.sizes):
            raise InputError(
                f"there are {len(batch.sizes)} images but {len(targets)} targets; give one target per image"
            )
        device = batch.tensor.device
        labels = torch.full((len(targets), *batch.tensor.shape[-2:]), IGNORE, dtype=torch.int64, device=device)
        for row, (target, size, original) in enumerate(zip(targets, batch.sizes, batch.original_sizes, strict=True)):
            self.require_classes(target)
            if target.image_size != tuple(original):
                raise InputError(
                    f"{target.source or f'target {row}'} has a map of {list(target.image_size)} pixels, but its image "
                    f"has {list(original)}; give maps of the image's size"
                )
            if target.classes is None:  # otherwise they have been checked
                self._require_ids(target.labels, target.source or f"target {row}")
            own = target.labels.to(device)
            if tuple(own.shape) != tuple(size):  # nearest-neighbour interpolation, which does not mix classes
                own = F.interpolate(own[None, None].float(), size=size, mode="nearest-exact")[0, 0].long()
            labels[row, : size[0], : size[1]] = own
        return labels

    def _require_ids(self, labels: Tensor, source: str) -> None:
        bad = (labels >= len(self.classes)) | ((labels < 0) & (labels != IGNORE))
        if bad.any():
            shown = ", ".join(f"{v} ({int((labels == v).sum())} pixels)" for v in labels[bad].unique().tolist()[:5])
            raise InputError(
                f"{source} has labels that are not class ids: {shown}; ids are 0 to {len(self.classes) - 1}, and "
                f"{IGNORE} for pixels to ignore"
            )

    def map_layers(self) -> list[nn.Module]:
        """The last map of the encoder."""
        return map_layers(self.network)[-1:]

    def losses(self, outputs: Mapping[str, Tensor], labels: Tensor) -> Losses:
        """The loss of each output: "loss_pixels", and "loss_NAME" for auxiliary outputs."""
        losses = {"loss_pixels": self.loss(outputs["out"], labels)}
        further = {n: self.aux_loss_weight * self.loss(o, labels) for n, o in outputs.items() if n != "out"}
        return losses | {f"loss_{name}": value for name, value in further.items()}

    @torch.no_grad()
    def decode(self, logits: Tensor, batch: ImageBatch) -> list[ClassMap]:
        """Convert logits [N, K, h, w] of a batch to a class map for each original image.

        Logits are resized to the size of the batch, and without its padding to that of the image. Probabilities are
        computed from them if `scores` of a map is asked for.
        """
        results = []
        for own, size, original in zip(logits, batch.sizes, batch.original_sizes, strict=True):
            image_size = (int(original[0]), int(original[1]))
            found = ResizedLogits(own, map_size(batch.tensor), (int(size[0]), int(size[1])), image_size)
            results.append(ClassMap(found.labels(), self.classes, found))
        return results


def map_size(maps: Tensor) -> Size:
    """(height, width) of maps [N, C, H, W]; symbols while a model is exported."""
    return maps.shape[-2], maps.shape[-1]


def resized(logits: Tensor, size: Size) -> Tensor:
    """Resize maps [N, K, h, w] bilinearly to [N, K, *size]; maps of that size are returned unchanged."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
