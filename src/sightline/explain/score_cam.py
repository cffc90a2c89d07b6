"""Score-CAM (Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", 2020,
section 3.2): each map, enlarged to the image and scaled to [0, 1], masks the image; the softmax over the scores of the
masked images weights the maps; L = ReLU(Σ_k w_k A_k).

The baseline's score, which the paper subtracts from all scores, cancels in the softmax and is not computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.explain.hooks import as_map, require_maps
from sightline.explain.method import Frame, Function, LayerMethod, Perturbation, enlarged, image_size, placed, summed
from sightline.explain.placement import Cells
from sightline.runtime.values import require_whole
from sightline.structures import Size


@dataclass(frozen=True)
class ScoreCAM(Perturbation, LayerMethod):
    """Maps weighted by the scores of the image masked by them; without gradients. One forward pass per channel.

    Args:
        samples: number of channels that are used, those with the highest values (departure); None for all.
    """

    name = "score_cam"
    samples: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples is not None:
            require_whole("samples", self.samples, 1, "count", "leave it out to use all channels")

    def explain(
        self, function: Function, inputs: Tensor, layer: nn.Module | None = None, frame: Frame | None = None
    ) -> Tensor:
        layer, size = self.require_layer(layer), image_size(inputs)
        with torch.no_grad(), placed(layer, inputs) as (found, known):
            function(inputs)
        maps = [as_map(own, size)[0] for own in require_maps(found, layer)]
        where: list[Cells | Frame | None] = [own if frame is None else frame for own in known]
        chosen = [self._chosen(own) for own in maps]
        places = [(level, channel) for level, channels in enumerate(chosen) for channel in channels]
        base = self.removed(inputs)

        def changed(start: int, stop: int) -> Tensor:
            masks = torch.cat([_mask(maps[level][c], size, where[level]) for level, c in places[start:stop]])
            return torch.lerp(base, inputs, masks.to(inputs))

        weights = self.scores(function, len(places), changed).softmax(0).split([len(c) for c in chosen])
        parts = zip(maps, chosen, weights, strict=True)
        return summed([(w[:, None, None] * own[list(c)]).sum(0)[None].relu() for own, c, w in parts], size, where)

    def _chosen(self, maps: Tensor) -> list[int]:
        if self.samples is None or self.samples >= len(maps):
            return list(range(len(maps)))
        return sorted(maps.amax((1, 2)).topk(self.samples).indices.tolist())


def _mask(values: Tensor, size: Size, place: Cells | Frame | None) -> Tensor:
    """One map [h, w] → mask [1, 1, H, W] in [0, 1]; a constant map gives 0, as if all pixels were removed."""
    large = enlarged(values[None, None].float(), size, place)
    low, high = large.aminmax()
    return (large - low) / (high - low) if high > low else torch.zeros_like(large)
