"""Plans of trainings on real data and models: names, model objects, weights, and what measuring leaves behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import sightline as sl
from sightline import api
from sightline.errors import InputError
from sightline.models import catalog
from sightline.models.plan import Budget, Choice, Facts
from sightline.verbs import planning
from sightline.verbs.planning import Plan, facts_of


@pytest.fixture(scope="module")
def scenes() -> Any:
    return sl.scenes(4, 64)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the measured step by a made-up time; the arguments of the measured models."""
    built: list[dict[str, Any]] = []
    monkeypatch.setattr(planning, "_step", lambda model, *_: built.append(model.arguments))
    monkeypatch.setattr(planning, "_seconds", lambda work: (work(), 0.4)[1])
    return built


@pytest.mark.parametrize("minutes", [None, 1])
@pytest.mark.parametrize("name", ["sightline_n", "unet_lite0", "efficientnet_lite0"])
def test_a_model_that_exists_keeps_its_arguments(name: str, minutes: float | None, quick):
    kind = {"unet_lite0": "class_map", "efficientnet_lite0": "class_scores"}.get(name, "instances")
    if kind == "class_scores":
        data = sl.Dataset.from_labels([torch.zeros(3, 32, 32, dtype=torch.uint8)] * 2, [0, 1], ["cat", "dog"])
    else:
        data = sl.scenes(4, 64, kind=kind)
    model = sl.create_model(name, data.classes)
    model.weights_given = "imagenet"  # as if they had been loaded
    ready = api.prepare(model, data, settings={} if minutes is None else {"minutes": minutes})
    assert ready.model is model
    assert not ready.plan.arguments
    assert ready.plan.settings or name != "sightline_n"
    own = catalog.find(name).arguments
    for arguments in quick:
        for argument, value in arguments.items():
            if argument in own and argument not in model.arguments and argument != "image_size":
                assert value == own[argument].default, argument
    if name == "sightline_n" and minutes:
        assert quick[0]["image_size"] == 640


def test_weights_of_a_model_without_a_published_backbone(scenes, tmp_path, quick):
    """`norm` and `trainable_layers` have no effect on `sightline_n`."""
    sl.save(sl.create_model("sightline_n", scenes.classes), tmp_path / "n.safetensors")
    ready = api.prepare(
        "sightline_n", scenes, weights=str(tmp_path / "n.safetensors"), settings={"minutes": 1, "epochs": 2}
    )
    assert set(ready.plan.arguments) == {"image_size"}
    fixed = api.prepare("sightline_lite0", scenes, settings={"epochs": 2})
    assert fixed.plan.arguments["norm"] == "frozen"


def test_a_loaded_run_counts_as_pretrained(scenes, monkeypatch):
    seen = []

    def planner(facts: Facts, budget: Budget) -> list[Choice]:
        seen.append(budget.pretrained)
        return []

    entry = replace(catalog.find("sightline_n"), plan=planner)
    monkeypatch.setitem(catalog._BY_NAME, "sightline_n", entry)
    model = sl.create_model("sightline_n", scenes.classes)
    first = api.prepare(model, scenes)
    model.metadata = {"trained_on": first.trained_on.to_dict()}
    api.prepare(model, scenes)
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("name", "mirrors"),
    [
        ("b", False),
        ("left lane", False),
        ("turnLeft", False),
        ("left1", False),
        ("左转", False),
        ("giro-izquierda", False),
        ("bright", True),
        ("copyright", True),
        ("10", True),
        ("собака", True),
    ],
)
def test_class_names_that_forbid_mirroring(name: str, mirrors: bool):
    data = sl.Dataset.from_labels([torch.zeros(3, 8, 8, dtype=torch.uint8)], [0], [name])
    assert facts_of(data).mirrors is mirrors
    for model in ("efficientnet_lite0", "unet_lite0"):
        plan = catalog.find(model).plan
        assert plan is not None
        found = {choice.name: choice.value for choice in plan(facts_of(data), Budget(pretrained=False))}
        assert found.get("mirror", True) is mirrors


