"""Feature extraction from classification networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from sightline.errors import InputError
from sightline.nn.backbones.map_layers import map_layers


@dataclass(frozen=True)
class Stage:
    """A feature map of a network.

    Attributes:
        layer: name of the layer whose output it is.
        channels: number of channels of the map.
        stride: stride of the map in pixels of the image.
    """

    layer: str
    channels: int
    stride: int


class Branch(nn.Sequential):
    """Layers beside those of a network: they make a feature map from it, and the network's next layer does not read it.

    They are not part of the classifier, so its weights have no entries for them.
    """


class Network(nn.Module):
    """A classification network that can be used as a backbone.

    Attributes:
        stages: the last feature map of each stride.
        stem_stage: a map of stride 2 before the first stage, if the network has one.
        parts: names of the first layers of the parts that can be frozen, starting at the image.
    """

    stages: Any
    stem_stage: Stage | None = None
    parts: tuple[str, ...] = ()

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order.

        A `Branch` among them reads the output of the last layer before it that is none.
        """
        raise NotImplementedError

    def trunk(self) -> nn.Sequential:
        """The layers up to the last feature map, without branches."""
        return nn.Sequential(*(layer for layer in self.layers().values() if not isinstance(layer, Branch)))

    def maps(self, strides: Sequence[int], trainable_layers: int | None = None) -> FeatureMaps:
        """The feature maps of these strides, from fine to coarse. `trainable_layers`: see `FeatureMaps.train_last`."""
        stages = [*([self.stem_stage] if self.stem_stage is not None else []), *self.stages]
        taken = [stage for stage in stages if stage.stride in strides]
        if not taken:
            known = ", ".join(str(stage.stride) for stage in stages)
            raise InputError(
                f"{type(self).__name__} has no map of stride {', '.join(map(str, strides))}; its maps have {known}"
            )
        return self.maps_of(taken, trainable_layers)

    def maps_of(self, stages: Sequence[Stage], trainable_layers: int | None = None) -> FeatureMaps:
        """The feature maps of these stages. `trainable_layers`: see `FeatureMaps.train_last`."""
        body = FeatureMaps(self.layers(), stages)
        return body.train_last(trainable_layers, self.parts_of(body.strides))

    def map_layers(self) -> list[nn.Module]:
        """The layer whose output is the last map before pooling; explanations of the classifier read it."""
        return map_layers(self.trunk())

    @property
    def last_map(self) -> Stage:
        """The last feature map, which the classifier pools."""
        stage, channels = self.stages[-1], getattr(self, "last_channels", None)
        return stage if channels is None else Stage(list(self.layers())[-1], channels, stage.stride)

    def parts_of(self, strides: Sequence[int]) -> tuple[str, ...]:
        """First layers of the parts up to the map of the coarsest of these strides; by default each stage is a part."""
        if self.parts:
            return self.parts
        names, stages = list(self.layers()), self.stages
        ends = [names.index(stage.layer) + 1 for stage in stages]
        return tuple(names[start] for start in (0, *ends[:-1]))

    def part_layers(self) -> dict[str, list[nn.Module]]:
        """The layers of each part by the name of its first layer, starting at the image; see `grouped_layers`."""
        return grouped_layers(self.layers(), self.parts_of([stage.stride for stage in self.stages]))


class FeatureMaps(nn.ModuleDict):
    """Runs the layers of a network in order and returns the feature maps of selected stages.

    Args:
        layers: layers by name, in the order in which they run. Layers after the last stage are not used, and neither
            are branches to other stages.
        stages: stages to return, in the order of the maps.

    Attributes:
        channels: number of channels of each map.
        strides: stride of each map.
        parts: names of the first layers of the parts that can be frozen, starting at the image; set by `train_last`.
    """

    in_order = True  # for `fuse`

    def __init__(self, layers: Mapping[str, nn.Module], stages: Sequence[Stage]):
        names, taken = list(layers), tuple(stage.layer for stage in stages)
        used = names[: max(map(names.index, taken)) + 1]
        super().__init__({name: layers[name] for name in used if name in taken or not isinstance(layers[name], Branch)})
        self.taken = taken
        self.channels = [stage.channels for stage in stages]
        self.strides = [stage.stride for stage in stages]
        self.parts: tuple[str, ...] = ()

    def layers(self) -> dict[str, nn.Module]:
        """The layers by name, in order."""
        return dict(self.items())

    def part_layers(self) -> dict[str, list[nn.Module]]:
        """The layers of each part by the name of its first layer, starting at the image; see `grouped_layers`."""
        return grouped_layers(self.layers(), self.parts)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[N, C, H, W] → maps [N, C_i, H / stride_i, W / stride_i] by the name of their layer."""
        maps = {}
        for name, layer in self.items():
            y = layer(x)
            if name in self.taken:
                maps[name] = y
            if not isinstance(layer, Branch):
                x = y
        return {name: maps[name] for name in self.taken}

    def map_layers(self) -> list[nn.Module]:
        """The layers whose outputs `forward` returns."""
        return [self[name] for name in self.taken]

    def train_last(self, count: int | None, parts: Sequence[str]) -> Self:
        """Freeze all but the last `count` of `parts`, since early features of pretrained networks fit any task.

        Args:
            count: number of parts to train; None trains all.
            parts: names of the first layers of the parts, starting at the image. Parts after the last map are ignored.

        Returns:
            This module.
        """
        names = list(self)
        parts = [part for part in parts if part in names]
        self.parts = tuple(parts)
        if count is None:
            return self
        if not 0 <= count <= len(parts):
            raise InputError(f"trainable_layers is {count}, but this backbone has {len(parts)} parts: give 0 to that")
        for name in names[: names.index(parts[-count]) if count else len(names)]:
            if not isinstance(self[name], Branch):  # no weights are published for it
                self[name].requires_grad_(False)
        return self


def grouped_layers(layers: Mapping[str, nn.Module], parts: Sequence[str]) -> dict[str, list[nn.Module]]:
    """The layers of a network by part.

    Args:
        layers: layers by name, in the order in which they run.
        parts: names of the first layers of the parts, starting at the image.

    Returns:
        The layers from each of `parts` to the next one, by the name of the first. Layers before the first part belong
        to it, and those after the last map to the last part.
    """
    found: dict[str, list[nn.Module]] = {}
    part = next((name for name in layers if name in parts), next(iter(layers)))
    for name, layer in layers.items():
        part = name if name in parts else part
        found.setdefault(part, []).append(layer)
    return found
