"""The base classes of all explanation methods. A method knows nothing of any model: it explains a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.explain.hooks import as_map, captured, require_maps
from sightline.explain.perturbation import BASELINES
from sightline.explain.placement import Cells, Placement
from sightline.progress import progress_bar
from sightline.runtime.values import require_seed, require_whole
from sightline.structures import Size
from sightline.words import did_you_mean

Frame = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels."""
Function = Callable[[Tensor], Tensor]
"""A network batch [N, C, H, W] → one number per row [N], differentiable with respect to the batch and every layer."""


class Method:
    """An explanation method.

    Attributes:
        name: name in `sightline.explain.methods.METHODS`.
        needs_layer: whether `explain` needs a layer.
        compares: whether the function must be the similarity to a detection (D-RISE) instead of the target's score.
        signed: whether the heat map has negative values, which speak against the target.
    """

    name: str = ""
    needs_layer: bool = False
    compares: bool = False
    signed: bool = False

    def explain(
        self, function: Function, inputs: Tensor, layer: nn.Module | None = None, frame: Frame | None = None
    ) -> Tensor:
        """Explain the value of a function.

        Args:
            function: see `Function`.
            inputs: [1, C, H, W] float, the image in the pixels of a network batch.
            layer: layer of the network, for methods that need one.
            frame: (x1, y1, x2, y2) of the rectangle that the layer's maps cover, in pixels of the batch, for a network
                that runs on crops; None if the network sees the batch: then the place of each cell is computed.
                Methods that need no layer ignore it.

        Returns:
            [H, W] float heat map in pixels of the batch; high values speak for the target.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement explain")


class LayerMethod(Method):
    """Base class of the CAM family: a heat map from the maps of a layer and their gradients."""

    needs_layer = True

    def explain(
        self, function: Function, inputs: Tensor, layer: nn.Module | None = None, frame: Frame | None = None
    ) -> Tensor:
        layer = self.require_layer(layer)
        size = image_size(inputs)
        maps, gradients, places = maps_and_gradients(function, inputs, layer)
        with torch.no_grad():
            parts = zip(maps, gradients, strict=True)
            heats = [self.heat(as_map(a, size), as_map(g, size)) for a, g in parts]
            return summed(heats, size, places if frame is None else [frame] * len(heats))

    def heat(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """Maps [1, C, h, w] and their gradients of the same shape → heat [1, h, w]."""
        raise NotImplementedError(f"{type(self).__name__} does not implement heat")

    def require_layer(self, layer: nn.Module | None) -> nn.Module:
        if layer is None:
            raise InputError(f"{self.name} explains the maps of a layer; give the layer")
        return layer


@dataclass(frozen=True)
class Perturbation(Method):
    """Base class of the methods that score changed copies of the image, in batches and without gradients.

    Args:
        baseline: what replaces the pixels that are removed: "zero" (0 in the batch, which is the mean colour of the
            training images for a network with the usual normalisation), "mean" (the mean colour of this image), or
            "blur" (the blurred image).
        batch_size: changed copies per batch.
        seed: seed of the random choices.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        InputError: a value is invalid.
    """

    baseline: str = "zero"
    batch_size: int = 16
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        require_seed(self.seed)
        require_whole("batch_size", self.batch_size, 1, "batch_size", "give 16 changed copies per batch if in doubt")
        if self.baseline not in BASELINES:
            known = ", ".join(BASELINES)
            hint = did_you_mean(self.baseline, BASELINES, "")
            raise InputError(f"baseline is {self.baseline!r}, but must be one of {known}{'; ' if hint else ''}{hint}")

    def removed(self, inputs: Tensor) -> Tensor:
        """The image with all pixels removed: [1, C, H, W]."""
        return BASELINES[self.baseline](inputs)

    def scores(self, function: Function, count: int, changed: Callable[[int, int], Tensor]) -> Tensor:
        """Score changed copies of the image in batches: [count], on the device of the function's values.

        Args:
            function: see `Function`.
            count: number of copies.
            changed: (start, stop) → copies start … stop − 1, [stop − start, C, H, W].
        """
        found = []
        with torch.no_grad(), progress_bar(count, f"{self.name}: changed copies", self.progress) as advance:
            for start in range(0, count, self.batch_size):
                stop = min(start + self.batch_size, count)
                found.append(function(changed(start, stop)).float())
                advance(stop - start)
        return torch.cat(found)


def image_size(inputs: Tensor) -> Size:
    """(height, width) of a batch of one image.

    Raises:
        InputError: the batch is not [1, C, H, W].
    """
    if inputs.ndim != 4 or len(inputs) != 1:
        raise InputError(f"the inputs have shape {list(inputs.shape)}, but a method explains one image [1, C, H, W]")
    return int(inputs.shape[2]), int(inputs.shape[3])


def maps_and_gradients(
    function: Function, inputs: Tensor, layer: nn.Module, change: Callable[[Tensor], Tensor] | None = None
) -> tuple[list[Tensor], list[Tensor], list[Cells | None]]:
    """The maps of a layer, the gradients of the function's value with respect to them, and the places of their cells,
    by one forward pass and a backward pass that ends at the layer.

    Args:
        function, inputs, layer: as for `Method.explain`.
        change: as for `captured`.

    Returns:
        Lists of maps and gradients of equal shapes: [1, C, h, w], or [1, L, C] for tokens, and of places, None where
        they are not known. The gradient of a map that the value does not depend on is 0.

    Raises:
        InputError: the layer returned no map, or the value depends on none of its maps.
    """
    with torch.enable_grad(), placed(layer, inputs, change) as (maps, places):
        value = function(inputs).sum()
    require_maps(maps, layer)
    gradients = torch.autograd.grad(value, maps, allow_unused=True) if value.requires_grad else [None] * len(maps)
    if all(gradient is None for gradient in gradients):
        raise InputError(
            f"the score does not depend on the layer {type(layer).__name__}, so the layer cannot explain it; "
            "name a layer between the image and the score"
        )
    filled = [torch.zeros_like(a) if g is None else g for a, g in zip(maps, gradients, strict=True)]
    return [a.detach() for a in maps], filled, places


@contextmanager
def placed(
    layer: nn.Module, inputs: Tensor, change: Callable[[Tensor], Tensor] | None = None
) -> Iterator[tuple[list[Tensor], list[Cells | None]]]:
    """Context that collects the maps of a layer, as `captured`, and the places of their cells in the batch.

    Args:
        layer, change: as for `captured`.
        inputs: the batch that the function is called with in the context.
    """
    places: list[Cells | None] = []
    with (
        Placement(inputs) as placement,
        captured(layer, change, lambda values: places.append(placement.cells(values))) as maps,
    ):
        yield maps, places


def summed(heats: Sequence[Tensor], size: Size, places: Sequence[Cells | Frame | None]) -> Tensor:
    """Heat maps [1, h, w] of several maps of a layer → their sum at the size of the batch, [H, W]."""
    parts = zip(heats, places, strict=True)
    return torch.stack([enlarged(heat[:, None].float(), size, place)[0, 0] for heat, place in parts]).sum(0)


def enlarged(maps: Tensor, size: Size, place: Cells | Frame | None = None) -> Tensor:
    """Resize maps bilinearly to the size of the batch.

    Args:
        maps: [N, C, h, w] float.
        size: (height, width) of the batch.
        place: the places of the cells, or the rectangle that the maps of a crop cover, in pixels of the batch; None if
            the cells divide the batch evenly.

    Returns:
        [N, C, height, width]; 0 outside a rectangle, the value of the nearest cell outside a map with known places.
    """
    if place is None:
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    cropped = not isinstance(place, Cells)
    x1, y1, x2, y2 = place.rectangle(_size(maps)) if isinstance(place, Cells) else place
    # position of each pixel's centre in the frame, from −1 to 1
    x, y = (
        ((torch.arange(side, device=maps.device) + 0.5 - low) / (high - low)) * 2 - 1
        for side, low, high in ((size[1], x1, x2), (size[0], y1, y2))
    )
    grid = torch.stack(torch.broadcast_tensors(x, y[:, None]), -1).to(maps).expand(len(maps), -1, -1, -1)
    large = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return large * ((x.abs() <= 1) & (y.abs() <= 1)[:, None]) if cropped else large


def _size(maps: Tensor) -> Size:
    return int(maps.shape[-2]), int(maps.shape[-1])
