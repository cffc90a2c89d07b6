"""Explain one image: a heat map in pixels of the original image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.explain.box_targets import DetectedBox, in_image, require_detector
from sightline.explain.hooks import unchanged
from sightline.explain.layers import default_layer, layer_named
from sightline.explain.method import Function, Method
from sightline.explain.methods import method_named
from sightline.explain.peaks import peaks
from sightline.explain.target import Box, Target
from sightline.models.model import Model, as_model
from sightline.structures import ImageBatch, Size

_WHOLE = 0.5
"""Pixels at a side of the image that may lie outside of the batch by rounding."""


@dataclass(frozen=True)
class Explanation:
    """Which parts of an image a score depends on.

    Attributes:
        heat: [H, W] float32 on the CPU, in pixels of the original image: high values support the target. 0 where the
            model does not see the image, such as outside a classifier's centre crop.
        model: name of the model.
        method: name of the method.
        target: what is explained, in words.
        score: the score of the target in the unchanged image.
        layer: path of the layer; None for methods without one.
        box: (x1, y1, x2, y2) of the explained object in pixels of the original image; None for other targets.
        mask: [H, W] bool, its mask, or None.
        signed: whether negative values are evidence against the target.
        source: file or item of the image, or None.
        seen: (x1, y1, x2, y2) of the part of the image that the model sees, such as a classifier's centre crop, in
            pixels of the original image; None if it sees all of it.
        quantity: what the score is, such as "logit" (before the sigmoid or softmax).
    """

    heat: Tensor
    model: str
    method: str
    target: str
    score: float
    layer: str | None = None
    box: Box | None = None
    mask: Tensor | None = None
    signed: bool = False
    source: str | None = None
    seen: Box | None = None
    quantity: str = "score"

    @property
    def image_size(self) -> Size:
        """(height, width) of the original image."""
        return int(self.heat.shape[0]), int(self.heat.shape[1])

    @property
    def peak(self) -> tuple[int, int]:
        """(y, x) of the pixel with the highest value; of several, the one nearest to their common centre."""
        _, y, x = peaks(self.heat[None])
        return int(y), int(x)

    @property
    def flat(self) -> bool:
        """Whether the heat map has the same value everywhere, so that it has no peak."""
        return bool(self.heat.min() == self.heat.max())

    def to_dict(self) -> dict[str, Any]:
        """All values but the heat map and the mask, for JSON. The peak of a flat heat map is None."""
        names = ("model", "method", "target", "layer")
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        box, seen = (None if part is None else [round(value, 2) for value in part] for part in (self.box, self.seen))
        return {
            **values,
            "score": self.score,
            "quantity": self.quantity,
            "peak": None if self.flat else list(self.peak),
            "box": box,
            "seen": seen,
        }


def explain_image(
    model: nn.Module,
    image: Tensor,
    method: str | Method,
    target: Target,
    layer: str | None = None,
    *,
    device: torch.device | str | None = None,
    source: str | None = None,
) -> Explanation:
    """Explain one image by one method.

    The model is explained in eval mode, and comes back as it was: mode, device, `requires_grad`, hooks, and no gradient
    left on its parameters.

    Args:
        model: a model.
        image: [C, H, W], uint8 or float in [0, 1].
        method: a method, or the name of one with its default settings.
        target: what is explained; see `sightline.explain.targets`.
        layer: path of a layer of the model, such as "backbone.layer4", for methods that need one; by default the
            model's default layer.
        device: where the model runs; None for the device it is on.
        source: file or item of the image, for the record.

    Raises:
        InputError: the method cannot explain this model or target, the layer does not exist, or the score is not
            finite.
    """
    own = method if isinstance(method, Method) else method_named(method)
    known = as_model(model)
    with unchanged(known, device) as place:
        with torch.no_grad():
            batch, _ = known.prepare([image.to(place)], None)
            score = float(target.score(known, batch)[0])
        if not math.isfinite(score):
            raise InputError(
                f"the score of {target.describe(known)} is {score}, so it cannot be explained; the weights of "
                f"{known.title} have no finite values, or its training went wrong"
            )
        heat, path = heat_of_batch(known, batch, own, target, layer)
    return Explanation(
        in_original_pixels(heat, batch).cpu(),
        known.title,
        own.name,
        target.describe(known),
        score,
        path,
        target.box,
        None if target.mask is None else target.mask.cpu(),
        signed=own.signed,
        source=source,
        seen=seen_part(batch),
        quantity=target.quantity,
    )


def seen_part(batch: ImageBatch) -> Box | None:
    """The part of the image in a batch of one image, in pixels of the original image; None if it is all of it."""
    height, width = batch.tensor.shape[-2:]
    x1, y1, x2, y2 = in_image(torch.tensor([0.0, 0.0, width, height]), batch).tolist()
    rows, columns = batch.original_sizes[0]
    whole = max(x1, y1, columns - x2, rows - y2) < _WHOLE
    return None if whole else (x1, y1, x2, y2)


def heat_of_batch(
    model: Model, batch: ImageBatch, method: Method, target: Target, layer: str | None = None
) -> tuple[Tensor, str | None]:
    """The heat map in pixels of a batch of one image, [H, W], and the path of the layer, or None.

    Args:
        model: a model in eval mode.
        batch: a batch of one image that `model.prepare` returned.
        method, target, layer: as for `explain_image`.
    """
    function = _function(model, batch, method, target)
    if not method.needs_layer:
        return method.explain(function, batch.tensor), None
    path = default_layer(model, target) if layer is None else layer
    return method.explain(function, batch.tensor, layer_named(model, path), target.frame), path


def _function(model: Model, batch: ImageBatch, method: Method, target: Target) -> Function:
    """Pixels [N, C, H, W] of copies of the batch's image → their scores [N]."""
    if method.compares:
        if not isinstance(target, DetectedBox):
            raise InputError(
                f"{method.name} explains a detected box, such as box:0, not {target.describe(model)}; use rise, which "
                "explains any score"
            )
        similarity = target.similarity(require_detector(model), batch)
        return lambda pixels: similarity.score(model, batch.with_copies(pixels))
    return lambda pixels: target.score(model, batch.with_copies(pixels))


def in_original_pixels(heat: Tensor, batch: ImageBatch) -> Tensor:
    """Undo resizing, letterbox, padding and centre crop: heat [H, W] of a batch of one image → pixels of the image.

    Returns:
        [h, w] float32; 0 outside the part of the image that is in the batch.
    """
    x1, y1, x2, y2 = batch.frame(0)
    whole = heat.new_zeros(y2 - y1, x2 - x1)
    top, left, bottom, right = max(0, y1), max(0, x1), min(heat.shape[0], y2), min(heat.shape[1], x2)
    whole[top - y1 : bottom - y1, left - x1 : right - x1] = heat[top:bottom, left:right]
    size = batch.original_sizes[0]
    return F.interpolate(whole[None, None].float(), size=size, mode="bilinear", align_corners=False)[0, 0]
