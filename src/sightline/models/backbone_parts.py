"""The parts of a model's backbone, from the image to the head: what can be frozen or learn at a rate of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from sightline.models.model import as_model


@dataclass(frozen=True)
class Part:
    """A part of a backbone, such as a stage of a residual network.

    Attributes:
        name: name of its first layer.
        keys: names of its parameters in the model.
    """

    name: str
    keys: tuple[str, ...]


def backbone_parts(model: nn.Module) -> list[Part]:
    """The parts of a model's backbone, starting at the image.

    The backbone are the parameters that `Model.backbone_layers` matches. Its parts are those of the network that it is
    made of (`part_layers`, see `sightline.nn.backbones.features`). Other parameters belong to the part of the parameter
    that follows them in the model, such as the position embedding of a transformer to its first block. Those after all
    parts, such as the hidden fully connected layers of a classifier, are a part of their own, the last one. A backbone
    without `part_layers` is divided by its layers.

    Returns:
        The parts that have parameters; an empty list for a model without a backbone.
    """
    pattern = re.compile(as_model(model).backbone_layers)
    names = {id(parameter): name for name, parameter in model.named_parameters() if pattern.search(name)}
    body = find_body(model)
    if body is None:
        return _by_layer([*names.values()])
    layers = body.part_layers()
    part_of = {
        names[id(p)]: part
        for part, own in layers.items()
        for layer in own
        for p in layer.parameters()
        if id(p) in names
    }
    keys: dict[str, list[str]] = {part: [] for part in layers}
    following: str | None = None
    for key in reversed(names.values()):
        following = part_of.get(key, following)
        keys.setdefault(following or key.rpartition(".")[0], []).insert(0, key)
    rest = [key for part, own in reversed(keys.items()) if part not in layers for key in own]
    found = [Part(part, tuple(keys[part])) for part in layers if keys[part]]
    return [*found, Part(rest[0].rpartition(".")[0], tuple(rest))] if rest else found


def find_body(model: nn.Module) -> Any:
    """The module inside a model's backbone that knows its parts (`part_layers`); None if there is none."""
    pattern = re.compile(as_model(model).backbone_layers)
    for name, module in model.named_modules():
        inside = any(pattern.search(f"{name}.{key}") for key, _ in module.named_parameters())
        if inside and hasattr(module, "part_layers"):
            return module
    return None


def _by_layer(keys: list[str]) -> list[Part]:
    """Parameters grouped by the first component of their names in which they differ."""
    split = [key.split(".") for key in keys]
    same = 0
    while split and all(len(words) > same + 2 and words[same] == split[0][same] for words in split):
        same += 1
    found: dict[str, list[str]] = {}
    for words, key in zip(split, keys, strict=True):
        found.setdefault(".".join(words[: same + 1]), []).append(key)
    return [Part(name, tuple(own)) for name, own in found.items()]
