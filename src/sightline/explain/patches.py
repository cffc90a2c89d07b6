"""The parts of images that activate a channel most: Zeiler and Fergus, "Visualizing and understanding convolutional
networks", ECCV 2014, section 4 (figure 2, right), one part per image.

Behind an activation with a highest value, such as ReLU6, many cells share it. They are ranked by the input of that
activation, and where this is unknown or the same, by the mean of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.features import Part, chosen_rows, on_data, visible_cells
from sightline.explain.layers import default_layer, layer_named
from sightline.explain.peaks import peaks
from sightline.explain.receptive_field import ReceptiveField, receptive_field
from sightline.models.model import Model
from sightline.runtime.devices import running
from sightline.runtime.values import require_number, require_whole
from sightline.words import counted


@dataclass(frozen=True)
class Patch:
    """The cell of an image where a channel is most active.

    Attributes:
        image: index of the image in the data set.
        name: name of the image.
        value: the activation.
        peak: (y, x) of the cell's centre in pixels of the image.
        box: (x1, y1, x2, y2) of the pixels that the cell sees, in pixels of the image; it may extend beyond the image.
    """

    image: int
    name: str
    value: float
    peak: tuple[float, float]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class ChannelPatches:
    """The patches of channels of a layer.

    Attributes:
        layer: path of the layer in the model.
        patches: patches by channel, the strongest first.
        images: number of images that were searched.
    """

    layer: str
    patches: dict[int, list[Patch]]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """The patches as JSON values."""
        channels = {str(channel): [vars(patch) for patch in found] for channel, found in self.patches.items()}
        return {"layer": self.layer, "images": self.images, "channels": channels}


@dataclass(frozen=True)
class _Cells:
    """T cells of each of C channels.

    Attributes:
        value: [C, T] activation.
        before: [C, T] the same before a saturated activation, see `Part`.
        mean: [C, T] mean activation of the channel in the image.
        image: [C, T] index of the image.
        place: [C, T, 6] the box that the cell sees (x1, y1, x2, y2) and its centre (y, x), in pixels of the image.
    """

    value: Tensor
    before: Tensor
    mean: Tensor
    image: Tensor
    place: Tensor


def strongest_patches(
    model: Model,
    data: Any,
    layer: str | None = None,
    *,
    channels: Sequence[int] | None = None,
    count: int = 8,
    top: int = 9,
    limit: int | None = 1000,
    share: float = 0.9,
    which: int = 0,
    batch_size: int = 8,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> ChannelPatches:
    """The patches of a data set that activate channels of a layer most, at most one per image and channel.

    Args:
        model: any model.
        data: images with labels.
        layer: path of a module; by default the layer that explanations use.
        channels: the channels; by default the `count` channels with the largest mean activation of their patches.
        count: number of channels if `channels` is None.
        top: number of patches per channel.
        limit: maximum number of images to search, chosen by `seed`; None for all.
        share: share of the gradient inside a patch, see `sightline.explain.receptive_field`.
        which: which map, from 0, if the layer returns several.
        batch_size: images per batch.
        seed: seed of the choice of images.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        InputError: there is no such layer or channel, its output is not a map for each image, or there are no images.
    """
    top, count = require_whole("top", top, 1, "count"), require_whole("count", count, 1, "count")
    share = require_number("share", share, 0.01, 1.0, what="a share")
    name = layer or default_layer(model)
    module = layer_named(model, name)
    rows = chosen_rows(data, limit, seed)
    best: _Cells | None = None
    fields: dict[tuple[int, ...], ReceptiveField] = {}
    parts = on_data(model, data, module, rows, which=which, batch_size=batch_size, device=device, progress=progress)
    for part in parts:
        size = tuple(part.batch.tensor.shape[-2:])
        if size not in fields:
            with running(model, None):
                fields[size] = receptive_field(model, module, part.batch, which=which, share=share)
        found = _peaks(part, fields[size])
        best = _strongest([found] if best is None else [best, found], top)
    if best is None:
        raise InputError("the dataset holds no images; check the path and the split")
    if channels is None:
        order = best.mean.mean(1).argsort(descending=True, stable=True)
        for strength in (best.before, best.value):
            order = order[strength.mean(1)[order].argsort(descending=True, stable=True)]
        channels = order[:count].tolist()
    patches = {channel: _patches(best, channel, data) for channel in require_channels(channels, len(best.value))}
    return ChannelPatches(name, patches, len(rows))


def _strongest(cells: Sequence[_Cells], top: int) -> _Cells:
    """The `top` strongest of several cells of each channel, in descending order."""
    before, mean = torch.cat([own.before for own in cells], 1), torch.cat([own.mean for own in cells], 1)
    order = mean.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, before.gather(1, order).argsort(dim=1, descending=True, stable=True))[:, :top]
    value, image = (
        torch.cat(parts, 1).gather(1, order) for parts in ([own.value for own in cells], [own.image for own in cells])
    )
    place = torch.cat([own.place for own in cells], 1).gather(1, order[..., None].expand(-1, -1, 6))
    return _Cells(value, before.gather(1, order), mean.gather(1, order), image, place)


def _peaks(part: Part, field: ReceptiveField) -> _Cells:
    """The strongest cell of each channel in each of N images: [C, N]."""
    values, entered, means, places = [], [], [], []
    for i in range(len(part.batch)):
        rows, columns = visible_cells(part.maps, part.batch, i)
        own = part.maps[i, :, rows, columns].float()
        before, y, x = peaks(part.unclamped[i, :, rows, columns].float())
        value = own.flatten(1).gather(1, (y * own.shape[2] + x)[:, None])[:, 0]
        y, x = rows.start + y, columns.start + x
        centre = torch.stack([(x + 0.5) * field.stride[1], (y + 0.5) * field.stride[0]], 1)
        box = part.batch.in_image(field.boxes(y, x), i)
        peak = part.batch.in_image(centre.repeat(1, 2), i)[:, [1, 0]]
        values.append(value)
        entered.append(before)
        means.append(own.mean((1, 2)))
        places.append(torch.cat([box, peak], 1))
    value, before, mean = (torch.stack(parts, 1).cpu() for parts in (values, entered, means))
    images = torch.tensor(part.rows).expand(len(value), -1)
    return _Cells(value, before, mean, images, torch.stack(places, 1).cpu())


def require_channels(channels: Sequence[int], total: int) -> list[int]:
    """Check that a layer of `total` channels has these channels, and that there is at least one.

    Raises:
        InputError: it does not, or none is given.
    """
    wrong = [channel for channel in channels if not 0 <= channel < total]
    if wrong or not len(channels):
        what = f"there is no channel {wrong[0]}" if wrong else "no channel is given"
        raise InputError(f"{what}: the layer has {counted(total, 'channel')}, 0 to {total - 1}")
    return list(channels)


def _patches(best: _Cells, channel: int, data: Any) -> list[Patch]:
    rows = zip(best.value[channel].tolist(), best.image[channel].tolist(), best.place[channel].tolist(), strict=True)
    return [
        Patch(image, data.name(image), value, (place[4], place[5]), (place[0], place[1], place[2], place[3]))
        for value, image, place in rows
    ]
