"""Recall of proposals against naive loops; the proposal network on its own."""

from __future__ import annotations

import json
import math

import pytest
import torch

from sightline.data.dataset import Dataset
from sightline.errors import InputError
from sightline.evaluation import ProposalMeasure, evaluate
from sightline.evaluation.proposals import ProposalResult, evaluate_proposals
from sightline.models.creation import create_model
from sightline.structures import Classes, Instances


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def boxes(n: int) -> torch.Tensor:
    corner = torch.rand(n, 2, dtype=torch.float64) * 60
    return torch.cat([corner, corner + 5 + torch.rand(n, 2, dtype=torch.float64) * 35], 1)


def test_recall_equals_a_naive_count() -> None:
    torch.manual_seed(0)
    targets = [Instances((100, 100), boxes=boxes(n), labels=[0] * n) for n in (3, 0, 5)]
    proposals = [boxes(40), boxes(7), boxes(25)]
    proposals[0][30] = targets[0].boxes[1]
    result = evaluate_proposals(targets, proposals, counts=(1, 10, 100))
    for row, count in enumerate((1, 10, 100)):
        for column, threshold in enumerate([0.5 + 0.05 * k for k in range(10)]):
            found = sum(
                any(overlap(o, p) >= threshold - 1e-9 for p in ps[:count].tolist())
                for t, ps in zip(targets, proposals, strict=True)
                for o in t.boxes.tolist()
            )
            assert result.recall[row, column] == pytest.approx(found / 8)
    assert result.objects == 8
    assert result.proposals == pytest.approx(72 / 3)
    assert result.metrics["AR@100"] == pytest.approx(result.recall[2].mean())
    thresholds, recall = result.curve(100)
    assert recall[0] == result.metrics["recall50@100"]
    assert recall[-1] == pytest.approx(1 / 8)  # the one box that was copied
    assert (thresholds[0], thresholds[-1]) == (0.5, 1)
    assert (recall[:-1] >= recall[1:]).all()
    assert "recall (IoU 0.50)" in str(result)


def test_labels_as_proposals_find_all() -> None:
    targets = [Instances((100, 100), boxes=boxes(4), labels=[0] * 4)]
    result = evaluate_proposals(targets, [t.boxes for t in targets])
    assert all(value == 1 for value in result.metrics.values())


def test_crowds_and_images_without_objects_do_not_count() -> None:
    target = Instances((50, 50), boxes=[[0.0, 0, 9, 9], [10, 10, 40, 40]], labels=[0, 0], crowd=[True, False])
    result = evaluate_proposals([target], [torch.tensor([[10.0, 10, 40, 40]])])
    assert result.objects == 1
    assert result.metrics["AR@50"] == 1
    nothing = evaluate_proposals([Instances((50, 50))], [torch.zeros(0, 4)])
    assert set(nothing.metrics.values()) == {None}
    assert math.isnan(nothing.curve(50)[1][0])


def test_mistakes_are_named() -> None:
    target = Instances((50, 50))
    with pytest.raises(InputError, match="1 targets but proposals for 2 images"):
        evaluate_proposals([target], [torch.zeros(0, 4)] * 2)
    with pytest.raises(InputError, match="each at least 1"):
        evaluate_proposals([target], [torch.zeros(0, 4)], counts=(0, 5))
    with pytest.raises(InputError, match="not at 7"):
        evaluate_proposals([target], [torch.zeros(0, 4)]).curve(7)


