"""Why was it missed? On rendered scenes, with detectors that are broken on purpose."""

from __future__ import annotations

import json
from typing import Literal

import pytest
import torch

import sightline as sl
from sightline.explain.missed import MissedObjects, missed_objects
from sightline.explain.missed_causes import CAUSES
from sightline.structures import Instances
from tests.explain.planted import SIZE, Break, Planted

Kind = Literal["anchor", "cell", "region"]
KINDS: tuple[Kind, ...] = ("anchor", "cell", "region")


@pytest.fixture(scope="module")
def data() -> sl.Dataset:
    return sl.scenes(10, SIZE, objects=(7, 11))


@pytest.fixture(scope="module")
def intact(data: sl.Dataset) -> dict[tuple[Kind, bool], MissedObjects]:
    """The objects that each detector misses before it is broken, with all classes and with a single one."""
    return {(kind, single): missed(of(data, single), kind) for kind in KINDS for single in (False, True)}


def of(data: sl.Dataset, single: bool) -> sl.Dataset:
    return data.with_class_mapping(dict.fromkeys(data.classes, "solid")) if single else data


def missed(data: sl.Dataset, kind: Kind, broken: Break | None = None) -> MissedObjects:
    return missed_objects(Planted(data, kind, broken), data, progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_found_by_detectors_that_are_not_broken(
    data: sl.Dataset, intact: dict[tuple[Kind, bool], MissedObjects], kind: Kind
) -> None:
    found = intact[kind, False]
    assert found.objects == sum(len(data.target(i)) for i in range(len(data)))
    assert len(found.missed) <= 0.1 * found.objects


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (Break(strides=(16, 32)), "no origin"),
        (Break(nms_iou=0.1), "suppressed"),
        (Break(silent=2), "class never predicted"),
        (Break(confused=True), "wrong class"),
        (Break(max_detections=2), "top k"),
        (Break(faint=True), "below threshold"),
    ],
)
def test_planted_causes_are_named(
    data: sl.Dataset, intact: dict[tuple[Kind, bool], MissedObjects], kind: Kind, broken: Break, cause: str
) -> None:
    """Of the objects that are only missed because the detector is broken."""
    single = cause == "suppressed"  # objects of different classes do not suppress one another
    before = {(record.image, record.object) for record in intact[kind, single].missed}
    found = missed(of(data, single), kind, broken)
    causes = [r.cause for r in found.missed if (r.image, r.object) not in before]
    assert len(causes) >= 4
    assert causes.count(cause) >= 0.95 * len(causes), found


def test_a_class_that_is_never_predicted_is_named_also_where_no_anchor_fits(data: sl.Dataset) -> None:
    found = missed(data, "anchor", Break(strides=(8, 16, 32), silent=2))
    causes = {record.cause for record in found.missed if record.class_name == data.classes[2]}
    assert causes == {"class never predicted"}
    assert found.counts["no origin"] > 0  # of the other classes


def test_records_say_what_was_found_instead(data: sl.Dataset) -> None:
    found = missed(data, "anchor", Break(confused=True))
    for record in found.of_cause("wrong class"):
        following = (data.classes.id(record.class_name) + 1) % len(data.classes)
        assert record.instead_class == data.classes[following]
        assert record.text.startswith(f"it is taken for {record.instead_class} ({record.instead_score:.2f})")
        assert record.instead is not None
        target = data.target(record.image)
        assert isinstance(target, Instances)
        assert record.box == tuple(target.boxes[record.object].tolist())
        assert torch.tensor(record.instead).sub(torch.tensor(record.box)).abs().max() < 8
        assert record.name == data.name(record.image)


def test_the_box_that_suppressed_an_object_is_named() -> None:
    """Two spheres side by side whose boxes overlap by a third: the one of lower score is suppressed at IoU 0.2."""
    boxes = [[8.0, 24, 40, 56], [24, 24, 56, 56]]
    target = Instances((SIZE, SIZE), boxes=boxes, labels=[0, 0])
    data = sl.Dataset.from_instances([torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)], [target], ["sphere"])
    assert not missed(data, "anchor", Break(nms_iou=0.45)).missed
    (record,) = missed(data, "anchor", Break(nms_iou=0.2)).missed
    assert record.cause == "suppressed"
    assert record.figures["by_score"] > record.figures["score"]
    assert 0.2 < record.figures["by_iou"] < 0.45
    assert record.instead is not None
    assert record.instead_score == record.figures["by_score"]
    other = torch.tensor(boxes[1 - record.object])
    assert (torch.tensor(record.instead) - other).abs().max() < 2
    assert f"({record.figures['by_score']:.2f}): their IoU is 0." in record.text


def test_a_missing_proposal_says_why(data: sl.Dataset) -> None:
    records = missed(data, "region", Break(proposals=2)).of_cause("not proposed")
    assert len(records) > 50
    assert all("is not among the 2 best)" in record.text for record in records)


def test_crowds_do_not_count_and_the_result_is_json() -> None:
    boxes = [[8.0, 24, 40, 56], [60, 60, 64, 64], [70, 10, 74, 14]]
    target = Instances((SIZE, SIZE), boxes=boxes, labels=[0, 0, 0], crowd=[False, True, False])
    data = sl.Dataset.from_instances([torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)], [target], ["sphere"])
    found = missed(data, "anchor", Break(strides=(16,)))
    assert (found.objects, [record.object for record in found.missed]) == (2, [2])
    values = json.loads(json.dumps(found.to_dict()))
    assert values["counts"] == {"no origin": 1}
    assert values["missed"][0]["box"] == boxes[2]
    assert values["missed"][0]["figures"]["origin_iou"] == pytest.approx(found.missed[0].figures["origin_iou"])
    assert str(found).splitlines()[0] == "1 of 2 objects in 1 image are missed (score ≥ 0.5, IoU ≥ 0.50)"
    assert CAUSES["no origin"] in str(found)


def test_other_models_and_labels_are_refused(data: sl.Dataset) -> None:
    with pytest.raises(sl.InputError, match="is no detector, so it misses no objects"):
        missed_objects(sl.create_model("resnet18", data.classes), data)
    with pytest.raises(sl.ClassMismatch):
        missed_objects(Planted(data, "anchor"), data.with_class_mapping({"ring": "doughnut"}))
