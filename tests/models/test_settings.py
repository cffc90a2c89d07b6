"""Settings given as a dictionary change the numbers they name and leave the model's own others as they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
from torch import nn

from sightline.errors import InputError
from sightline.models.arguments import with_settings
from sightline.models.catalog import ENTRIES, find
from sightline.models.creation import create_model
from sightline.models.entry import Entry
from sightline.models.saving import load, save
from sightline.runtime.shapes import shapes_only
from tests.models.test_contract import of_model

NAMES = ["circle", "square"]
GROUPS = [
    (entry, name)
    for entry in ENTRIES
    for name, argument in entry.arguments.items()
    if dataclasses.is_dataclass(argument.kind)
]


def built(name: str, **arguments: Any) -> nn.Module:
    with shapes_only():
        return create_model(name, NAMES, **arguments)


def numbers(model: nn.Module, kind: type) -> list[dict[str, Any]]:
    """All settings of a kind that a model's modules hold."""
    held = (value for module in model.modules() for value in vars(module).values())
    return [dataclasses.asdict(value) for value in held if type(value) is kind]


def other(value: float) -> float:
    return value + 1 if isinstance(value, int) else value * 0.9 if value else 0.5


def settings_of(entry: Entry, group: str) -> Any:
    return entry.arguments[group].default


def test_every_model_has_its_settings_in_its_builder_s_signature() -> None:
    for entry in ENTRIES:
        for name, argument in entry.arguments.items():
            kinds = get_args(argument.kind)
            assert not any(dataclasses.is_dataclass(kind) for kind in kinds), (entry.name, name)
    assert len(GROUPS) > 80


@pytest.mark.parametrize(("entry", "group"), [of_model(entry.name, entry, group) for entry, group in GROUPS])
def test_a_dictionary_changes_only_what_it_names(entry: Entry, group: str) -> None:
    own = settings_of(entry, group)
    fields = [f.name for f in dataclasses.fields(own)]
    for field in fields:
        value = getattr(own, field)
        assert with_settings(entry, {group: {field: value}}) == {group: own}
    changeable = [f for f in fields if type(getattr(own, f)) in (int, float)]
    field = changeable[-1]
    value = other(getattr(own, field))
    changed = numbers(built(entry.name, **{group: {field: value}}), type(own))
    assert changed
    assert all(row == dataclasses.asdict(own) | {field: value} for row in changed)


@pytest.mark.parametrize(
    ("name", "group", "given", "field", "value"),
    [
        ("retinanet_resnet50_fpn_v2", "settings", {"min_score": 0.01}, "box_loss", "giou"),
        ("retinanet_mobilenet_v2_fpn", "settings", {"candidates": 9}, "box_loss", "giou"),
        ("faster_rcnn_vgg16", "proposals", {"samples": 128}, "after_nms", (2000, 300)),
        ("faster_rcnn_vgg16", "boxes", {"max_detections": 5}, "nms_iou", 0.3),
        ("fast_rcnn_vgg16", "boxes", {"max_detections": 5}, "beta", 1.0),
        ("ssd300_vgg16", "settings", {"max_detections": 5}, "nms_iou", 0.45),
        ("ssd_mobilenet_v1", "settings", {"min_score": 0.3}, "nms_iou", 0.6),
        ("overfeat_mobilenet_v2", "locations", {"min_score": 0.3}, "scales", (0.5, 0.7, 1.0, 1.4, 2.0)),
        ("r_fcn_resnet101", "proposals", {"nms_iou": 0.6}, "after_nms", (2000, 300)),
        ("light_head_rcnn_resnet101", "boxes", {"nms_iou": 0.6}, "samples", 256),
        ("faster_rcnn_mobilenet_v3_large_320_fpn", "proposals", {"samples": 9}, "after_nms", (2000, 150)),
        ("mask_rcnn_mobilenet_v2_fpn", "boxes", {"nms_iou": 0.6}, "samples", 128),
        ("keypoint_rcnn_mobilenet_v2_fpn", "proposals", {"samples": 9}, "before_nms", (1000, 500)),
    ],
)
def test_numbers_of_the_papers_stay(name: str, group: str, given: dict[str, Any], field: str, value: Any) -> None:
    own = settings_of(find(name), group)
    (only,) = {repr(row) for row in numbers(built(name, **{group: given}), type(own))}
    row = dataclasses.asdict(own) | given
    assert only == repr(row)
    assert row[field] == value


def test_none_stands_for_the_model_s_own() -> None:
    model = built("retinanet_resnet50_fpn_v2", settings=None)
    assert model.settings.box_loss == "giou"
    assert model.arguments == {"in_channels": 3}


def test_a_saved_model_s_settings_are_the_ones_that_change(tmp_path: Path) -> None:
    small: dict[str, Any] = {"channels": 32, "depth": 1}
    model = create_model(
        "retinanet_mobilenet_v2_fpn", NAMES, **small, settings={"min_score": 0.2, "box_loss": "l1", "gamma": 1.5}
    )
    file = save(model, tmp_path / "model.safetensors")
    assert load(file).settings == model.settings
    again = create_model("retinanet_mobilenet_v2_fpn", weights=file, settings={"gamma": 3.0})
    assert again.settings == dataclasses.replace(model.settings, gamma=3.0)


def test_settings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match=r"has no setting 'min_scor'; did you mean 'min_score'\?"):
        built("retinanet_resnet50_fpn_v2", settings={"min_scor": 0.1})
    with pytest.raises(InputError, match=r"settings\.min_score of .* is 'high', but it takes a number"):
        built("retinanet_resnet50_fpn_v2", settings={"min_score": "high"})
