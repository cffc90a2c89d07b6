"""VOC average precision against a case worked by hand, a naive loop, and the reference values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sightline.errors import InputError
from sightline.evaluation import evaluate_voc
from sightline.structures import Classes, Instances

from .scenarios import random_case


def naive_ap(targets, predictions, label, iou, eleven, plus_one=False):
    """The development kit's rules, one detection at a time."""
    extra = 1.0 if plus_one else 0.0
    objects = {}
    total = 0
    for image, target in enumerate(targets):
        difficult = target.difficult.tolist() if "difficult" in target else [False] * len(target)
        crowd = target.crowd.tolist() if "crowd" in target else [False] * len(target)
        objects[image] = [
            [box, hard or many, False]
            for box, own, hard, many in zip(
                target.boxes.tolist(), target.labels.tolist(), difficult, crowd, strict=True
            )
            if own == label
        ]
        total += sum(not uncounted for _, uncounted, _ in objects[image])
    if total == 0:
        return None
    rows = [
        (score, image, box)
        for image, p in enumerate(predictions)
        for box, own, score in zip(p.boxes.tolist(), p.labels.tolist(), p.scores.tolist(), strict=True)
        if own == label
    ]
    rows.sort(key=lambda row: -row[0])
    true = false = 0
    points = []
    for _, image, a in rows:
        best, at = -1.0, None
        for candidate in objects[image]:
            b = candidate[0]
            w = min(a[2], b[2]) - max(a[0], b[0]) + extra
            h = min(a[3], b[3]) - max(a[1], b[1]) + extra
            shared = max(w, 0) * max(h, 0)
            both = sum((c[2] - c[0] + extra) * (c[3] - c[1] + extra) for c in (a, b)) - shared
            overlap = shared / both if both else 0.0
            if overlap > best:
                best, at = overlap, candidate
        if best > iou:
            if not at[1]:
                true, false = (true, false + 1) if at[2] else (true + 1, false)
                at[2] = True
        else:
            false += 1
        points.append((true / total, true / max(true + false, 1)))
    if eleven:
        return sum(max((p for r, p in points if r >= k / 10), default=0.0) for k in range(11)) / 11
    area, last = 0.0, 0.0
    for position, (recall, _) in enumerate(points):
        area += (recall - last) * max(p for _, p in points[position:])
        last = recall
    return area


def test_worked_by_hand():
    # Three objects. By falling score: right, wrong, right, right again on a taken object (wrong), difficult (left out).
    target = Instances(
        (100, 100),
        boxes=[[0.0, 0, 10, 10], [20.0, 0, 30, 10], [40.0, 0, 50, 10], [60.0, 0, 70, 10]],
        labels=[0, 0, 0, 0],
        difficult=[False, False, False, True],
    )
    prediction = Instances(
        (100, 100),
        boxes=[[0.0, 0, 10, 10], [80.0, 0, 90, 10], [20.0, 0, 30, 10], [20.0, 0, 30, 10], [60.0, 0, 70, 10]],
        labels=[0] * 5,
        scores=[0.9, 0.8, 0.7, 0.6, 0.5],
    )
    # recall 1/3, 1/3, 2/3, 2/3 and precision 1, 1/2, 2/3, 1/2
    area = evaluate_voc([target], [prediction], ["cat"], 2010)
    assert area.per_class["cat"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3, abs=1e-12)
    # recalls 0 to 0.3 see precision 1, 0.4 to 0.6 see 2/3, 0.7 to 1 see nothing
    eleven = evaluate_voc([target], [prediction], ["cat"], 2007)
    assert eleven.per_class["cat"] == pytest.approx((4 * 1 + 3 * 2 / 3) / 11, abs=1e-12)
    assert (area.protocol, eleven.protocol) == ("VOC 2010 all-point", "VOC 2007 11-point")


def test_a_detection_goes_to_its_largest_overlap_even_if_that_is_taken():
    # COCO would give the second detection the free object; VOC does not.
    target = Instances((99, 99), boxes=[[0.0, 0, 10, 10], [2.0, 0, 12, 10]], labels=[0, 0])
    prediction = Instances((99, 99), boxes=[[0.0, 0, 10, 10], [0.5, 0, 10.5, 10]], labels=[0, 0], scores=[0.9, 0.8])
    assert evaluate_voc([target], [prediction], ["cat"]).mean == pytest.approx(0.5)


def test_overlap_must_be_above_the_threshold():
    target = Instances((99, 99), boxes=[[0.0, 0, 10, 10]], labels=[0])
    half = Instances((99, 99), boxes=[[0.0, 0, 10, 5]], labels=[0], scores=[0.9])
    assert evaluate_voc([target], [half], ["cat"]).mean == 0.0
    assert evaluate_voc([target], [half], ["cat"], iou=0.49).mean == 1.0


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("iou", [0.3, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_naive_loop(seed, iou, plus_one):
    targets, predictions, classes = random_case(seed, difficult=True, ties=seed % 2 == 0)
    for year in (2007, 2010):
        result = evaluate_voc(targets, predictions, classes, year, iou, plus_one)
        for label, name in enumerate(classes):
            expected = naive_ap(targets, predictions, label, iou, year == 2007, plus_one)
            assert result.per_class[name] == (expected if expected is None else pytest.approx(expected, abs=1e-12))


@pytest.mark.parametrize("case", ["synthetic", "by_hand", "separated"])
def test_reference_values(shared: Path, case):
    data = json.loads((shared / "parity" / "metrics" / "voc.json").read_text())[case]
    classes = Classes(data["classes"])
    images = list(data["ground_truth"])

    def rows(entries, **fields):
        boxes = torch.tensor([e["box"] for e in entries], dtype=torch.float64).reshape(-1, 4)
        return Instances((999, 999), boxes=boxes, labels=[classes.id(e["class"]) for e in entries], **fields)

    targets = [rows(e, difficult=[o["difficult"] for o in e]) for e in data["ground_truth"].values()]
    predictions = []
    for image in images:
        own = [d for d in data["detections"] if d["image"] == image]
        predictions.append(rows(own, scores=torch.tensor([d["score"] for d in own], dtype=torch.float64)))
    for key, expected in data["expected"].items():
        iou, boxes = key.removeprefix("iou").split("_", 1)
        for year, form in ((2007, "voc2007_11_point"), (2010, "voc2012_all_point")):
            result = evaluate_voc(targets, predictions, classes, year, float(iou), boxes == "plus_one")
            for name, value in expected[form]["AP"].items():
                assert result.per_class[name] == (value if value is None else pytest.approx(value, abs=1e-12))
            assert result.mean == pytest.approx(expected[form]["mAP"], abs=1e-12)


def test_refusals():
    item = Instances((9, 9))
    with pytest.raises(InputError, match="year is 2012"):
        evaluate_voc([item], [item], ["cat"], 2012)
    with pytest.raises(InputError, match="1 targets but 0"):
        evaluate_voc([item], [], ["cat"])
