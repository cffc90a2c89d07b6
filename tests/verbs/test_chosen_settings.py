"""What a training chooses for itself: the facts it reads, the speed it measures, and what it writes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import sightline as sl
from sightline import api
from sightline.data.transforms import recipes
from sightline.errors import InputError
from sightline.models.arguments import require_arguments
from sightline.models.catalog import ENTRIES, find
from sightline.models.entry import Entry
from sightline.models.plan import Budget, Choice, Facts
from sightline.training.recipe import Recipe
from sightline.verbs import planning
from sightline.verbs.planning import Plan, facts_of, plan_for

LITE = "sightline_lite0"
RECIPE = Recipe(epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def scenes() -> Any:
    return sl.scenes(6, 64)


@pytest.fixture(autouse=True)
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same choices on all processors; of one with bf16, a step would be measured in both precisions."""
    monkeypatch.setattr("sightline.training.half.has_bf16", lambda: False)


def yolo(place: Path, labels: list[str], size: tuple[int, int] = (100, 50)) -> Any:
    """A dataset of grey images (width, height); YOLO labels do not state the sizes of images."""
    (place / "images").mkdir(parents=True)
    (place / "labels").mkdir()
    for i, text in enumerate(labels):
        Image.new("RGB", size).save(place / "images" / f"{i}.png")
        (place / "labels" / f"{i}.txt").write_text(text, encoding="utf-8")
    (place / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    return sl.open_dataset(place)


def test_facts_of_boxes(tmp_path: Path):
    """Sizes are fractions of the longer side, whether the labels state the size of the image or not."""
    data = yolo(tmp_path / "data", ["0 .5 .5 .2 .4\n1 .5 .5 .5 .5\n", "", "1 .5 .5 .1 .2\n"])
    facts = facts_of(data, data)
    assert (facts.images, facts.validation, facts.image_size, facts.classes) == (3, 3, (50, 100), ("cat", "dog"))
    np.testing.assert_allclose(facts.objects, [[0.2, 0.2], [0.5, 0.25], [0.1, 0.1]], atol=0.011)
    assert facts.objects_per_image == 1
    assert facts.mirrors
    assert facts_of(data).validation == 0


def test_facts_of_labels_that_state_the_size(scenes: Any):
    facts = facts_of(scenes)
    assert facts.image_size == (64, 64)
    sizes = torch.cat([scenes.target(i).boxes[:, 2:] - scenes.target(i).boxes[:, :2] for i in range(6)])
    np.testing.assert_allclose(facts.objects, sizes.numpy() / 64, rtol=1e-6)
    assert facts.objects_per_image == len(sizes) / 6


def test_facts_of_class_maps():
    facts = facts_of(sl.scenes(4, 64, kind="class_map"))
    assert (facts.images, facts.image_size, facts.objects, facts.objects_per_image) == (4, (64, 64), None, 0)


def counting(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of all models that are built to measure them."""
    built: list[dict[str, Any]] = []
    create = planning.create_model

    def counted(name: str, classes: Any, **arguments: Any) -> Any:
        assert name == entry.name
        built.append(arguments)
        return create(name, classes, **arguments)

    monkeypatch.setattr(planning, "create_model", counted)
    return built


def test_the_speed_is_measured_once_for_each_set_of_arguments(scenes: Any, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    def planner(facts: Facts, budget: Budget) -> list[Choice]:
        assert budget.speed is not None
        for size in (64, 96, 64):
            asked.append(budget.speed({"image_size": size, "norm": "frozen"}))
        return [Choice("norm", "frozen", "of a test"), Choice("batch_size", 2, "of a test")]

    entry = Entry(
        name=LITE, builder=find(LITE).builder, task="detection", paper="", fixed=find(LITE).fixed, plan=planner
    )
    built = counting(entry, monkeypatch)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    plan = plan_for(
        entry, scenes, None, {"width": 32, "norm": "batch", "lr": 1}, pretrained=True, minutes=3, epochs=None
    )
    assert built == [{"image_size": size, "norm": "batch", "width": 32} for size in (64, 96)]  # what is given wins
    assert asked[0] == asked[2] > 0
    assert asked[1] > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [choice.name for choice in plan.choices] == ["batch_size"]


def test_nothing_is_measured_without_minutes_or_planned_without_a_planner(scenes: Any, monkeypatch: pytest.MonkeyPatch):
    built = counting(find(LITE), monkeypatch)
    assert plan_for(find(LITE), scenes, None, {}, pretrained=True, minutes=None, epochs=3).choices
    assert built == []
    assert plan_for(find("ssd300_vgg16"), scenes, None, {}, pretrained=True, minutes=3, epochs=3) == Plan()
    pairs = [scenes[i] for i in range(2)]
    assert plan_for(find(LITE), pairs, None, {}, pretrained=True, minutes=3, epochs=3) == Plan()


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.plan is not None], ids=lambda entry: entry.name)
def test_the_defaults_of_a_planned_model_are_arguments_of_it(entry: Entry):
    """The speed of a model object is measured with them."""
    require_arguments(entry, {name: argument.default for name, argument in entry.arguments.items()})


def test_a_plan_is_divided_into_arguments_and_settings():
    plan = Plan((Choice("image_size", 320, "small"), Choice("ema", 0.98765, "short")))
    assert (plan.arguments, plan.settings) == ({"image_size": 320}, {"ema": 0.98765})
    assert plan.to_dict()["ema"] == {"value": 0.98765, "reason": "short"}
    assert [str(choice) for choice in plan.choices] == ["image_size 320: small", "ema 0.9877: short"]


def test_a_training_by_its_name_follows_its_plan(scenes: Any):
    ready = api.prepare(LITE, scenes, settings={"epochs": 2})
    chosen = {choice.name: choice.value for choice in ready.plan.choices}
    assert chosen["image_size"] == 224  # the smallest that is chosen, for images of 64 pixels
    assert ready.model.arguments["image_size"] == chosen["image_size"]
    assert ready.model.arguments["norm"] == "frozen"
    assert ready.model.arguments["trainable_layers"] == 3
    for name in ("batch_size", "ema", "augmentation"):
        assert getattr(ready.recipe, name) == chosen[name]
    assert ready.recipe.epochs == 2
    assert ready.recipe.lr == ready.model.finetune_defaults["lr"]
    assert ready.messages[-len(chosen) :] == [str(choice) for choice in ready.plan.choices]


def test_what_the_user_names_is_not_chosen(scenes: Any):
    ready = api.prepare(
        LITE, scenes, arguments={"image_size": 64, "norm": "batch"}, settings={"epochs": 2, "batch_size": 3}
    )
    chosen = {choice.name for choice in ready.plan.choices}
    assert chosen >= {"ema", "augmentation"}
    assert chosen.isdisjoint({"image_size", "norm", "batch_size", "epochs"})
    assert (ready.model.arguments["image_size"], ready.model.arguments["norm"]) == (64, "batch")
    assert ready.recipe.batch_size == 3
    assert not any(sentence.startswith(("image_size", "batch_size")) for sentence in ready.messages)


def test_minutes_as_text_are_planned_with(scenes: Any):
    """Settings of a file or a shell may be text."""
    ready = api.prepare(LITE, scenes, arguments={"image_size": 64}, settings={"minutes": "60"})
    assert ready.recipe.minutes == 60
    assert ready.recipe.epochs is None
    assert "augmentation" in ready.plan.settings


def test_minutes_that_hold_no_step_are_refused(scenes: Any):
    with pytest.raises(InputError, match=r"minutes is 1e-05, which holds about .* give at least [\d.]+ minutes$"):
        api.prepare(LITE, scenes, arguments={"image_size": 64}, settings={"minutes": 1e-5})


@pytest.mark.parametrize("size", [0, -32, 33, "large"])
def test_a_wrong_size_is_refused_before_it_is_planned_with(scenes: Any, size: Any):
    for settings in ({"minutes": 1}, {"epochs": 1}):
        with pytest.raises(InputError, match="image_size"):
            api.prepare(LITE, scenes, arguments={"image_size": size}, settings=settings)


def test_a_recipe_is_taken_as_it_is(scenes: Any, tmp_path: Path):
    RECIPE.to_yaml(tmp_path / "recipe.yaml")
    assert Recipe.given(str(tmp_path / "recipe.yaml")) == Recipe.given(RECIPE) == RECIPE
    with pytest.raises(InputError, match="recipe is 3, but it must be a Recipe or the path of a YAML file"):
        api.prepare(LITE, scenes, recipe=3)
    ready = api.prepare(LITE, scenes, recipe=tmp_path / "recipe.yaml")
    assert ready.recipe == RECIPE
    assert ready.plan.settings == {}
    assert ready.plan.arguments["image_size"] == ready.model.arguments["image_size"]


@pytest.mark.parametrize("settings", [{"epochs": 2}, {"minutes": 60}])
def test_a_model_object_keeps_its_arguments(scenes: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    model = sl.create_model(LITE, scenes.classes, image_size=96, width=32, weights="imagenet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    built = counting(find(LITE), monkeypatch)
    ready = api.prepare(model, scenes, settings=settings)
    assert ready.model is model
    assert ready.plan.arguments == {}
    assert set(ready.plan.settings) >= {"batch_size", "ema", "augmentation"}
    assert ready.recipe.batch_size == ready.plan.settings["batch_size"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [(a["image_size"], a["width"], a["trainable_layers"]) for a in built] == (
        [(96, 32, None)] if "minutes" in settings else []
    )


def test_a_segmenter_and_a_model_object_of_its_own_size():
    maps = sl.scenes(4, 64, kind="class_map")
    model = sl.create_model("unet_lite0", maps.classes, weights="imagenet")
    ready = api.prepare(model, maps, settings={"minutes": 60})
    assert ready.plan.arguments == {}
    assert "batch_size" in ready.plan.settings


def test_an_augmentation_of_ones_own_is_not_chosen_against(scenes: Any):
    ready = api.prepare(LITE, scenes, settings={"epochs": 2}, transform=recipes.none())
    assert {"augmentation", "mirror"}.isdisjoint(ready.plan.settings)


def test_choices_are_written_with_their_reasons_and_a_resumed_run_plans_nothing(scenes: Any, tmp_path: Path):
    small: dict[str, Any] = {"workers": 0, "runs": tmp_path, "name": "a", "progress": False, "report": False}
    run = sl.train(LITE, scenes, arguments={"image_size": 64}, epochs=1, device="cpu", **small)
    written = yaml.safe_load((run.folder / "recipe.yaml").read_text(encoding="utf-8"))
    choices = written["run"]["choices"]
    assert {"norm", "trainable_layers", "batch_size", "ema", "augmentation"} <= set(choices)
    assert "image_size" not in choices
    assert choices["batch_size"]["value"] == written["batch_size"] == run.recipe.batch_size
    assert all(set(choice) == {"value", "reason"} and choice["reason"] for choice in choices.values())
    again = api.prepare(name="a", runs=tmp_path, resume=True, data=scenes, settings={"epochs": 2})
    assert again.plan == Plan()
    assert again.model.arguments["norm"] == "frozen"
    assert again.recipe.batch_size == run.recipe.batch_size
