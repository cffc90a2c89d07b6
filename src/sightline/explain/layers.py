"""The layers whose maps are explained."""

from __future__ import annotations

import difflib

from torch import nn

from sightline.errors import InputError
from sightline.explain.target import Target
from sightline.models.model import Model
from sightline.words import counted


def default_layer(model: Model, target: Target | None = None) -> str:
    """The path of the layer that is explained by default: the last map of the backbone or, of a model with several
    levels, the map that the score of the target is computed from.

    Args:
        model: a model.
        target: what is explained; None for the finest level.

    Raises:
        InputError: the model does not know its maps.
    """
    layers = model.map_layers()
    if not layers:
        raise InputError(
            f"{model.title} does not say which of its layers has a feature map; name one of its "
            f"{counted(len(paths(model)), 'layer')}, such as {paths(model)[-1]!r}"
        )
    layer = layers[min(target.level, len(layers) - 1) if target is not None else 0]
    return next(path for path, module in model.named_modules() if module is layer)


def layer_named(model: nn.Module, path: str) -> nn.Module:
    """The layer at a path, such as "backbone.layer4".

    Raises:
        InputError: there is none. The message names the nearest ones.
    """
    known = dict(model.named_modules())
    if path in known and path:
        return known[path]
    names, wanted = paths(model), str(path)
    ends = [name for name in names if wanted and name.endswith(f".{wanted}")][:3]
    near = ends or difflib.get_close_matches(wanted, names, 3, cutoff=0.5) or names[-3:]
    raise InputError(f"the model has no layer {path!r}; the nearest are {', '.join(map(repr, near))}")


def paths(model: nn.Module) -> list[str]:
    """The paths of all layers, in the order of the model."""
    return [path for path, _ in model.named_modules() if path]
