"""PP-YOLO: assignment, losses and decoding against loops, what each switch changes, the paper's counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.detection.pp_yolo import (
    PPYOLO,
    Outputs,
    PPYOLOSettings,
    pp_yolo_mobilenet_v2,
    pp_yolo_resnet18_vd,
    pp_yolo_resnet50_vd,
)
from sightline.models.preprocess import Preprocess
from sightline.models.weights import load_weights
from sightline.nn.backbones.features import FeatureMaps, Stage
from sightline.nn.backbones.resnet_vd import resnet18_vd
from sightline.nn.heads.yolo_v3 import Places, YOLOv3Head
from sightline.nn.layers import ConvNormAct, CoordConv, DeformConv2d, DropBlock, SpatialPyramidPooling
from sightline.nn.necks.yolo_v3 import YOLOv3Neck
from sightline.ops.matrix_nms import matrix_nms
from sightline.ops.suppression import batched_nms
from sightline.runtime.shapes import shapes_only
from sightline.structures import ImageBatch, Instances

NAMES = ["circle", "square", "star"]
ANCHORS = (((6, 6), (8, 16)), ((24, 16), (40, 48)))
SIZE = 64


def tiny(
    settings: PPYOLOSettings | None = None, *, iou_aware: bool = True, pairs: int = 1, seed: int = 0, **neck: Any
) -> PPYOLO:
    """The same parts, small: strides of 8 and 16, two anchors each."""
    torch.manual_seed(seed)
    layers = {str(i): ConvNormAct(3 if i == 0 else 8, 8, 3, 2) for i in range(4)}
    backbone = FeatureMaps(layers, [Stage("2", 8, 8), Stage("3", 8, 16)])
    joined = YOLOv3Neck(backbone.channels, 16, pairs, **neck)
    head = YOLOv3Head(joined.channels, [2, 2], 3, iou_aware)
    preprocess = Preprocess(fixed_size=(SIZE, SIZE), divisor=16)
    return PPYOLO(NAMES, preprocess, backbone, joined, head, ANCHORS, settings)


def targets() -> list[Instances]:
    boxes = [[4.0, 6, 11, 12], [20, 20, 62, 60], [21, 3, 45, 20], [5, 7, 10, 12.5]]  # the first and last share a place
    return [
        Instances((SIZE, SIZE), boxes=boxes, labels=[1, 3, 2, 2]),
        Instances((SIZE, SIZE)),
        Instances((48, SIZE), boxes=[[50.0, 40, 64, 48], [0, 0, 0, 0]], labels=[1, 1]),
    ]


def random_outputs(model: PPYOLO, images: int = 3, seed: int = 0) -> tuple[Outputs, Places]:
    batch = ImageBatch(torch.zeros(images, 3, SIZE, SIZE), [(SIZE, SIZE)] * images, [(SIZE, SIZE)] * images)
    places = model.places(batch)
    raw = torch.randn(images, len(places), 9, generator=torch.Generator().manual_seed(seed))
    raw[..., 2:4] *= 0.5
    return Outputs(raw[..., :4], raw[..., 4], raw[..., 5] if model.head.iou_aware else None, raw[..., 6:]), places


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def place_list() -> list[tuple[int, int, int, int, int]]:
    """Level, stride, row, column, anchor of each place, in order."""
    return [
        (level, step, row, column, anchor)
        for level, step in ((0, 8), (1, 16))
        for row in range(SIZE // step)
        for column in range(SIZE // step)
        for anchor in range(2)
    ]


def boxes_by_loop(outputs: Outputs, grid: float) -> list[list[list[float]]]:
    found = []
    for numbers in outputs.places.tolist():
        boxes = []
        for (level, step, row, column, anchor), (x, y, w, h) in zip(place_list(), numbers, strict=True):
            cx = (column + grid * sigmoid(x) - (grid - 1) / 2) * step
            cy = (row + grid * sigmoid(y) - (grid - 1) / 2) * step
            width, height = (side * math.exp(t) for side, t in zip(ANCHORS[level][anchor], (w, h), strict=True))
            boxes.append([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2])
        found.append(boxes)
    return found


def matches_by_loop(wanted: list[Instances]) -> list[dict[int, int]]:
    """Place → object, of each image."""
    found = []
    for target in wanted:
        own: dict[int, int] = {}
        for number, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
            shapes = [(level, a, *ANCHORS[level][a]) for level in range(2) for a in range(2)]
            level, anchor, _, _ = max(shapes, key=lambda s: iou([0, 0, x2 - x1, y2 - y1], [0, 0, s[2], s[3]]))
            step = (8, 16)[level]
            cell = [min(int(c // step), SIZE // step - 1) for c in ((x1 + x2) / 2, (y1 + y2) / 2)]
            own[place_list().index((level, step, cell[1], cell[0], anchor))] = number
        found.append(own)
    return found


@pytest.mark.parametrize("grid", [1.0, 1.05])
def test_boxes_are_those_of_a_loop(grid: float) -> None:
    model = tiny(PPYOLOSettings(grid=grid))
    outputs, places = random_outputs(model)
    torch.testing.assert_close(model.boxes(outputs, places), torch.tensor(boxes_by_loop(outputs, grid)))


def test_a_centre_on_the_cell_s_border_needs_no_infinite_number() -> None:
    outputs, places = random_outputs(tiny())
    outputs = outputs._replace(places=torch.zeros_like(outputs.places))
    for grid, x in ((1.05, math.log(0.025 / 1.025)), (2.0, math.log(0.5 / 1.5))):
        outputs.places[..., 0] = x  # σ(x) = (α − 1) / 2α
        model = tiny(PPYOLOSettings(grid=grid))
        boxes = model.boxes(outputs, places)
        centres = (boxes[0, :, 0] + boxes[0, :, 2]) / 2
        torch.testing.assert_close(centres, places.cells[:, 0] * places.strides, atol=1e-4, rtol=1e-5)
    outputs.places[..., 2:] = 1e4  # an untrained network's box is large, not infinite
    assert model.boxes(outputs, places).isfinite().all()


def test_assignment_is_that_of_a_loop() -> None:
    model = tiny(PPYOLOSettings(ignore_iou=0.3))
    outputs, places = random_outputs(model)
    boxes = model.boxes(outputs, places)
    matches, ignored = model.assign(boxes, places, targets())
    expected = matches_by_loop(targets())
    assert [len(own) for own in expected] == [3, 0, 2]
    by_loop = boxes_by_loop(outputs, 1.05)
    for i, target in enumerate(targets()):
        assert {p: int(m) for p, m in enumerate(matches[i].tolist()) if m >= 0} == expected[i]
        for p, box in enumerate(by_loop[i]):
            best = max((iou(box, b) for b in target.boxes.tolist()), default=0.0)
            assert bool(ignored[i, p]) == (best > 0.3 and p not in expected[i])
    assert 3 < int(ignored[0].sum()) < 40
    assert not ignored[1].any()


def bce(logit: float, target: float) -> float:
    p = sigmoid(logit)
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


@pytest.mark.parametrize("grid", [1.0, 1.05])
def test_each_loss_is_that_of_a_loop(grid: float) -> None:
    settings = PPYOLOSettings(grid=grid, ignore_iou=0.3, iou=2.0, iou_aware=3.0)
    model = tiny(settings)
    outputs, places = random_outputs(model, seed=1)
    boxes, wanted = model.boxes(outputs, places), targets()
    losses = model.losses(outputs, boxes, places, *model.assign(boxes, places, wanted), wanted)
    expected = dict.fromkeys(losses, 0.0)
    assert set(expected) == {
        f"loss_{name}" for name in ("centre", "size", "objectness", "classification", "iou", "iou_aware")
    }
    assert outputs.iou is not None
    for i, (own, found) in enumerate(zip(matches_by_loop(wanted), boxes_by_loop(outputs, grid), strict=True)):
        height, width = wanted[i].image_size
        for p, (level, step, row, column, anchor) in enumerate(place_list()):
            if p not in own:
                best = max((iou(found[p], b) for b in wanted[i].boxes.tolist()), default=0.0)
                expected["loss_objectness"] += 0 if best > 0.3 else bce(float(outputs.objectness[i, p]), 0)
                continue
            expected["loss_objectness"] += bce(float(outputs.objectness[i, p]), 1)
            box, label = wanted[i].boxes[own[p]].tolist(), int(wanted[i].labels[own[p]])
            w, h = max(box[2] - box[0], 0.01), max(box[3] - box[1], 0.01)
            factor = 2 - w * h / (width * height)
            tx, ty, tw, th = outputs.places[i, p].tolist()
            for t, centre, cell in ((tx, (box[0] + box[2]) / 2, column), (ty, (box[1] + box[3]) / 2, row)):
                inside = centre / step - cell  # = α σ(t) − (α − 1) / 2
                expected["loss_centre"] += factor * bce(t, (inside + (grid - 1) / 2) / grid)
            for t, side, own_side in ((tw, w, ANCHORS[level][anchor][0]), (th, h, ANCHORS[level][anchor][1])):
                expected["loss_size"] += factor * abs(t - math.log(side / own_side))
            for k in range(3):
                expected["loss_classification"] += bce(float(outputs.classes[i, p, k]), float(k == label - 1))
            overlap = iou(found[p], box)
            expected["loss_iou"] += 2.0 * factor * (1 - overlap)
            expected["loss_iou_aware"] += 3.0 * bce(float(outputs.iou[i, p]), overlap)
    for name, loss in losses.items():
        assert float(loss) == pytest.approx(expected[name] / 3, rel=1e-4), name


def test_losses_are_least_at_the_objects() -> None:
    """Outputs that say just what the targets are cost nothing but the entropy of what lies between 0 and 1."""
    model = tiny(PPYOLOSettings())
    outputs, places = random_outputs(model, 1)
    wanted = targets()[:1]
    matches, ignored = model.assign(model.boxes(outputs, places), places, wanted)
    [ids] = (matches[0] >= 0).nonzero().unbind(1)
    boxes, labels = wanted[0].boxes[matches[0, ids]], wanted[0].labels[matches[0, ids]]
    perfect = Outputs(*(torch.full_like(t, -30.0) for t in outputs if t is not None))
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    inside = (centres / places.strides[ids, None] - places.cells[ids] + 0.025) / 1.05
    perfect.places[0, ids] = torch.cat([inside.logit(), (sides / places.anchors[ids]).log()], 1)
    perfect.objectness[0, ids] = perfect.iou[0, ids] = 30.0
    perfect.classes[0, ids, labels - 1] = 30.0
    for t in perfect:
        t.requires_grad_()
    found = model.boxes(perfect, places)
    torch.testing.assert_close(found[0, ids], boxes, atol=1e-3, rtol=1e-4)
    losses = model.losses(perfect, found, places, matches, ignored, wanted)
    for name in ("size", "objectness", "classification", "iou", "iou_aware"):
        assert float(losses[f"loss_{name}"].detach()) == pytest.approx(0, abs=1e-3), name
    losses["loss_centre"].backward()
    assert float(perfect.places.grad.abs().max()) < 1e-4


@pytest.mark.parametrize("suppression", ["linear", "gaussian", "greedy"])
@pytest.mark.parametrize("iou_aware", [True, False])
def test_decoding_is_that_of_a_loop(suppression: str, iou_aware: bool) -> None:
    settings = PPYOLOSettings(
        suppression=suppression, min_score=0.2, iou_power=0.3, candidates=60, max_detections=20, nms_iou=0.5
    )
    model = tiny(settings, iou_aware=iou_aware)
    outputs, places = random_outputs(model, 2)
    sizes = [(SIZE, SIZE), (40, 50)]
    results = model.decode(outputs, places, sizes)
    for i, ((height, width), result) in enumerate(zip(sizes, results, strict=True)):
        rows = []
        for p, box in enumerate(boxes_by_loop(outputs, 1.05)[i]):
            box = [min(max(v, 0), limit) for v, limit in zip(box, (width, height) * 2, strict=True)]
            objectness = sigmoid(float(outputs.objectness[i, p]))
            if outputs.iou is not None:
                objectness = objectness**0.7 * sigmoid(float(outputs.iou[i, p])) ** 0.3
            for k in range(3):
                rows.append((sigmoid(float(outputs.classes[i, p, k])) * objectness, k, box))
        rows = [row for row in sorted(rows, key=lambda row: -row[0])[:60] if row[0] > 0.2]
        score, label = torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])
        boxes = torch.tensor([r[2] for r in rows])
        if suppression == "greedy":
            keep = batched_nms(boxes, score, label, 0.5)
            score = score[keep]
        else:
            keep, score = matrix_nms(boxes, score, label, suppression, score_threshold=0.2)
        assert len(score) > 5
        torch.testing.assert_close(result["scores"], score[:20], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(result["boxes"], boxes[keep[:20]], atol=1e-3, rtol=1e-5)
        assert torch.equal(result["labels"], label[keep[:20]] + 1)


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(m, kind) for m in model.modules())


def picture_and_target(model: PPYOLO) -> tuple[Tensor, Instances]:
    image = torch.zeros(3, SIZE, SIZE)
    image[0, 10:40, 20:50] = 1
    return image, Instances((SIZE, SIZE), classes=model.classes, boxes=[[20.0, 10, 50, 40]], labels=[0])


SWITCHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"coord_conv": True}, {}),
    ({"spp": True, "pairs": 2}, {}),
    ({"spp": True, "pairs": 0}, {}),
    ({"drop_block": (0.2, 3)}, {}),
    ({"iou_aware": False}, {}),
    ({}, {"grid": 1.0, "iou": 0.0, "suppression": "greedy"}),
    ({}, {"suppression": "gaussian"}),
]


@pytest.mark.parametrize(("parts", "numbers"), SWITCHES)
def test_with_each_switch_it_trains(parts: dict[str, Any], numbers: dict[str, Any]) -> None:
    model = tiny(PPYOLOSettings(**numbers), **parts).train()
    image, target = picture_and_target(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    totals = []
    for _ in range(20):
        optimizer.zero_grad()
        losses = model([image, image], [target, target])
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        totals.append(float(sum(losses.values()).detach()))
    assert totals[-1] < totals[0] / 2
    assert ("loss_iou" in losses) == (numbers.get("iou") != 0)
    assert ("loss_iou_aware" in losses) == parts.get("iou_aware", True)
    assert len(model.eval()([image])[0]) > 0


def test_each_switch_changes_what_it_should() -> None:
    with shapes_only():
        full = pp_yolo_resnet50_vd(NAMES)
        bare = pp_yolo_resnet50_vd(
            NAMES, deformable=False, coord_conv=False, spp=False, drop_block=False, iou_aware=False
        )
    kinds = {DeformConv2d: 3, CoordConv: 3 * 4 + 2, SpatialPyramidPooling: 1, DropBlock: 3}
    assert {kind: count(full, kind) for kind in kinds} == kinds
    assert {kind: count(bare, kind) for kind in kinds} == dict.fromkeys(kinds, 0)
    for i, layer in enumerate(full.head.predictors):
        assert layer.out_channels == 3 * (6 + 3)
        assert bare.head.predictors[i].out_channels == 3 * (5 + 3)
    assert pp_yolo_resnet50_vd.__kwdefaults__["image_size"] == 608


# Table 2 of the paper, rows B, E, H and I: parameters in units of 2^20, those of the running statistics among them.
@pytest.mark.parametrize(
    ("published", "switches"),
    [
        (43.89, {"iou_aware": False, "coord_conv": False, "spp": False, "drop_block": False}),
        (43.90, {"coord_conv": False, "spp": False}),
        (43.93, {"spp": False}),
        (44.93, {}),
    ],
)
def test_parameters_are_the_paper_s(published: float, switches: dict[str, bool]) -> None:
    with shapes_only():
        model = pp_yolo_resnet50_vd([str(i) for i in range(80)], **switches)
    numbers = [v.numel() for key, v in model.state_dict().items() if not key.endswith("num_batches_tracked")]
    assert round(sum(numbers) / 2**20, 2) == published
    if not switches:
        assert sum(p.numel() for p in model.parameters()) == 47_046_327


def test_drop_block_drops_only_while_training() -> None:
    model = tiny(drop_block=(0.5, 3))
    image = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        model.train().network(image)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        assert not torch.equal(model.network(image).places, model.network(image).places)
        model.eval()
        assert torch.equal(model.network(image).places, model.network(image).places)


def test_weights_of_the_plain_classifier_load_into_the_deformable_backbone() -> None:
    plain = resnet18_vd()
    model = pp_yolo_resnet18_vd(NAMES, image_size=64, deformable=True)
    report = load_weights(model, plain.state_dict(), "resnet18_vd")
    assert [entry.split()[0] for entry in report.left_out] == ["fc.weight", "fc.bias"]
    state = model.state_dict()
    assert torch.equal(state["backbone.layer4.1.conv2.weight"], plain.state_dict()["layer4.1.conv2.weight"])
    assert torch.equal(state["backbone.conv1.6.weight"], plain.state_dict()["conv1.6.weight"])
    assert not state["backbone.layer4.1.conv2.offset.weight"].any()


@pytest.mark.parametrize(
    "build", [pp_yolo_resnet50_vd, pp_yolo_resnet18_vd, pp_yolo_mobilenet_v2], ids=lambda b: b.__name__
)
def test_image_sizes_that_are_no_multiple_of_the_stride(build: Any) -> None:
    with shapes_only():
        for size, words in ((100, "give 96 or 128"), (16, "give 32 or 64")):
            with pytest.raises(InputError, match=f"image_size is {size}, but it must be a multiple of 32.*{words}"):
                build(NAMES, image_size=size)
        build(NAMES, image_size=96)
    with pytest.raises(InputError, match=r"the batch is 64×72 pixels.*multiples of 16.*pad it to 64×80"):
        tiny().network(torch.zeros(1, 3, 64, 72))


def test_anchors_of_one_s_own() -> None:
    with shapes_only():
        model = pp_yolo_mobilenet_v2(NAMES, anchors=[[[8, 8]], [[20, 30], [30, 20]], [[60, 60]]])
    assert [layer.out_channels for layer in model.head.predictors] == [9, 18, 9]
    assert model.anchor_shapes((320, 320)).shape == (4, 2)
    for wrong in ([[[8, 8]]], [[[8, 8]], [], [[60, 60]]], [[[8, 8]], [[20, 0]], [[60, 60]]], [[[8]], [[2]], [[6]]]):
        with pytest.raises(InputError, match="but must be 3 lists, one per level from fine to coarse, of pairs"):
            pp_yolo_mobilenet_v2(NAMES, anchors=wrong)


def test_settings_that_no_model_can_have() -> None:
    with pytest.raises(InputError, match="suppression is 'soft', but must be 'linear', 'gaussian'"):
        PPYOLOSettings(suppression="soft")
    with pytest.raises(InputError, match=r"grid is 0\.5, but must be at least 1"):
        PPYOLOSettings(grid=0.5)
    with pytest.raises(InputError, match="iou_power is 2, but must lie between 0 and 1"):
        PPYOLOSettings(iou_power=2)


def test_the_predicted_iou_counts_to_the_power_of_two_fifths() -> None:
    """Class 0.8, objectness 1/2, IoU 1/4: 0.8 · (1/2)^0.6 · (1/4)^0.4 = 0.8 · (1/2)^1.4, with the authors' α of 0.4."""
    model = tiny(PPYOLOSettings())
    outputs, _ = random_outputs(model, 1)
    said = {"objectness": 0.5, "iou": 0.25, "classes": 0.8}
    same = {name: torch.full_like(getattr(outputs, name), math.log(p / (1 - p))) for name, p in said.items()}
    assert model.scores(outputs._replace(**same))[0, 0].tolist() == pytest.approx([0.8 * 0.5**1.4] * 3)
