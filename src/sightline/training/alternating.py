"""The 4-step training of Faster R-CNN: Ren, He, Girshick, Sun 2015, section 3.2, "4-step alternating training".

1. The proposal network is trained, starting from the pretrained backbone.
2. The detector is trained on its proposals, with a separate backbone that starts from the same weights: nothing is
   shared yet.
3. The backbone of the detector is kept fixed; the layers of the proposal network are trained.
4. The backbone is kept fixed; the layers of the detector are trained on the new proposals. Now both share one backbone.

Each step is a `fit` of the same model with a step function that returns the losses of a batch.

Departures: proposals are computed for every batch, not once before the step, so that augmentation is possible; step 3
starts from the layers of step 1.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.model import Losses, Model
from sightline.runtime.processes import is_main
from sightline.structures import ImageBatch, Instances
from sightline.training.loader import Items
from sightline.training.loop import fit
from sightline.training.recipe import Recipe
from sightline.training.run import Run
from sightline.training.step import Step
from sightline.training.validation import Validate

STEPS = ("1_proposals", "2_detector", "3_proposals", "4_detector")
"""The folders of the four runs, inside the folder of the training."""


def train_alternating(
    model: FasterRCNN,
    data: Items,
    recipe: Recipe | Sequence[Recipe],
    folder: str | Path,
    *,
    validation: Items | None = None,
    validate: Validate | None = None,
    **arguments: Any,
) -> list[Run]:
    """Train a Faster R-CNN in four steps instead of jointly.

    Args:
        model: trained in place. Both networks start from its backbone, pretrained or not. R-FCN and Light-Head R-CNN
            are also such models.
        data, validation: as for `fit`.
        recipe: the recipe of every step, or four recipes. The paper trains each step as long as a joint training.
        folder: gets the folder of each step: `STEPS`.
        validate: as for `fit`; used in the steps that train the detector.
        arguments: additional arguments of `fit` for every step: `transform`, `progress`, `device`, …

    Returns:
        The four runs. The model has the weights of the last one; the same parameters are trainable as before.

    Raises:
        InputError: the model has no proposal network, there are neither one nor four recipes, or an error of `fit`.
    """
    if not isinstance(model, FasterRCNN):
        raise InputError(
            f"{type(model).__name__} cannot be trained in alternating steps: it has no proposal network; use fit"
        )
    recipes = [recipe] * len(STEPS) if isinstance(recipe, Recipe) else list(recipe)
    if len(recipes) != len(STEPS):
        raise InputError(f"there are {len(recipes)} recipes, but training has {len(STEPS)} steps; give one or four")
    start = copy.deepcopy(model.backbone.state_dict())
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    others: _Proposals | None = None
    runs = []
    for number, (step, numbers) in enumerate(zip(STEPS, recipes, strict=True), 1):
        if number == 2:
            others = _Proposals(model)
            model.backbone.load_state_dict(start)
        trains_rpn, shares = number in (1, 3), number > 2
        for name, parameter in model.named_parameters():
            part = name.split(".")[0]
            learns = part == "rpn" if trains_rpn else part == "roi_heads"
            parameter.requires_grad_(name in learning and (learns or (part == "backbone" and not shares)))
        given = others if number == 2 else None
        does = _proposal_step(shares) if trains_rpn else _detector_step(shares, given)
        asked = None if trains_rpn else validate
        if asked is not None and given is not None:
            asked = _on(given, asked)
        common = {"step": does, "validation": validation, "validate": asked, **arguments}
        try:
            run = fit(model, data, numbers, Path(folder) / step, **common)
        finally:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in learning)
        runs.append(run)
        if run.stopped == "interrupted":
            break
    return runs


def train_in_steps(model: nn.Module, data: Items, recipe: Recipe, folder: str | Path, **arguments: Any) -> Run:
    """Run `train_alternating` as a single run.

    The four steps share the minutes of the recipe. The files of the last step are copied to `folder`.

    Args:
        model, data, recipe, folder, arguments: as for `train_alternating`.

    Returns:
        The run of the last step, in `folder`.
    """
    folder = Path(folder)
    if recipe.minutes is not None:
        recipe = recipe.changed(minutes=recipe.minutes / len(STEPS))
    last = train_alternating(model, data, recipe, folder, **arguments)[-1]  # type: ignore[arg-type]
    for file in last.folder.iterdir() if is_main() else ():
        if file.is_file():
            shutil.copy2(file, folder / file.name)
    return dataclasses.replace(last, folder=folder)


def _on(proposals: _Proposals, validate: Validate) -> Validate:
    """Validate a model on given proposals; metadata set by the validation is passed on to the model."""

    def asked(model: Model) -> Mapping[str, Any]:
        detector = proposals.in_place_of(cast(FasterRCNN, model))
        metrics = validate(detector)
        model.metadata = detector.metadata
        return metrics

    return asked


class _Proposals(nn.Module):
    """The proposal network of a completed step with its backbone, both frozen; it replaces that of a model."""

    def __init__(self, model: FasterRCNN):
        super().__init__()
        self.parts = nn.ModuleList(copy.deepcopy([model.backbone, model.rpn])).eval().requires_grad_(False)

    @torch.no_grad()
    def forward(
        self, maps: dict[str, Tensor], batch: ImageBatch, targets: Sequence[Instances] | None = None
    ) -> tuple[list[Tensor], Losses]:
        """Return the proposals of a batch, [R, 4] per image, and no losses."""
        backbone, rpn = self.parts.to(batch.tensor.device)
        proposals: list[Tensor] = rpn(backbone(batch.tensor), batch, targets)[0]
        return proposals, {}

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def in_place_of(self, model: FasterRCNN) -> FasterRCNN:
        """A detector that shares the model's parts but uses these proposals."""
        made = copy.copy(model)
        made._modules = {**model._modules, "rpn": self}
        return made


def _maps(model: FasterRCNN, batch: ImageBatch, shares: bool) -> dict[str, Tensor]:
    """The feature maps of a batch; a shared backbone is frozen, including its normalisation."""
    if not shares:
        maps: dict[str, Tensor] = model.backbone(batch.tensor)
        return maps
    with torch.no_grad():
        return model.backbone.eval()(batch.tensor)


def _proposal_step(shares: bool) -> Step:
    """Steps 1 and 3: the two losses of the proposal network."""

    def step(model: FasterRCNN, images: Sequence[Tensor], targets: Sequence[Instances]) -> Losses:
        batch, moved = model.prepare(images, targets)
        losses: Losses = model.rpn(_maps(model, batch, shares), batch, moved)[1]
        return losses

    return step


def _detector_step(shares: bool, others: _Proposals | None) -> Step:
    """Steps 2 and 4: the two losses of Fast R-CNN on fixed proposals, the model's own or others."""

    def step(model: FasterRCNN, images: Sequence[Tensor], targets: Sequence[Instances]) -> Losses:
        batch, moved = model.prepare(images, targets)
        maps = _maps(model, batch, shares)
        with torch.no_grad():
            proposals = (others or model.rpn)(maps, batch, moved)[0]
        losses: Losses = model.roi_heads(maps, proposals, batch, moved)[1]
        return losses

    return step
