"""The 4-step training: what learns in which step, and from where it starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.nn.heads.rpn import ProposalSettings
from sightline.training.alternating import STEPS, train_alternating, train_in_steps
from sightline.training.recipe import Recipe
from sightline.training.run import Run
from tests.training.toy import CLASSES, BlobDetector, Blobs


def test_each_step_trains_its_own_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    few = ProposalSettings(before_nms=(60, 30), after_nms=(30, 10))
    model = create_model("faster_rcnn_mobilenet_v2", CLASSES, min_size=64, max_size=64, hidden=16, proposals=few)
    model.backbone["0"].requires_grad_(False)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    recipe = Recipe(epochs=1, batch_size=2, optimizer="adamw", lr=1e-3, warmup_steps=0, ema=None)
    careful = recipe.changed(lr=1e-6)  # step 2 hardly moves: its backbone shows where it began
    asked: list[int] = []
    own_proposals: list[bool] = []

    def validate(current: FasterRCNN) -> dict[str, float]:
        asked.append(len(current([Blobs(1)[0][0]])[0]))
        own_proposals.append(current.rpn is model.rpn)
        current.metadata = {"asked": len(asked)}
        return {"AP": 0.5}

    recipes = [recipe, careful, recipe, recipe]
    runs = train_alternating(model, Blobs(2), recipes, tmp_path, validate=validate, progress=False)
    assert [run.folder.name for run in runs] == list(STEPS)
    assert len(asked) == 2
    assert own_proposals == [False, True]  # step 2 is measured on what it learns from: step 1's proposals
    assert model.metadata["asked"] == 2
    first, second, third, fourth = (load_file(run.folder / "last.safetensors") for run in runs)

    def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], part: str) -> bool:
        return all(torch.equal(a[k], b[k]) for k in a if k.startswith(part))

    assert equal(first, start, "roi_heads")
    assert not equal(first, start, "rpn")
    assert not equal(first, start, "backbone")
    kernel = "backbone.1.conv.0.0.weight"  # the detector begins where the proposals began, not where they ended
    assert (first[kernel] - start[kernel]).abs().max() > 5e-4
    assert (second[kernel] - start[kernel]).abs().max() < 5e-6
    assert equal(second, first, "rpn")
    assert not equal(second, first, "backbone")
    assert not equal(second, start, "roi_heads")
    assert not equal(second, start, "backbone")  # it learns in step 2, and its normalisation sees the images
    assert equal(third, second, "backbone")  # its normalisation's statistics, too
    assert equal(third, second, "roi_heads")
    assert not equal(third, second, "rpn")
    assert equal(fourth, third, "backbone")
    assert equal(fourth, third, "rpn")
    assert not equal(fourth, third, "roi_heads")
    assert [set(run.metrics[-1]) & {"train/loss_objectness", "train/loss_classification"} for run in runs] == [
        {"train/loss_objectness"},
        {"train/loss_classification"},
        {"train/loss_objectness"},
        {"train/loss_classification"},
    ]
    assert "process" not in vars(model)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if n.startswith("backbone.0.")}
    assert set(model([Blobs(1)[0][0]], [Blobs(1)[0][1]])) >= {"loss_objectness", "loss_classification"}


def test_what_cannot_alternate_is_refused(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1)
    with pytest.raises(InputError, match="BlobDetector cannot be trained in alternating steps"):
        train_alternating(BlobDetector(), Blobs(2), recipe, tmp_path)  # type: ignore[arg-type]
    model = create_model("faster_rcnn_mobilenet_v2", CLASSES, hidden=16)
    with pytest.raises(InputError, match="there are 2 recipes, but training has 4 steps"):
        train_alternating(model, Blobs(2), [recipe] * 2, tmp_path)


def test_one_recipe_is_that_of_all_steps_and_its_minutes_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `fit` is asked for in each step, without any training."""
    model = create_model("faster_rcnn_mobilenet_v2", CLASSES, hidden=16)
    asked: list[tuple[Recipe, Path, bool]] = []

    def fit(model: FasterRCNN, data: object, recipe: Recipe, folder: Path, **arguments: object) -> Run:
        asked.append((recipe, folder, arguments["validate"] is not None))
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text(folder.name)
        return Run(folder, model, recipe, [], {}, None, "interrupted" if len(asked) == 6 else "finished")

    monkeypatch.setattr("sightline.training.alternating.fit", fit)
    recipe = Recipe(minutes=8)
    last = train_in_steps(model, Blobs(2), recipe, tmp_path / "a", validate=lambda m: {})  # type: ignore[call-arg]
    assert [(r.minutes, f.name, v) for r, f, v in asked] == [(2, s, k % 2 == 1) for k, s in enumerate(STEPS)]
    assert last.folder == tmp_path / "a"
    assert (tmp_path / "a" / "log.txt").read_text() == STEPS[-1]
    asked.clear()
    asked += [(recipe, tmp_path, False)] * 4
    runs = train_alternating(model, Blobs(2), recipe, tmp_path / "b")
    assert [r.minutes for r, *_ in asked[4:]] == [8, 8]  # the second was interrupted: no step follows it
    assert len(runs) == 2