def test_images_and_classes_are_ranked_by_recall() -> None:
    """Of four images one is without objects, one found, one found in part, one not at all."""
    names = Classes(["a", "b", "c"])
    two = {"boxes": [[10.0, 10, 30, 30], [50, 50, 90, 90]], "labels": [0, 1]}
    targets = [
        Instances((100, 100), classes=names, source="empty.png"),
        Instances((100, 100), classes=names, source="found.png", **two),
        Instances((100, 100), classes=names, source="half.png", **two),
        Instances((100, 100), classes=names, source="none.png", crowd=[True, False, False], boxes=[[0.0, 0, 9, 9]] * 3,
                  labels=[2, 0, 0]),
    ]  # fmt: skip
    boxes = [torch.tensor(two["boxes"])] * 2
    proposals = [torch.zeros(0, 4), boxes[0], boxes[0][1:], torch.tensor([[50.0, 50, 60, 60]])]
    result = evaluate_proposals(targets, proposals, classes=names)
    assert [result.image_recall[i] for i in (1, 2, 3)] == [1, 0.5, 0]
    assert math.isnan(result.image_recall[0])
    assert result.worst_first().tolist() == [3, 2, 1, 0]
    assert result.found(2).tolist() == [False, True]
    assert result.per_class == {
        "a": {"AR@300": pytest.approx(0.25), "recall50@300": pytest.approx(0.25), "objects": 4},
        "b": {"AR@300": 1.0, "recall50@300": 1.0, "objects": 2},
        "c": {"AR@300": None, "recall50@300": None, "objects": 0},
    }
    assert result.reasons == {f"c/{name}@300": "no object of 'c' in these labels" for name in ("AR", "recall50")}
    assert result.headline == ("AR@300", "recall50@300", "AR@1000", "recall50@1000")
    assert result.names == ["empty.png", "found.png", "half.png", "none.png"]
    values = json.loads(json.dumps(result.to_dict()))
    assert values["image_recall"] == {"empty.png": None, "found.png": 1.0, "half.png": 0.5, "none.png": 0.0}
    table = str(result).splitlines()
    assert [line.split()[0] for line in table[-4:]] == ["class", "b", "a", "c"]
    one = Instances((100, 100), boxes=[[60.0, 60, 90, 90]], labels=[0])
    misses = evaluate_proposals([one, targets[1], targets[1]], [torch.zeros(0, 4)] * 2 + [boxes[0]])
    assert misses.worst_first().tolist() == [1, 0, 2]  # two missed objects are worse than one
    few = evaluate_proposals(targets, proposals, counts=(1, 2))
    assert (few.ranked_at, few.headline, few.per_class) == (2, ("AR@2", "recall50@2"), {})
    with pytest.raises(InputError, match="1 names but 4 images"):
        evaluate_proposals(targets, proposals, names=["x"])


def test_a_proposal_network_answers_with_boxes_that_can_be_measured_and_serve_fast_rcnn() -> None:
    torch.manual_seed(0)
    model = create_model("region_proposal_network_mobilenet_v2", ["a", "b"], min_size=96, max_size=96).eval()
    assert model.task == "proposal"
    image = torch.rand(3, 72, 90)
    target = Instances((72, 90), classes=model.classes, boxes=[[10.0, 10, 60, 60]], labels=[1])
    assert set(model([image], [target])) == {"loss_objectness", "loss_proposal_box"}
    with torch.no_grad():
        answer = model([image])[0]
        assert "labels" not in answer
        assert (answer.scores[:-1] >= answer.scores[1:]).all()
        assert 0 < evaluate_proposals([target], [answer]).metrics["recall50@1000"] <= 1
        fast = create_model("fast_rcnn_mobilenet_v2", ["a", "b"], min_size=96, max_size=96).eval()
        fast.proposer = model.propose
        assert len(fast([image])) == 1


def test_evaluate_measures_a_proposal_network_by_recall() -> None:
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8) for _ in range(2)]
    targets = [Instances((64, 80), boxes=[[10.0, 10, 50, 50]], labels=[1]) for _ in images]
    data = Dataset.from_instances(images, targets, ["a", "b"])
    model = create_model("region_proposal_network_mobilenet_v2", ["a", "b"], min_size=64, max_size=96)
    result = evaluate(model, data, ProposalMeasure, progress=False)
    assert isinstance(result, ProposalResult)
    assert (result.objects, result.images, len(result.predictions or ())) == (2, 2, 2)
    assert result.to_dict()["metrics"] == result.metrics
    assert json.loads(json.dumps(result.to_dict()))["recall"]["50"]["0.50"] == result.recall[0, 0]
