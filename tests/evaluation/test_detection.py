"""COCO's numbers against pycocotools and the reference values; what is not available; labels against themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.errors import ClassMismatch, InputError
from sightline.evaluation import COCO_METRICS, evaluate_detection
from sightline.structures import Classes, Instances

from .scenarios import pycocotools_numbers, random_case


def one(boxes, labels, scores=None, classes=("cat", "dog"), **fields):
    extra = {} if scores is None else {"scores": torch.tensor(scores)}
    return Instances((200, 200), classes=Classes(classes), boxes=boxes, labels=labels, **extra, **fields)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools(seed, ties):
    targets, predictions, classes = random_case(seed, ties=ties)
    result = evaluate_detection(targets, predictions, classes)
    expected, precision = pycocotools_numbers(targets, predictions, classes)
    for name in COCO_METRICS:
        if expected[name] < 0:
            assert result.metrics[name] is None
            assert name in result.reasons
        else:
            assert result.metrics[name] == pytest.approx(expected[name], abs=1e-9)
    for k, name in enumerate(classes):
        table = precision[:, :, k, 0, 2]
        row = result.per_class[name]
        if (table < 0).all():
            assert row["AP"] is None
            assert f"{name}/AP" in result.reasons
        else:
            assert row["AP"] == pytest.approx(table.mean(), abs=1e-9)
            assert row["AP50"] == pytest.approx(table[0].mean(), abs=1e-9)
            assert row["AP75"] == pytest.approx(table[5].mean(), abs=1e-9)
            assert np.allclose(result.curves[name].precision, table[0], atol=1e-9)
        assert row["objects"] == sum(int(((t.labels == k) & ~t.crowd).sum()) for t in targets)
        assert row["detections"] == sum(int((p.labels == k).sum()) for p in predictions)


def test_more_than_a_hundred_detections():
    targets, predictions, classes = random_case(3, images=2, classes=2, crowds=False)
    many = predictions[0]
    repeated = many[torch.arange(260) % len(many)].replace(scores=torch.linspace(1, 0, 260).double())
    predictions = [repeated, predictions[1]]
    expected, _ = pycocotools_numbers(targets, predictions, classes)
    result = evaluate_detection(targets, predictions, classes)
    for name in COCO_METRICS:
        assert (result.metrics[name] or 0) == pytest.approx(max(expected[name], 0), abs=1e-9)


def reference(shared: Path) -> tuple[list[Instances], list[Instances], Classes]:
    """The objects and the detections of the reference pack, image by image, with its classes."""
    folder = shared / "parity" / "metrics"
    truth = json.loads((folder / "coco_gt.json").read_text())
    found = json.loads((folder / "coco_dt_bbox.json").read_text())
    classes = Classes([c["name"] for c in truth["categories"]])
    ids = {c["id"]: k for k, c in enumerate(truth["categories"])}

    def rows(annotations, image):
        own = [a for a in annotations if a["image_id"] == image["id"]]
        boxes = torch.tensor([a["bbox"] for a in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        fields = {"boxes": boxes, "labels": [ids[a["category_id"]] for a in own]}
        if annotations is found:
            fields["scores"] = torch.tensor([a["score"] for a in own], dtype=torch.float64)
        else:
            fields["crowd"] = [bool(a["iscrowd"]) for a in own]
            fields["areas"] = torch.tensor([a["area"] for a in own], dtype=torch.float64)
        return Instances((image["height"], image["width"]), classes=classes, **fields)

    targets = [rows(truth["annotations"], image) for image in truth["images"]]
    return targets, [rows(found, image) for image in truth["images"]], classes


def expected_numbers(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "parity" / "metrics" / "coco_expected.json").read_text())


def test_reference_values(shared: Path):
    targets, predictions, classes = reference(shared)
    expected = expected_numbers(shared)["bbox"]
    result = evaluate_detection(targets, predictions, classes)
    for name, value in zip(COCO_METRICS, expected["stats"].values(), strict=True):
        assert result.metrics[name] == pytest.approx(value, abs=1e-9)
    for key, row in expected["per_class"].items():
        ours = result.per_class[row["name"]]
        for name, value in (("AP", row["AP"]), ("AP50", row["AP50"]), ("AP75", row["AP75"]), ("AR100", row["AR"])):
            if value < 0:
                assert ours[name] is None, key
            else:
                assert ours[name] == pytest.approx(value, abs=1e-9)
    # The reference uses the areas of the annotations: boxes' areas give other numbers for the sizes.
    boxes_alone = [Instances(t.image_size, boxes=t.boxes, labels=t.labels, crowd=t.crowd) for t in targets]
    assert evaluate_detection(boxes_alone, predictions, classes).metrics["APs"] != result.metrics["APs"]


def test_curves_equal_the_reference(shared: Path):
    """Precision and score at COCO's 101 recall values and IoU 0.50; a class without objects has no curve."""
    result = evaluate_detection(*reference(shared))
    with np.load(shared / "parity" / "metrics" / "coco_curves.npz") as file:
        precision, scores = file["bbox/precision_all_lastmaxdet"][0], file["bbox/scores_all_lastmaxdet"][0]
    compared = 0
    for k, name in enumerate(result.classes):
        assert (name in result.curves) == bool((precision[:, k] >= 0).all())
        if name in result.curves:
            np.testing.assert_allclose(result.curves[name].precision, precision[:, k], rtol=0, atol=1e-9)
            np.testing.assert_allclose(result.curves[name].score, scores[:, k], rtol=0, atol=1e-9)
            compared += 1
    assert compared == 5


