"""YOLO v1 against plain loops written from the paper's formulas: its count, assignment, losses and decoding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.creation import create_model
from sightline.models.detection.yolo_v1 import Outputs, YOLOv1, YOLOv1Settings, yolo_v1, yolo_v1_mobilenet_v2
from sightline.models.preprocess import Preprocess
from sightline.models.weights import load_weights
from sightline.nn.backbones.yolo_v1 import YOLOv1Net
from sightline.nn.heads.yolo_v1 import GridHead
from sightline.runtime.shapes import shapes_only
from sightline.structures import Classes, Instances

NAMES = Classes(["circle", "square", "star"])
SIDE, GRID = 96, 4  # a cell is 24 pixels
WEIGHTS = {
    "loss_centre": 5.0,
    "loss_size": 5.0,
    "loss_objectness": 1.0,
    "loss_no_object": 0.5,
    "loss_classification": 1.0,
}


def tiny(boxes: int = 2, **settings: Any) -> YOLOv1:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 3, 1), nn.ReLU())
    head = GridHead(32, GRID, boxes, len(NAMES), width=32)
    preprocess = Preprocess(fixed_size=(SIDE, SIDE), divisor=1)
    return YOLOv1(NAMES, preprocess, backbone, head, GRID, boxes, YOLOv1Settings(**settings))


def objects(boxes: list[list[float]], labels: list[int]) -> Instances:
    """A target as `assign` takes it: in pixels of the batch, labels 1 … C."""
    return Instances((SIDE, SIDE), boxes=torch.tensor(boxes).reshape(-1, 4), labels=[k + 1 for k in labels])


SEVERAL = objects(
    [[10, 20, 70, 60], [50, 50, 95, 95], [34, 34, 42, 42], [0, 80, 20, 96]],
    [0, 2, 1, 1],  # the centres of the first, (40, 40), and the third, (38, 38), are both in cell (1, 1)
)
TARGETS = [SEVERAL, objects([], []), objects([[90, 2, 96, 8]], [2])]


def random_output(count: int = 3, boxes: int = 2, seed: int = 0) -> Tensor:
    """Outputs of both signs: sides below 0, boxes that overlap nothing, confidences above 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, GRID, GRID, 5 * boxes + len(NAMES), generator=generator) * 0.6 + 0.3


# plain Python, on lists of numbers


def plain_box(cell: list[float], box: int, row: int, column: int) -> list[float]:
    x, y, root_w, root_h = cell[5 * box : 5 * box + 4]
    return [(column + x) / GRID, (row + y) / GRID, max(root_w, 0) ** 2, max(root_h, 0) ** 2]


