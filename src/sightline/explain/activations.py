"""The activations of a layer for one image.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, look at strong activations;
`sightline.report.inside` draws them as a wall of maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.explain.features import layer_map, visible_cells
from sightline.explain.layers import default_layer, layer_named
from sightline.explain.placement import Placement
from sightline.models.model import Model
from sightline.runtime.devices import running
from sightline.structures import Size


@dataclass(frozen=True)
class Activations:
    """The output of a layer for one image.

    Attributes:
        layer: path of the layer in the model.
        maps: [C, h, w] float, on the CPU, of the part of the batch that shows the image.
        image_size: (height, width) of the image.
        covered: (x1, y1, x2, y2) of the pixels of the image that the maps cover, each cell where it lies: less than the
            image if preprocessing crops it, and beyond its edges where the outer cells also see padding.
    """

    layer: str
    maps: Tensor
    image_size: Size
    covered: tuple[float, float, float, float]

    def strongest(self, count: int) -> list[int]:
        """The channels with the largest activations, the strongest first. Channels that are 0 everywhere come last.

        Channels with the same maximum, such as the 6 of ReLU6, are sorted by their mean.
        """
        sizes = self.maps.abs().flatten(1)
        order = sizes.mean(1).argsort(descending=True, stable=True)
        return order[sizes.amax(1)[order].argsort(descending=True, stable=True)][:count].tolist()

    def to_dict(self) -> dict[str, Any]:
        """The shape, and the minimum, mean and maximum of each channel, as JSON values."""
        flat = self.maps.flatten(1)
        channels = zip(flat.amin(1).tolist(), flat.mean(1).tolist(), flat.amax(1).tolist(), strict=True)
        return {
            "layer": self.layer,
            "shape": list(self.maps.shape),
            "image_size": list(self.image_size),
            "covered": list(self.covered),
            "channels": [{"min": low, "mean": mean, "max": high} for low, mean, high in channels],
        }


def activations(
    model: Model,
    image: Tensor,
    layer: str | None = None,
    *,
    which: int = 0,
    device: torch.device | str | None = None,
) -> Activations:
    """The activations of a layer for one image.

    Args:
        model: any model; it runs in eval mode, and its mode is restored.
        image: [C, H, W], uint8 or float in [0, 1].
        layer: path of a module, such as "backbone.body.layer2"; by default the layer that explanations use.
        which: which map, from 0, if the layer returns several.
        device: where the model runs; None for the device it is on.

    Raises:
        InputError: there is no such layer, or its output is not a map for each image.
    """
    name = layer or default_layer(model)
    module = layer_named(model, name)
    with running(model, device) as place, torch.no_grad():
        batch, _ = model.prepare([image.to(place)], None)
        with Placement(batch.tensor) as placement:
            maps = layer_map(model, batch, module, which)
    cells = placement.cells(maps)
    (height, width), (down, across) = batch.tensor.shape[-2:], maps.shape[-2:]
    # where the cells are not known, as those of tokens, the map is stretched over the batch
    left, top, right, bottom = (0.0, 0.0, width, height) if cells is None else cells.rectangle((down, across))
    x_step, y_step = (right - left) / across, (bottom - top) / down
    rows, columns = visible_cells(maps, batch, 0)
    pixels = [
        *(left + columns.start * x_step, top + rows.start * y_step),
        *(left + columns.stop * x_step, top + rows.stop * y_step),
    ]
    x1, y1, x2, y2 = batch.in_image(torch.tensor(pixels), 0).tolist()
    own = maps[0, :, rows, columns].float().cpu()
    return Activations(name, own, batch.original_sizes[0], (x1, y1, x2, y2))