@pytest.mark.parametrize("case", ["bbox_first20_images", "bbox_class_agnostic"])
def test_reference_values_of_some_images_and_without_classes(shared: Path, case: str):
    targets, predictions, classes = reference(shared)
    if case == "bbox_first20_images":
        targets, predictions = targets[:20], predictions[:20]
    else:  # at most 100 detections of an image count, whatever their classes
        classes = Classes(["object"])
        targets, predictions = (
            [
                Instances(r.image_size, classes=classes, **r.fields | {"labels": torch.zeros_like(r.labels)})
                for r in part
            ]
            for part in (targets, predictions)
        )
    result = evaluate_detection(targets, predictions, classes)
    for name, value in zip(COCO_METRICS, expected_numbers(shared)[case]["stats"].values(), strict=True):
        assert result.metrics[name] == pytest.approx(value, abs=1e-9)


def test_labels_against_themselves_score_one(shared: Path):
    for path in sorted((shared / "data" / "coco_mini").rglob("instances*.json")):
        truth = json.loads(path.read_text())
        ids = {c["id"]: k for k, c in enumerate(truth["categories"])}
        targets = []
        for image in truth["images"]:
            own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
            boxes = torch.tensor([a["bbox"] for a in own]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            targets.append(
                Instances(
                    (image["height"], image["width"]),
                    boxes=boxes,
                    labels=[ids[a["category_id"]] for a in own],
                    crowd=[bool(a["iscrowd"]) for a in own],
                    areas=[a["area"] for a in own],
                )
            )
        result = evaluate_detection(targets, targets, [c["name"] for c in truth["categories"]])
        assert len(targets) > 10
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "VOC2007_AP50", "VOC2010_AP50"):
            assert result.metrics[name] == pytest.approx(1.0, abs=1e-12), name


@pytest.mark.parametrize("seed", range(3))
def test_random_labels_against_themselves_score_one(seed):
    targets, _, classes = random_case(seed, difficult=True)
    result = evaluate_detection(targets, targets, classes)
    assert {result.metrics[n] for n in ("AP", "AP50", "APs", "AR100", "VOC2007_AP50", "VOC2010_AP50")} == {1.0}
    assert result.errors().counts["correct"] == int(sum((~t.crowd & ~t.difficult).sum() for t in targets))
    assert not any(value for kind, value in result.errors().counts.items() if kind != "correct")


def test_nothing_is_minus_one_and_reasons_are_given(capfd):
    large = one([[10.0, 10.0, 150.0, 150.0]], [0])
    result = evaluate_detection([large], [large], ["cat", "dog"])
    assert result.metrics["APs"] is None
    assert result.reasons["APs"] == "no object smaller than 32² pixels in these labels"
    assert result.reasons["ARm"] == "no object between 32² and 96² pixels in these labels"
    assert result.per_class["dog"]["AP"] is None
    assert result.reasons["dog/AP"] == "no object of 'dog' in these labels"
    assert result.reasons["cat/APs"] == "no object of 'cat' smaller than 32² pixels in these labels"
    text = str(result)
    assert "n/a" in text
    assert "-1" not in text
    assert "COCO 2017 bbox" in text
    assert "VOC 2007 11-point" in text
    read_back = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert read_back["metrics"]["APs"] is None
    assert read_back["protocols"]["AP"] == "COCO 2017 bbox"
    assert capfd.readouterr() == ("", "")  # hotcoco is kept quiet


