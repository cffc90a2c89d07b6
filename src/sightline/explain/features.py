"""Run a model up to one of its layers, on the images of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.data.facts import with_training_full_scale
from sightline.errors import InputError
from sightline.explain.hooks import as_map
from sightline.models.model import Model
from sightline.progress import progress_bar
from sightline.runtime.devices import running
from sightline.runtime.values import require_whole
from sightline.structures import ImageBatch
from sightline.words import counted


@dataclass(frozen=True)
class Part:
    """A batch of images of a data set and the map of a layer for it.

    Attributes:
        rows: indices of the images in the data set.
        batch: the images.
        maps: [N, C, h, w], the output of the layer for the whole batch, including its padding.
        unclamped: the same before the activation that the layer ends in, if its output is saturated at the top, as that
            of ReLU6; otherwise `maps`. Cells that share the maximum of `maps` differ in it.
    """

    rows: list[int]
    batch: ImageBatch
    maps: Tensor
    unclamped: Tensor


_CLAMPS = (nn.Hardtanh, nn.Hardsigmoid, nn.Sigmoid)
"""Non-decreasing activations with a highest value; ReLU6 is a Hardtanh."""


class _Reached(Exception):
    """Ends the forward pass once the map is known."""


def layer_map(model: Model, batch: ImageBatch, layer: nn.Module, which: int = 0) -> Tensor:
    """A map that a layer returns for a batch: [N, C, h, w]. What follows the layer does not run.

    Tokens of a vision transformer become a map, and a vector per image is a map of one cell. Gradients with respect to
    the batch are recorded if they are enabled.

    Args:
        model: the model.
        batch: a batch that `model.prepare` returned.
        layer: a module of the model.
        which: which map, from 0, if the layer returns several, such as a pyramid, or runs several times, such as a head
            that all levels share.

    Raises:
        InputError: the layer does not run in prediction, does not return that many maps, or not one row per image.
    """
    found: list[Tensor] = []

    def collect(module: nn.Module, inputs: Any, output: Any) -> None:
        found.extend(_tensors(output))
        if len(found) > which:
            raise _Reached

    handle = layer.register_forward_hook(collect)
    try:
        model.batch_results(batch)
    except _Reached:
        return _as_map(found[which], batch)
    finally:
        handle.remove()
    if not found:
        raise InputError(
            f"the layer {type(layer).__name__} returns no map [N, C, h, w] when the model predicts; name a convolution "
            "or a stage of the backbone"
        )
    raise InputError(f"the layer returns {counted(len(found), 'map')}, so the map must be 0 to {len(found) - 1}")


@contextmanager
def _clamped(layer: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Context that keeps the clamp inside a layer that ran last, with its input: a list of at most one pair."""
    last: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, inputs: Any) -> None:
        last[:] = [(module, inputs[0].clone())]  # the module may work in place

    clamps = [module for module in layer.modules() if isinstance(module, _CLAMPS)]
    handles = [module.register_forward_pre_hook(keep) for module in clamps]
    try:
        yield last
    finally:
        for handle in handles:
            handle.remove()


def map_before_clamp(model: Model, batch: ImageBatch, layer: nn.Module, which: int = 0) -> tuple[Tensor, Tensor]:
    """The map of `layer_map`, and the same before the activation that the layer ends in, as for `Part`."""
    with _clamped(layer) as last:
        maps = layer_map(model, batch, layer, which)
    for module, given in last:
        if given.shape == maps.shape and torch.equal(module(given.clone()), maps):
            return maps, given
    return maps, maps


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor) and value.is_floating_point() and 2 <= value.ndim <= 4:
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _as_map(values: Tensor, batch: ImageBatch) -> Tensor:
    if len(values) != len(batch):
        raise InputError(
            f"the layer returns {counted(len(values), 'row')} for {counted(len(batch))}, so it works on regions; name "
            "a layer of the backbone"
        )
    if values.ndim == 2:
        return values[:, :, None, None]
    return as_map(values, (int(batch.tensor.shape[-2]), int(batch.tensor.shape[-1])))


def visible_cells(maps: Tensor, batch: ImageBatch, i: int) -> tuple[slice, slice]:
    """The rows and columns of a map [N, C, h, w] that show image i and not the padding of the batch."""
    x1, y1, x2, y2 = batch.frame(i)
    height, width = batch.tensor.shape[-2:]
    return _cells(y1, y2, int(height), int(maps.shape[-2])), _cells(x1, x2, int(width), int(maps.shape[-1]))


def _cells(start: int, stop: int, pixels: int, cells: int) -> slice:
    first = min(max(0, start * cells // pixels), cells - 1)
    return slice(first, max(first + 1, min(cells, -(-stop * cells // pixels))))


def on_data(
    model: Model,
    data: Any,
    layer: nn.Module,
    rows: Sequence[int],
    *,
    which: int = 0,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Iterator[Part]:
    """Yield the maps of a layer for images of a data set, batch by batch and without gradients.

    Args:
        layer: a module of the model.
        which: as for `layer_map`.
        model, data, rows, batch_size, device, progress: as for `batches`.
    """
    for chosen, batch in batches(
        model, data, rows, "looking inside", batch_size=batch_size, device=device, progress=progress
    ):
        with torch.no_grad():
            maps, before = map_before_clamp(model, batch, layer, which)
        yield Part(chosen, batch, maps, before)


def batches(
    model: Model,
    data: Any,
    rows: Sequence[int],
    what: str,
    *,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Iterator[tuple[list[int], ImageBatch]]:
    """Yield images of a data set as batches, with their indices.

    The model is in eval mode; its mode and device are restored.

    Args:
        model: the model.
        data: images with labels; samples of more than 8 bits are divided as in training.
        rows: indices of the images.
        what: the work, for the progress bar.
        batch_size: images per batch; images that the model pads to different sizes are in different batches.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.
    """
    batch_size = require_whole("batch_size", batch_size, 1, "batch_size", "give 8 images per batch if in doubt")
    data = with_training_full_scale(model, data)
    bar = progress_bar(len(rows), what, progress)
    with running(model, device) as place, bar as advance:
        for start in range(0, len(rows), batch_size):
            chosen = list(rows[start : start + batch_size])
            images = [data.image(i).to(place) for i in chosen]
            for group in model.groups(images):
                yield [chosen[i] for i in group], model.prepare([images[i] for i in group], None)[0]
            advance(len(chosen))


def chosen_rows(data: Any, limit: int | None, seed: int) -> list[int]:
    """At most `limit` images of a data set, in order: all of them, or a random choice by the seed.

    Raises:
        InputError: there are no images.
    """
    count = len(data)
    if not count:
        raise InputError("the dataset holds no images; check the path and the split")
    if limit is None or limit >= count:
        return list(range(count))
    generator = torch.Generator().manual_seed(seed)
    return sorted(torch.randperm(count, generator=generator)[:limit].tolist())