def plain_iou(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    height = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    inside = max(width, 0) * max(height, 0)
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


def plain_truth(target: Instances) -> dict[tuple[int, int], tuple[list[float], int]]:
    """Cell (row, column) → (cx, cy, w, h) in units of the image, and class, of its first object."""
    found: dict[tuple[int, int], tuple[list[float], int]] = {}
    for (x1, y1, x2, y2), label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
        truth = [(x1 + x2) / 2 / SIDE, (y1 + y2) / 2 / SIDE, (x2 - x1) / SIDE, (y2 - y1) / SIDE]
        found.setdefault((int(truth[1] * GRID), int(truth[0] * GRID)), (truth, label - 1))
    return found


def plain_losses(output: Tensor, targets: list[Instances], boxes: int) -> tuple[dict[str, float], list[str]]:
    """Equation 3 without its weights, and how each object's responsible box was chosen."""
    total, chosen_by = dict.fromkeys(WEIGHTS, 0.0), []
    for image, target in zip(output.tolist(), targets, strict=True):
        truths = plain_truth(target)
        for row in range(GRID):
            for column in range(GRID):
                cell = image[row][column]
                responsible, overlap = None, 0.0
                if (row, column) in truths:
                    truth, label = truths[row, column]
                    found = [plain_box(cell, j, row, column) for j in range(boxes)]
                    ious = [plain_iou(box, truth) for box in found]
                    rmse = [math.sqrt(sum((a - b) ** 2 for a, b in zip(f, truth, strict=True)) / 4) for f in found]
                    responsible = ious.index(max(ious)) if max(ious) > 0 else rmse.index(min(rmse))
                    chosen_by.append("iou" if max(ious) > 0 else "rmse")
                    overlap = ious[responsible]
                    x, y, root_w, root_h = cell[5 * responsible : 5 * responsible + 4]
                    total["loss_centre"] += (x - (truth[0] * GRID - column)) ** 2 + (y - (truth[1] * GRID - row)) ** 2
                    total["loss_size"] += (root_w - math.sqrt(truth[2])) ** 2 + (root_h - math.sqrt(truth[3])) ** 2
                    for k in range(len(NAMES)):
                        total["loss_classification"] += (cell[5 * boxes + k] - (k == label)) ** 2
                for j in range(boxes):
                    confidence = cell[5 * j + 4]
                    if j == responsible:
                        total["loss_objectness"] += (confidence - overlap) ** 2
                    else:
                        total["loss_no_object"] += confidence**2
    return {name: value / len(targets) for name, value in total.items()}, chosen_by


def plain_detections(cells: list[Any], boxes: int, min_score: float, nms_iou: float) -> list[tuple[float, int]]:
    """(score, class) of the boxes of one image that are left, best first."""
    left: list[tuple[float, int]] = []
    for k in range(len(NAMES)):
        candidates = []
        for row in range(GRID):
            for column in range(GRID):
                cell = cells[row][column]
                for j in range(boxes):
                    score = min(max(cell[5 * j + 4], 0), 1) * min(max(cell[5 * boxes + k], 0), 1)
                    x, y, w, h = plain_box(cell, j, row, column)
                    x1, x2 = (min(max(v, 0), 1) for v in (x - w / 2, x + w / 2))
                    y1, y2 = (min(max(v, 0), 1) for v in (y - h / 2, y + h / 2))
                    if score > min_score and x2 > x1 and y2 > y1:
                        candidates.append((score, [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]))
        kept: list[tuple[float, list[float]]] = []
        for score, box in sorted(candidates, key=lambda c: -c[0]):
            if all(plain_iou(box, other) <= nms_iou for _, other in kept):
                kept.append((score, box))
        left += [(score, k) for score, _ in kept]
    return sorted(left, reverse=True)


# the network


def test_the_paper_s_network() -> None:
    with shapes_only():
        model = yolo_v1([str(i) for i in range(20)])
        assert model.network(torch.zeros(2, 3, 448, 448)).shape == (2, 7, 7, 30)
    assert sum(p.numel() for p in model.parameters()) == 271_703_550
    layers = [m for m in model.modules() if not list(m.children())]
    assert sum(isinstance(m, nn.Conv2d) for m in layers) == 24
    kinds = [type(m) for m in layers]
    assert kinds[-3:] == [
        nn.LeakyReLU,
        nn.Dropout,
        nn.Linear,
    ]  # dropout after the first dense layer; the last is linear
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5]


