"""A faster copy of a model for prediction, and how much its results differ.

Batch norms are folded into convolutions and activations join them (`sightline.nn.layers.fuse`); weights lie in memory
as batches do (channels last); parts that only the losses use are removed. On request the copy computes in bfloat16, or
its network is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sightline.deploy.differences import TOLERANCE, Difference, compare, example_images
from sightline.deploy.timing import seconds_in_turn
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.nn.layers import fuse
from sightline.ops.resizing import resize_images
from sightline.runtime.values import require_whole
from sightline.structures import Size

HALF_TOLERANCE = Difference(scores=0.05, pixels=4.0, labels=0.02, alone=0.1, masks=0.1, keypoints=0.1, cuboids=0.1)
"""The largest differences that bfloat16, with 8 significant bits, may make besides."""

_ADVICE_BF16 = "Leave bf16 out, or evaluate both on labelled images and give a larger tolerance if that is good enough"

_COMPILED = ("backbone", "neck", "head", "network", "body", "encoder", "decoder", "net")
"""Parts of models that map tensors to tensors, which are worth compiling."""


@runtime_checkable
class TrainingParts(Protocol):
    """A module with parts that only the losses use."""

    def drop_training_parts(self) -> None:
        """Delete these parts."""
        ...


@dataclass(frozen=True)
class Optimisation:
    """What an optimised model gained and lost.

    Attributes:
        steps: what was done, in a few words each.
        difference: the largest differences of results on the images compared.
        tolerance: what was allowed.
        before, after: median seconds per batch.
        batch: number of images of the batch that was timed, and their (height, width).
        threads: number of threads.
        parameters: number of parameters before and after.
    """

    steps: tuple[str, ...]
    difference: Difference
    tolerance: Difference
    before: float
    after: float
    batch: tuple[int, Size]
    threads: int
    parameters: tuple[int, int]

    @property
    def kept(self) -> bool:
        """Whether all differences are within the tolerance."""
        return self.difference.within(self.tolerance)

    def __str__(self) -> str:
        count, (height, width) = self.batch
        limits = f"scores {self.tolerance.scores:g}, boxes {self.tolerance.pixels:g} pixels"
        return (
            f"optimised: {', '.join(self.steps)}\n"
            f"largest differences: {self.difference} (allowed: {limits})\n"
            f"{count}×{height}×{width} on {self.threads} threads: {1000 * self.before:.1f} → "
            f"{1000 * self.after:.1f} ms ({self.after / self.before:.2f}×)"
        )


def optimize(
    model: Model,
    image_size: int | Size | None = None,
    *,
    bf16: bool = False,
    compile: bool = False,
    images: Sequence[Tensor] | None = None,
    batch_size: int = 1,
    repeats: int = 5,
    tolerance: Difference | None = None,
) -> tuple[Model, Optimisation]:
    """Make a faster copy of a model for prediction, compare its results, and measure both.

    Args:
        model: the model; it is not changed.
        image_size: side, or (height, width), of the images that are compared and timed; by default the size that the
            model resizes images to, or 320.
        bf16: compute in bfloat16, which is faster on processors and GPUs that have it, and less precise.
        compile: compile the network by `torch.compile` at its first calls, which takes up to minutes.
        images: images [C, H, W] to compare the results on; by default a few rendered scenes.
        batch_size: number of images of the batch that is timed.
        repeats: number of timed calls; the median counts.
        tolerance: the largest differences that are allowed; by default 0.001 of scores and half a pixel of boxes, more
            with `bf16`.

    Returns:
        The copy, which predicts with the same calls and results but can neither be trained nor saved, and what it
        gained and lost.

    Raises:
        InputError: results differ by more than the tolerance, or an argument has a wrong value.
    """
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give 1 for the time of a single image")
    repeats = require_whole("repeats", repeats, 1, "batch_size", "give 5 if in doubt")
    size = _size(model, image_size)
    given = list(images) if images is not None else _resized_to(example_images(model.in_channels), size)
    fast, steps = _optimised(model, bf16, compile)
    timed = [given[i % len(given)] for i in range(batch_size)]
    allowed = tolerance or (HALF_TOLERANCE if bf16 else TOLERANCE)
    before, after = _seconds([model, fast], timed, repeats)
    report = Optimisation(
        steps,
        compare(model, fast, given),
        allowed,
        before,
        after,
        (batch_size, (int(timed[0].shape[-2]), int(timed[0].shape[-1]))),
        torch.get_num_threads(),
        (_parameters(model), _parameters(fast)),
    )
    if not report.kept:
        raise InputError(
            f"the optimised {model.title} differs too much: {', '.join(report.difference.beyond(allowed))}. "
            f"{_ADVICE_BF16 if bf16 else 'Leave compile out' if compile else 'Give a larger tolerance'}"
        )
    return fast, report


def _optimised(model: Model, bf16: bool, compile: bool) -> tuple[Model, tuple[str, ...]]:
    """The faster copy, and what was done."""
    fast, steps = fuse(model), ["norms folded", "channels last"]
    before = _parameters(fast)
    for module in list(fast.modules()):
        if isinstance(module, TrainingParts):
            module.drop_training_parts()
    if _parameters(fast) < before:
        steps.append("auxiliary heads removed")
    if bf16:
        fast.to(torch.bfloat16)
        steps.append("bfloat16")
    if compile:
        on_cpu = next(fast.parameters()).device.type == "cpu"
        for name in _COMPILED:
            part = getattr(fast, name, None)
            if isinstance(part, nn.Module):
                part.compile(options={"freezing": True} if on_cpu else None)
        steps.append("compiled")
    return fast, tuple(steps)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _size(model: Model, given: int | Size | None) -> Size:
    """(height, width) of the images to time."""
    if given is None:
        return model.seen_size or (320, 320)
    sides = (given, given) if isinstance(given, int) else tuple(given)
    if len(sides) != 2:
        raise InputError(f"image_size is {given!r}, but must be a side or (height, width) in pixels")
    height, width = (require_whole("image_size", side, 8, "image_side", "give a side such as 640") for side in sides)
    return height, width


def _resized_to(images: Sequence[Tensor], size: Size) -> list[Tensor]:
    floats = [resize_images(image[None].float() / 255, size, antialias=True)[0] for image in images]
    return [(image * 255).round().to(torch.uint8) for image in floats]


def _seconds(models: Sequence[Model], images: Sequence[Tensor], repeats: int) -> list[float]:
    """Median seconds of a call of each model; the models take turns, so that other load hits both."""
    device = next(models[0].parameters()).device
    batch = [image.to(device) for image in images]
    modes = [model.training for model in models]

    def call(model: Model) -> None:
        model(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch.no_grad():
        found = seconds_in_turn([partial(call, model.eval()) for model in models], repeats)
    for model, mode in zip(models, modes, strict=True):
        model.train(mode)
    return found
