"""The layers whose outputs are the feature maps of a network: those that explanations read."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class MapSource(Protocol):
    """A module that knows which of its layers return its feature maps."""

    def map_layers(self) -> list[nn.Module]:
        """The layers whose outputs are the feature maps, from fine to coarse."""
        ...


_WITHOUT_MAPS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Dropout2d)


def map_layers(module: nn.Module) -> list[nn.Module]:
    """The layers whose outputs are the feature maps of a module, from fine to coarse.

    A sequence has one map, that of its last layer before pooling and dropout. A module that is neither a sequence nor a
    `MapSource` is the layer itself.
    """
    if isinstance(module, MapSource):
        return module.map_layers()
    if isinstance(module, nn.Sequential):
        return [layer for layer in module if not isinstance(layer, _WITHOUT_MAPS)][-1:]
    return [module]