def test_its_first_twenty_convolutions_are_a_classifier() -> None:
    with shapes_only():
        net, model = YOLOv1Net(), yolo_v1(NAMES, hidden=8)
        assert net(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == 20
    assert [(s.channels, s.stride) for s in net.stages] == [(64, 2), (192, 4), (512, 8), (1024, 16), (1024, 32)]
    own = {key for key in model.state_dict() if key.startswith("backbone.")}
    assert {k for k in model.backbone_keys.values() if k is not None} == own
    assert [k for k, v in model.backbone_keys.items() if v is None] == ["classifier.weight", "classifier.bias"]
    classifier = ImageClassifier(NAMES, net)  # as one trains it on images of whole classes
    report = load_weights(model, classifier.state_dict(), "its classifier")
    assert report.loaded == 40
    assert all(key.startswith("head.") for key in report.fresh)


@pytest.mark.parametrize(
    ("build", "side", "grid", "boxes"), [(yolo_v1, 320, 5, 3), (yolo_v1, 128, 7, 1), (yolo_v1_mobilenet_v2, 96, 4, 3)]
)
def test_grid_boxes_and_image_size_are_arguments(build: Any, side: int, grid: int, boxes: int) -> None:
    with shapes_only():
        model = build(NAMES, image_size=side, grid=grid, boxes=boxes)
        outputs = model.split(model.network(torch.zeros(2, 3, side, side)))
    assert model.preprocess.fixed_size == (side, side)
    assert outputs.places.shape == (2, grid, grid, boxes, 4)
    assert outputs.confidences.shape == (2, grid, grid, boxes)
    assert outputs.classes.shape == (2, grid, grid, 3)


def test_the_start_is_of_moderate_size() -> None:
    torch.manual_seed(0)
    model = yolo_v1(NAMES, image_size=64, hidden=64, grid=2).eval()
    with torch.no_grad():
        outputs = model.split(model.network(torch.randn(2, 3, 64, 64)))
    assert float((outputs.places - 0.5).abs().max()) < 1  # 26 layers without normalisation neither fade nor blow up
    assert 1e-3 < float(outputs.classes.std()) < 0.5


def test_imagenet_s_weights_are_its_start(shared: Any) -> None:
    file = shared / "weights" / "mobilenet_v2_imagenet.pth"
    if not file.is_file():
        pytest.skip("the weights are not there")
    report = create_model("yolo_v1_mobilenet_v2", NAMES, weights=file).weights_report
    assert all(name.startswith("head.") for name in report.fresh)
    assert [entry.split()[0] for entry in report.left_out] == ["classifier.1.weight", "classifier.1.bias"]


# assignment


def test_the_cell_that_holds_the_centre() -> None:
    model = tiny()
    labels, places = model.objects_of_cells(objects([[60, 0, 72, 48], [84, 90, 108, 102]], [2, 0]))
    assert labels.tolist() == [[-1] * 4, [-1, -1, 2, -1], [-1] * 4, [-1, -1, -1, 0]]
    # centre (66, 24): 18 of 24 pixels into column 2, at the upper edge of row 1; 12 × 48 of 96 pixels
    assert places[1, 2].tolist() == pytest.approx([0.75, 0, math.sqrt(1 / 8), math.sqrt(1 / 2)])
    assert places[3, 3].tolist() == pytest.approx([1, 1, 0.5, math.sqrt(1 / 8)])  # a centre on the far corner
    assert places[0, 0].tolist() == [0, 0, 0, 0]


def test_a_cell_takes_the_first_of_its_objects() -> None:
    labels, places = tiny().objects_of_cells(SEVERAL)
    assert int(labels[1, 1]) == 0  # not the third object, of class 1
    assert places[1, 1, 2:].square().tolist() == pytest.approx([60 / 96, 40 / 96])
    assert int((labels >= 0).sum()) == 3


def test_an_object_has_one_responsible_box() -> None:
    model = tiny(boxes=3)
    output = random_output(boxes=3)
    assigned = model.assign(model.split(output), TARGETS)
    assert torch.equal(assigned.responsible.sum(-1) == 1, assigned.labels >= 0)
    assert int(assigned.responsible.sum()) == 4


def test_the_responsible_box_is_of_the_highest_iou_else_the_nearest() -> None:
    model = tiny(boxes=3)
    target = objects([[24, 24, 48, 48]], [0])  # cell (1, 1): (0.5, 0.5, √¼, √¼)
    places = torch.zeros(1, GRID, GRID, 3, 4)
    outputs = Outputs(places, torch.zeros(1, GRID, GRID, 3), torch.zeros(1, GRID, GRID, 3))

    def chosen(*boxes: list[float]) -> int:
        places[0, 1, 1] = torch.tensor(boxes)
        return int(model.assign(outputs, [target]).responsible[0, 1, 1].int().argmax())

    assert chosen([0.5, 0.5, 0.7, 0.7], [0.5, 0.5, 0.45, 0.5], [0.4, 0.5, 0.4, 0.4]) == 1
    assert chosen([0.5, 0.5, 0.9, 0.9], [0.5, 0.5, 1.0, 1.0], [0.5, 0.6, 0.5, 0.5]) == 2
    # none overlaps: the second lies 2 cells away, the third 3, the first has no height and lies far below
    assert chosen([0.5, 3.5, 0.5, 0.0], [2.5, 0.5, 0.5, 0.5], [3.5, 0.5, 0.5, 0.5]) == 1
    assert chosen([2.5, 0.5, 0.5, 0.5], [2.5, 0.5, 0.5, 0.5], [2.5, 0.5, 0.5, 0.5]) == 0
    assert chosen([0.5, 0.5, -0.5, 0.5], [0.5, 0.5, 0.01, 0.5], [0.5, 0.5, -0.5, -0.5]) == 1  # a negative root is 0


# losses


@pytest.mark.parametrize("boxes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_each_loss_against_a_plain_loop(boxes: int, seed: int) -> None:
    model = tiny(boxes)
    outputs = model.split(random_output(boxes=boxes, seed=seed))
    losses = model.losses(outputs, model.assign(outputs, TARGETS))
    plain, chosen_by = plain_losses(random_output(boxes=boxes, seed=seed), TARGETS, boxes)
    assert len(chosen_by) == 4  # of five objects: two share a cell
    assert list(losses) == list(WEIGHTS)
    for name, weight in WEIGHTS.items():
        assert float(losses[name]) == pytest.approx(weight * plain[name], rel=1e-4), name


def test_the_loop_saw_both_rules() -> None:
    seen = [rule for seed in range(5) for rule in plain_losses(random_output(seed=seed), TARGETS, 2)[1]]
    assert {"iou", "rmse"} <= set(seen)


def test_the_model_s_losses_are_these() -> None:
    model = tiny()
    images = [torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8) for _ in TARGETS]
    targets = [t.replace(labels=t.labels - 1) for t in TARGETS]
    losses = model.eval()(images, targets)
    batch, _ = model.prepare(images, None)
    with torch.no_grad():
        plain, _ = plain_losses(model.network(batch.tensor), TARGETS, 2)
    for name, weight in WEIGHTS.items():
        assert float(losses[name].detach()) == pytest.approx(weight * plain[name], rel=1e-4), name


def test_each_loss_has_its_weight() -> None:
    outputs = tiny().split(random_output())
    once = tiny(coordinates=1, objects=1, no_objects=1, classes=1)
    other = tiny(coordinates=2, objects=3, no_objects=5, classes=7)
    a, b = (m.losses(outputs, m.assign(outputs, TARGETS)) for m in (once, other))
    ratios = {name: float(b[name] / a[name]) for name in a}
    assert ratios == pytest.approx(
        {"loss_centre": 2, "loss_size": 2, "loss_objectness": 3, "loss_no_object": 5, "loss_classification": 7}
    )


def test_without_objects_only_confidence_costs() -> None:
    model = tiny()
    output = random_output(2).requires_grad_()
    outputs = model.split(output)
    losses = model.losses(outputs, model.assign(outputs, [objects([], [])] * 2))
    expected = 0.5 * float(outputs.confidences.detach().square().sum()) / 2
    assert float(losses.pop("loss_no_object").detach()) == pytest.approx(expected)
    assert [float(v.detach()) for v in losses.values()] == [0, 0, 0, 0]
    sum(losses.values()).backward()
    assert output.grad is not None
    assert float(output.grad.abs().sum()) == 0


def test_the_iou_is_a_target_and_passes_no_gradient_on() -> None:
    model = tiny()
    output = random_output().requires_grad_()
    outputs = model.split(output)
    model.losses(outputs, model.assign(outputs, TARGETS))["loss_objectness"].backward()
    assert output.grad is not None
    reached = output.grad.abs().sum((0, 1, 2)).nonzero().flatten().tolist()
    assert set(reached) <= {4, 9}  # the confidences of the two boxes


def test_a_negative_root_is_drawn_back() -> None:
    model = tiny(boxes=1)
    output = torch.zeros(1, GRID, GRID, 8)
    output[..., 2:4] = -0.5
    output.requires_grad_()
    outputs = model.split(output)
    model.losses(outputs, model.assign(outputs, [objects([[24, 24, 48, 48]], [0])]))["loss_size"].backward()
    assert output.grad is not None
    assert (output.grad[0, 1, 1, 2:4] < 0).all()


# decoding


@pytest.mark.parametrize("seed", range(3))
def test_detections_against_a_plain_loop(seed: int) -> None:
    model = tiny(min_score=0.05, nms_iou=0.4)
    output = random_output(2, seed=seed)
    for cells, found in zip(output.tolist(), model.decode(model.split(output), [(SIDE, SIDE)] * 2), strict=True):
        plain = plain_detections(cells, 2, 0.05, 0.4)
        assert 5 < len(plain) < 100
        assert found["scores"].tolist() == pytest.approx([score for score, _ in plain], rel=1e-5)
        assert sorted(found["labels"].tolist()) == sorted(k + 1 for _, k in plain)


def test_what_is_assigned_is_decoded() -> None:
    model = tiny(min_score=0.5)
    target = objects([[10, 20, 70, 60], [50, 50, 95, 95], [0, 80, 20, 96]], [0, 2, 1])
    output = torch.zeros(1, GRID, GRID, 13)
    labels, places = model.objects_of_cells(target)
    for row, column in (labels >= 0).nonzero().tolist():
        output[0, row, column, 5:9] = places[row, column]
        output[0, row, column, 9] = 0.9
        output[0, row, column, 10 + int(labels[row, column])] = 1
    outputs = model.split(output)
    found = model.decode(outputs, [(SIDE, SIDE)])[0]
    order = found["boxes"][:, 1].argsort()
    torch.testing.assert_close(found["boxes"][order], target.boxes, atol=1e-4, rtol=1e-5)
    assert found["labels"][order].tolist() == [1, 3, 2]
    assert found["scores"].tolist() == pytest.approx([0.9] * 3)
    losses = model.losses(outputs, model.assign(outputs, [target]))
    assert float(losses["loss_objectness"]) == pytest.approx(3 * 0.1**2, rel=1e-4)  # the IoU is 1, the confidence 0.9
    del losses["loss_objectness"]
    assert [float(v) for v in losses.values()] == pytest.approx([0, 0, 0, 0], abs=1e-9)


def test_suppression_is_class_by_class() -> None:
    model = tiny(boxes=1)
    output = torch.zeros(1, GRID, GRID, 8)
    output[0, 1, 1] = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.8, 0.9, 0.5, 0.0])
    output[0, 1, 2] = torch.tensor([0.0, 0.5, 0.5, 0.5, 0.7, 0.9, 0.0, 0.0])  # nearly the same box
    output[0, 3, 0] = torch.tensor([0.5, 0.5, -0.5, 0.5, 0.9, 0.9, 0.0, 0.0])  # no width
    output[0, 0, 0] = torch.tensor([0.5, 0.5, 0.5, 0.5, -0.9, -0.9, 0.0, 0.0])  # two wrongs are no right
    found = model.decode(model.split(output), [(SIDE, SIDE)])[0]
    assert found["labels"].tolist() == [1, 2]
    assert found["scores"].tolist() == pytest.approx([0.72, 0.4])


