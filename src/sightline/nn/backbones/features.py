"""A classification network cut open: its layers in order, and the maps taken from some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """A place where a network's feature map can be taken.

    Attributes:
        layer: name of the layer whose output it is.
        channels: C of the map.
        stride: image pixels per cell of the map.
    """

    layer: str
    channels: int
    stride: int


class FeatureMaps(nn.ModuleDict):
    """Runs the layers of a network in order and returns the maps of the chosen stages.

    Args:
        layers: the layers by name, in the order in which they run. Those after the last chosen stage are left out.
        stages: where maps are taken, in the order of the layers.

    Attributes:
        channels: C of each returned map.
        strides: stride of each returned map.
    """

    def __init__(self, layers: Mapping[str, nn.Module], stages: Sequence[Stage]):
        names = list(layers)
        last = max(names.index(stage.layer) for stage in stages)
        super().__init__({name: layers[name] for name in names[: last + 1]})
        self.taken = tuple(stage.layer for stage in stages)
        self.channels = [stage.channels for stage in stages]
        self.strides = [stage.stride for stage in stages]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[N, C, H, W] → maps [N, C_i, H / stride_i, W / stride_i] by the name of their layer."""
        maps = {}
        for name, layer in self.items():
            x = layer(x)
            if name in self.taken:
                maps[name] = x
        return maps

    def freeze_before(self, layer: str) -> None:
        """Stop the layers before `layer` from learning: the edges and textures of a pretrained start serve any task."""
        names = list(self)
        for name in names[: names.index(layer)]:
            self[name].requires_grad_(False)
