"""The frozen layers at the beginning of a model's network. What they compute depends on the image alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.backbone_parts import backbone_parts, find_body
from sightline.models.model import Model
from sightline.nn.backbones.aux_heads import NetworkWithHeads
from sightline.nn.backbones.features import Branch


@dataclass(frozen=True)
class Trunk:
    """The frozen layers at the beginning of a network, by their names in the model.

    Attributes:
        layers: the frozen layers, in the order in which they run; of a whole frozen classification network, itself.
        taken: those layers whose outputs what follows uses.
        head: the layer after a whole frozen classification network, whose input is used instead; None for others.
    """

    layers: tuple[str, ...]
    taken: tuple[str, ...]
    head: str | None = None

    @contextmanager
    def recorded(self, model: Model) -> Iterator[dict[str, Tensor]]:
        """Context in which the values that what follows uses are put into the dictionary, by layer.

        Raises:
            InputError: a layer runs several times per batch, so that its output does not belong to the images.
        """
        values: dict[str, Tensor] = {}

        def keep(name: str, value: Any) -> None:
            if name in values or not isinstance(value, Tensor):
                reason = "runs several times for a batch" if name in values else "returns more than one map"
                raise InputError(
                    f"the features of {model.title} cannot be cached, because {name} {reason}; leave cache_features out"
                )
            values[name] = value.detach()

        if self.head is not None:
            head = self.head
            handles = [model.get_submodule(head).register_forward_pre_hook(lambda _, given: keep(head, given[0]))]
        else:
            handles = [
                model.get_submodule(name).register_forward_hook(lambda _, given, out, name=name: keep(name, out))
                for name in self.taken
            ]
        try:
            yield values
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaced(self, model: Model, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Context in which the trunk returns `values`, as `recorded` found them, and computes nothing.

        Auxiliary heads are not computed either, since their maps are not among the values.

        Args:
            model: the model, or a copy of it.
            values: [N, …] by layer, for the images of one batch.
        """
        changed = [model.get_submodule(name) for name in self.layers]
        for name, layer in zip(self.layers, changed, strict=True):
            if self.head is not None:
                head = model.get_submodule(self.head)
                layer.forward = lambda _, head=head: head(values[str(self.head)])
            else:
                layer.forward = lambda x, name=name: values.get(name, x)
        headed = [module for module in model.modules() if isinstance(module, NetworkWithHeads)]
        for network in headed:
            network.__dict__["outputs"] = lambda x, network=network: {"out": network(x)}
        try:
            yield
        finally:
            for layer in changed:
                del layer.forward
            for network in headed:
                del network.__dict__["outputs"]


def find_trunk(model: Model) -> Trunk:
    """The frozen layers at the beginning of a model's network.

    Raises:
        InputError: nothing is frozen there, or the model's backbone is not a sequence of layers.
    """
    frozen = not any(dict(model.named_parameters())[key].requires_grad for p in backbone_parts(model) for key in p.keys)
    body = find_body(model)
    no_sequence = InputError(
        f"the features of {model.title} cannot be cached, because its backbone is not a sequence of layers; leave "
        "cache_features out"
    )
    if body is None or not hasattr(body, "layers"):
        raise no_sequence
    path = next(name for name, module in model.named_modules() if module is body)
    head = getattr(model, "head_layer", None)
    if frozen and head is not None:
        return Trunk((path,), (), head)
    names = {id(module): name for name, module in model.named_modules()}
    taken: tuple[str, ...] = getattr(body, "taken", ())
    layers, used, last = [], [], False
    for name, layer in body.layers().items():
        if id(layer) not in names and isinstance(layer, Branch):
            continue  # a classifier does not run it
        if id(layer) not in names:
            raise no_sequence
        if any(parameter.requires_grad for parameter in layer.parameters()):
            last = True
            break
        layers.append(names[id(layer)])
        if name in taken:
            used.append(layers[-1])
    if layers and (last or not taken) and layers[-1] not in used:
        used.append(layers[-1])
    if not used or not any(True for name in layers for _ in model.get_submodule(name).parameters()):
        raise InputError(
            f"cache_features caches what the frozen part of a network computes, but nothing is frozen at the beginning "
            f'of {model.title}; add freeze="all", or the number of parts to freeze (--freeze all), or leave it out'
        )
    return Trunk(tuple(layers), tuple(used))


def joined_values(values: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The values of several images, [1, …] each, as those of a batch; smaller maps are padded with zeros."""
    return {name: _joined([own[name] for own in values]) for name in values[0]}


def _joined(rows: list[Tensor]) -> Tensor:
    shape = [max(sizes) for sizes in zip(*(row.shape[1:] for row in rows), strict=True)]
    if all(list(row.shape[1:]) == shape for row in rows):
        return torch.cat(rows)
    out = rows[0].new_zeros((len(rows), *shape))
    for place, row in zip(out, rows, strict=True):
        place[tuple(slice(size) for size in row.shape[1:])] = row[0]
    return out