# the whole


def test_it_learns_two_images() -> None:
    model = tiny()
    boxes = [[[8.0, 16.0, 40.0, 56.0], [60.0, 52.0, 90.0, 88.0]], [[34.0, 24.0, 78.0, 68.0]]]
    labels = [[0, 2], [1]]
    images = [torch.full((3, SIDE, SIDE), 60, dtype=torch.uint8) for _ in boxes]
    for image, own, kinds in zip(images, boxes, labels, strict=True):
        for (x1, y1, x2, y2), label in zip(own, kinds, strict=True):
            image[label, int(y1) : int(y2), int(x1) : int(x2)] = 250
    targets = [Instances((SIDE, SIDE), classes=NAMES, boxes=b, labels=k) for b, k in zip(boxes, labels, strict=True)]
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    for result, own, kinds in zip(model(images), boxes, labels, strict=True):
        best = result[result.scores > 0.5]
        order = best.boxes[:, 0].argsort()
        assert best.labels[order].tolist() == kinds
        torch.testing.assert_close(best.boxes[order], torch.tensor(own), atol=5, rtol=0)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match="image_size is 450, but must be a multiple of 64, such as 448"):
        yolo_v1(NAMES, image_size=450)
    with pytest.raises(InputError, match="image_size is 0, but must be a multiple of 32, such as 32"):
        yolo_v1_mobilenet_v2(NAMES, image_size=0)
    with pytest.raises(InputError, match="grid is 7 and boxes 0, but a grid has at least one cell, and a cell one box"):
        yolo_v1(NAMES, boxes=0)
