"""Which parts of a model learn in which epoch: frozen parts, frozen batch normalisation, gradual unfreezing.

A frozen part gets no gradient, no weight decay, and no gradient is computed below the lowest part that learns. It is in
eval mode during training: its batch normalisation keeps its statistics, and it has no dropout, so that its features of
an image are always the same.
"""

from __future__ import annotations

import re

from torch import nn

from sightline.errors import InputError
from sightline.models.backbone_parts import Part, backbone_parts
from sightline.models.model import Model, as_model
from sightline.training.recipe import Recipe
from sightline.words import counted

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Freezing:
    """Applies a recipe's `freeze`, `freeze_norm` and `unfreeze_every` to a model.

    Args:
        model: its parameters' `requires_grad` are set, and set back by `end`.
        recipe: the settings.

    Raises:
        InputError: the model has no backbone, or fewer parts than `freeze` says.
    """

    def __init__(self, model: Model, recipe: Recipe):
        self.model, self.every = model, recipe.unfreeze_every
        self._before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        parts = _wanted_parts(model, recipe)
        learns = dict(self._before)
        if recipe.freeze is not None:
            frozen = frozen_count(recipe.freeze, parts, model)
            learns |= {key: i >= frozen for i, part in enumerate(parts) for key in part.keys}
        self.held = backbone_norms(model) if recipe.freeze_norm else []
        for name in self.held:
            learns |= {f"{name}.{key}": False for key, _ in model.get_submodule(name).named_parameters()}
        self._learns = learns
        self.learning = [part for part in parts if any(learns[key] for key in part.keys)]
        self.first = len(parts) - len(self.learning)
        self._apply(learns)  # until the first epoch also parts that learn later, which several processes need to know

    def begin(self, epoch: int) -> list[str]:
        """Prepare the model, which is in training mode, for an epoch; return what the user should be told."""
        sentences = []
        if self.every is not None:
            count = len(self.learning)
            opened = min(count, epoch // self.every)
            closed = {key: False for part in self.learning[: count - opened] for key in part.keys}
            self._apply(self._learns | closed)
            if epoch == 0:
                sentences.append(f"the head learns alone for {counted(self.every, 'epoch')}; then more parts follow")
            elif opened and epoch == opened * self.every:
                part = f"part {self.first + count - opened + 1} of {self.first + count}"
                sentences.append(f"from epoch {epoch + 1} on, {part} of the backbone also learns")
        for module in self.model.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        for name in self.held:
            self.model.get_submodule(name).eval()
        return sentences

    def end(self) -> None:
        """Set `requires_grad` of all parameters back to what it was."""
        self._apply(self._before)

    def _apply(self, learns: dict[str, bool]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(learns[name])


def frozen_count(freeze: int | str, parts: list[Part], model: Model) -> int:
    """The number of a backbone's parts that a recipe's `freeze` freezes.

    Raises:
        InputError: the backbone has fewer parts.
    """
    if isinstance(freeze, str):
        return len(parts) if freeze == "all" else 0
    if freeze > len(parts):
        raise InputError(
            f"freeze is {freeze}, but the backbone of {as_model(model).title} has {counted(len(parts), 'part')} "
            f"({', '.join(part.name for part in parts)}); give a number up to that, or all"
        )
    return freeze


def backbone_norms(model: nn.Module) -> list[str]:
    """Names of the batch normalisation layers of a model's backbone."""
    pattern = re.compile(as_model(model).backbone_layers)
    return [
        name for name, module in model.named_modules() if isinstance(module, NORMS) and pattern.search(f"{name}.weight")
    ]


def described(model: Model, recipe: Recipe) -> list[str]:
    """What a recipe freezes in a model, one sentence each; empty if it has no such settings.

    Raises:
        InputError: as for `Freezing`.
    """
    parts, sentences = _wanted_parts(model, recipe), []
    if recipe.freeze is not None:
        frozen = frozen_count(recipe.freeze, parts, model)
        keys = {key for part in parts[:frozen] for key in part.keys}
        kept = sum(parameter.numel() for name, parameter in model.named_parameters() if name in keys)
        total = sum(parameter.numel() for parameter in model.parameters())
        sentences.append(
            f"freeze {recipe.freeze}: {frozen} of the backbone's {counted(len(parts), 'part')} keep their weights, "
            f"{kept:,} of {total:,} parameters"
        )
    if recipe.freeze_norm:
        sentences.append(
            f"freeze_norm: {counted(len(backbone_norms(model)), 'layer')} of batch normalisation keep their statistics"
        )
    if recipe.unfreeze_every is not None:
        sentences.append(f"unfreeze_every {recipe.unfreeze_every}: the head learns first, then one more part at a time")
    if recipe.layer_decay is not None:
        slowest = recipe.backbone_lr_factor * recipe.layer_decay ** len(parts)
        sentences.append(
            f"layer_decay {recipe.layer_decay:g}: the first of {counted(len(parts), 'part')} of the backbone learns at "
            f"{slowest:.2g} of the head's rate"
        )
    return sentences


def _wanted_parts(model: Model, recipe: Recipe) -> list[Part]:
    """The parts of a model's backbone; an error if the recipe needs some and there are none."""
    parts = backbone_parts(model)
    settings = {name: getattr(recipe, name) for name in ("freeze", "freeze_norm", "unfreeze_every", "layer_decay")}
    asked = next((name for name, value in settings.items() if value not in (None, False, "none", 0)), None)
    if asked is not None and not parts:
        raise InputError(
            f"{asked} is {settings[asked]}, but {as_model(model).title} has no backbone; leave {asked} out"
        )
    return parts