def test_images_without_objects_and_detections():
    nothing = Instances((50, 50))
    result = evaluate_detection([nothing], [nothing], ["cat"])
    assert result.metrics["AP"] is None
    assert result.reasons["AP"] == "no object in these labels"
    assert result.reasons["VOC2010_AP50"] == "no object in these labels"
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.worst_first().tolist() == [0]
    missed = evaluate_detection([one([[1.0, 1.0, 9.0, 9.0]], [0])], [nothing], ["cat", "dog"])
    assert missed.metrics["AP"] == 0.0
    assert missed.errors().counts["missed"] == 1


def test_crowds_and_difficult_objects_do_not_count_where_their_protocol_says_so():
    box = [[10.0, 10.0, 60.0, 60.0]]
    crowd = evaluate_detection([one(box, [0], crowd=[True])], [one(box, [0], [0.9])], ["cat", "dog"])
    assert crowd.metrics["AP"] is None
    assert crowd.reasons["AP"] == "every object in these labels is marked as a crowd"
    assert crowd.errors(0.5).kinds(0) == ["ignored"]
    hard = evaluate_detection([one(box, [0], difficult=[True])], [one(box, [0], [0.9])], ["cat", "dog"])
    assert hard.metrics["AP"] == 1.0
    assert hard.metrics["VOC2007_AP50"] is None
    assert "difficult" in hard.reasons["VOC2007_AP50"]
    assert any("difficult" in note for note in hard.notes)


def test_every_box_without_area_is_counted():
    flat = [[5, 5, 5, 9], [5, 5, 9, 5], [7, 7, 7, 7], [1, 2, 1, 2]]
    result = evaluate_detection([one([[10, 10, 20, 20], *flat], [0] * 5)], [one([], [], [])], Classes(["cat", "dog"]))
    assert any(note.startswith("4 boxes of objects have no area") for note in result.notes)


def test_a_curve_has_coco_s_hundred_and_one_recalls():
    """One of two cats is found, at 0.8: precision 1 up to a recall of one half, and 0 beyond."""
    target = one([[10, 10, 20, 20], [50, 50, 70, 70]], [0, 0])
    result = evaluate_detection([target], [one([[10, 10, 20, 20]], [0], [0.8])], Classes(["cat", "dog"]))
    (curve,) = result.curves.values()
    assert curve.recall.tolist() == pytest.approx([i / 100 for i in range(101)])
    assert curve.precision.tolist() == pytest.approx([1.0] * 51 + [0.0] * 50)
    assert curve.score.tolist() == pytest.approx([0.8] * 51 + [0.0] * 50)


def test_boxes_without_area_are_noted():
    target = one([[10.0, 10.0, 60.0, 60.0], [90.0, 90.0, 90.0, 95.0]], [0, 0])
    result = evaluate_detection([target], [target], ["cat", "dog"])
    assert result.metrics["AR100"] == 0.5
    assert any(note.startswith("1 box of objects has no area") for note in result.notes)


def test_classes_are_brought_over_by_name():
    box = [[10.0, 10.0, 60.0, 60.0], [70.0, 70.0, 120.0, 120.0], [130.0, 10.0, 180.0, 60.0]]
    target = one(box[:2], [0, 1])
    prediction = one(box, [2, 0, 1], [0.9, 0.8, 0.7], classes=("dog", "bird", "cat"))
    result = evaluate_detection([target], [prediction], ["cat", "dog"])
    assert result.metrics["AP"] == 1.0
    assert result.notes == ["1 detections of classes that the data does not have were left out: bird (1)"]
    assert result.predictions[0].names() == ["cat", "dog"]
    assert result.errors(0.5).kinds(0) == ["correct", "correct"]
    assert prediction.names() == ["cat", "dog", "bird"]  # what was given stays as it was
    with pytest.raises(ClassMismatch, match="lacks 'dog'"):
        evaluate_detection([target], [one(box, [0, 0, 0], [1.0, 1.0, 1.0], classes=("cat",))], ["cat", "dog"])
    with pytest.raises(ClassMismatch, match="also has 'horse'"):
        evaluate_detection([one(box, [0, 1, 2], classes=("cat", "dog", "horse"))], [prediction], ["cat", "dog"])