def test_facts_are_those_of_the_view(scenes):
    assert len(facts_of(scenes[:2]).objects) == len(scenes[0][1]) + len(scenes[1][1])
    columns = scenes.columns
    boxes = columns.boxes.copy()
    boxes[0], boxes[1, 2] = np.nan, np.inf
    broken = facts_of(scenes.with_columns(columns.replace(boxes=boxes)))
    assert np.isfinite(broken.objects).all()
    assert len(broken.objects) == len(boxes) - 2


@pytest.mark.parametrize(("minutes", "steps", "fastest"), [(0.5, 3, 0.3), (2, 5, 0.1), (60, 8, 0.05)])
def test_the_fastest_of_several_steps_is_the_speed(scenes, monkeypatch, minutes: float, steps: int, fastest: float):
    """Three steps at least and eight at most, until they take a hundredth of the minutes."""
    times = iter([0.4, 0.3, 0.3, 0.1, 0.2, 0.2, 0.2, 0.05, 0.01])
    done: list[float] = []
    monkeypatch.setattr(planning, "_step", lambda *_: None)
    monkeypatch.setattr(planning, "_seconds", lambda work: (work(), done.append(next(times)), done[-1])[-1])
    speed = planning._Speed(catalog.find("sightline_n"), scenes, {}, "cpu", minutes)
    assert speed({"image_size": 64}) == fastest / 4
    assert len(done) == steps


def test_a_step_is_measured_in_the_precision_that_is_asked_for(scenes, monkeypatch):
    seen: list[tuple[bool, torch.dtype]] = []

    def step(model: sl.models.model.Model, *_: object) -> dict[str, torch.Tensor]:
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return {"loss": next(model.parameters()).sum()}

    monkeypatch.setattr(sl.models.detection.sightline_detector.SightlineDetector, "forward", step)
    speed = planning._Speed(catalog.find("sightline_n"), scenes, {}, "cpu", 0.01)
    speed({"image_size": 64})
    assert {half for half, _ in seen} == {False}
    seen.clear()
    speed({"image_size": 64, "precision": "bf16"})
    assert set(seen) == {(True, torch.bfloat16)}


@pytest.mark.parametrize("has", [True, False])
def test_bf16_is_considered_on_processors_that_have_it(scenes, monkeypatch, has: bool):
    budgets = []
    monkeypatch.setattr(planning.half, "has_bf16", lambda: has)
    entry = replace(catalog.find("sightline_n"), plan=lambda _facts, budget: budgets.append(budget) or [])
    planning.plan_for(entry, scenes, None, {}, pretrained=True, minutes=1, epochs=None, device="cpu")
    assert budgets[0].bf16 is has


def test_measuring_leaves_nothing_behind(scenes):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    model = sl.create_model("sightline_n", scenes.classes, image_size=64)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    torch.random.set_rng_state(before)
    with torch.no_grad():
        api.prepare(model, scenes, settings={"minutes": 5})
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_the_processes_of_a_training_follow_one_plan(scenes, monkeypatch):
    """What another process measured is taken from the main one."""
    theirs = Plan((Choice("batch_size", 3, "the main process says so"),))
    monkeypatch.setattr("sightline.verbs.prepare.agreed", lambda device, function: theirs)
    ready = api.prepare("sightline_n", scenes, settings={"minutes": 1}, device="cpu")
    assert ready.plan == theirs
    assert ready.recipe.batch_size == 3


def test_the_speed_is_measured_on_the_device_of_the_training(scenes):
    with pytest.raises(InputError, match="device is 'cuda:99'"):
        api.prepare("sightline_n", scenes, settings={"minutes": 1}, device="cuda:99")


@pytest.mark.parametrize("name", ["", "a network of my own"])
def test_a_model_that_is_not_in_the_catalog_has_no_plan(scenes, name: str):
    model = sl.create_model("sightline_n", scenes.classes, image_size=64)
    model.name = name
    assert api.prepare(model, scenes, settings={"minutes": 1}).plan == Plan()