def test_wrong_input_is_refused_with_one_sentence():
    item = one([[10.0, 10.0, 60.0, 60.0]], [0], [0.5])
    with pytest.raises(InputError, match="there are 2 targets but 1 predictions"):
        evaluate_detection([item, item], [item], ["cat", "dog"])
    with pytest.raises(InputError, match="no images"):
        evaluate_detection([], [], ["cat"])
    with pytest.raises(InputError, match="no classes"):
        evaluate_detection([item], [item], [])
    broken = Instances.unchecked(
        (9, 9),
        classes=None,
        source="a.jpg",
        boxes=torch.tensor([[0.0, 0.0, float("nan"), 5.0]]),
        labels=torch.tensor([0]),
        scores=torch.tensor([0.5]),
    )
    with pytest.raises(InputError, match=r"prediction 0 \(a.jpg\) has the box \[0.0, 0.0, nan, 5.0\].*diverged"):
        evaluate_detection([item], [broken], ["cat", "dog"])
    with pytest.raises(InputError, match="label 7, but there are 2 classes"):
        evaluate_detection([item], [Instances((9, 9), boxes=[[0.0, 0, 1, 1]], labels=[7])], ["cat", "dog"])
    with pytest.raises(InputError, match="prediction 0 is a dict"):
        evaluate_detection([item], [{"boxes": 1}], ["cat", "dog"])
    with pytest.raises(InputError, match="has only masks"):
        evaluate_detection([item], [Instances((4, 4), masks=torch.zeros(0, 4, 4))], ["cat", "dog"])


def test_half_precision_scores_and_ints_work():
    target = one([[10, 10, 60, 60]], [0])
    prediction = Instances(
        (200, 200), boxes=torch.tensor([[10, 10, 60, 60]]).bfloat16(), labels=[0], scores=torch.tensor([0.5]).half()
    )
    assert evaluate_detection([target], [prediction], ["cat", "dog"]).metrics["AP"] == 1.0


def test_what_some_objects_are_marked_is_noted():
    """Of three objects one is a crowd and another one difficult: each has its note; plain ones have none."""
    boxes = [[x, 10.0, x + 20, 30.0] for x in (0.0, 40.0, 80.0)]
    plain = evaluate_detection([one(boxes, [0] * 3)], [one([], [], [])], ["cat", "dog"])
    assert plain.notes == []
    marks = {"crowd": [True, False, False], "difficult": [False, True, False]}
    notes = evaluate_detection([one(boxes, [0] * 3, **marks)], [one([], [], [])], ["cat", "dog"]).notes
    assert notes == [
        "1 object is marked difficult: COCO's metrics, which have no such mark, count it, and VOC's do not",
        "1 region is marked as crowds, which count neither as found nor as missed",
    ]


def test_more_objects_than_coco_counts_are_noted():
    """Of 150 cats in an image and 50 in another, 100 and 50 can be found: labels against themselves have AR100 0.75."""
    grid = [[x, y, x + 5.0, y + 5.0] for y in range(0, 150, 10) for x in range(0, 100, 10)]
    many, few = one(grid, [0] * 150), one(grid[:50], [0] * 50)
    crowded = evaluate_detection([many, few], [many, few], ["cat", "dog"])
    (note,) = crowded.notes
    assert note.startswith("COCO counts at most 100 detections of a class in an image, and 1 image has more objects")
    assert crowded.metrics["AR100"] == 0.75
    assert "AR100 of 0.75" in note
    hundred = one(grid[:150], [0] * 100 + [1] * 50)
    assert evaluate_detection([hundred], [hundred], ["cat", "dog"]).notes == []


def test_reasons_by_hand():
    """A large cat, a crowd of dogs, a difficult owl, and no fox."""
    boxes = [[0, 0, 100, 100], [100, 100, 110, 110], [150, 150, 160, 160]]
    names = ("cat", "dog", "owl", "fox")
    marks = {"crowd": [False, True, False], "difficult": [False, False, True]}
    nothing = one([], [], [], classes=names)
    reasons = evaluate_detection([one(boxes, [0, 1, 2], classes=names, **marks)], [nothing], names).reasons
    assert reasons["APm"] == "no object between 32² and 96² pixels in these labels"
    assert "APs" not in reasons
    assert "AP" not in reasons
    assert reasons["cat/APs"] == "no object of 'cat' smaller than 32² pixels in these labels"
    assert reasons["owl/APl"] == "no object of 'owl' larger than 96² pixels in these labels"
    assert (
        reasons["dog/AP"] == reasons["dog/VOC2007_AP50"] == "every object of 'dog' in these labels is marked as a crowd"
    )
    assert reasons["owl/VOC2010_AP50"] == "every object of 'owl' in these labels is marked difficult or as a crowd"
    assert reasons["fox/AP"] == reasons["fox/APs"] == "no object of 'fox' in these labels"
    assert "cat/VOC2007_AP50" not in reasons
