"""YOLO v2: its losses, assignment and decoding against loops over boxes, its sizes, and the published counts."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.yolo_v2 import COCO_ANCHORS, VOC_ANCHORS, YOLOv2, YOLOv2Settings
from sightline.models.saving import save
from sightline.nn.layers import DarknetReorg
from sightline.ops.suppression import batched_nms
from sightline.runtime.shapes import shapes_only
from sightline.structures import Instances
from tests.models.fitting import fitted_results

NAMES = ["circle", "square", "star"]
ANCHORS = [[0.5, 0.6], [1.5, 1.0], [1.0, 2.5]]


def build(**arguments) -> YOLOv2:
    torch.manual_seed(0)
    given = {"image_size": 96, "anchors": ANCHORS, "sizes": []} | arguments
    return create_model("yolo_v2_mobilenet_v2", NAMES, **given)


def raw(seed: int = 1, images: int = 2, side: int = 3) -> Tensor:
    return torch.randn(images, 3 * (5 + 3), side, side, generator=torch.Generator().manual_seed(seed))


def targets() -> list[Instances]:
    """In pixels of a batch of 96 × 96; labels as outputs of the head, 1 … K; the second object shares the first's
    cell and anchor."""
    boxes = torch.tensor([[4.0, 2, 30, 24], [6, 3, 30, 26], [40, 10, 92, 94], [70, 66, 96, 96]])
    return [
        Instances((96, 96), boxes=boxes, labels=[1, 2, 3, 1]),
        Instances((96, 96), boxes=torch.zeros(0, 4), labels=[]),
    ]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def iou(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(w, 0) * max(h, 0)
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def predicted(values: list[float], row: int, column: int, anchor: list[float]) -> list[float]:
    """The corners, in cells, of a box that the five numbers stand for."""
    x, y = sigmoid(values[0]) + column, sigmoid(values[1]) + row
    w, h = anchor[0] * math.exp(values[2]), anchor[1] * math.exp(values[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def naive_losses(tensor: Tensor, wanted: list[Instances], s: YOLOv2Settings, prior: bool) -> dict[str, float]:
    n, _, height, width = tensor.shape
    terms = dict.fromkeys(("box", "objectness", "no_object", "classification", "prior"), 0.0)
    for image in range(n):
        boxes = [[v / 32 for v in box] for box in wanted[image].boxes.tolist()]
        answers: dict[tuple[int, int, int], int] = {}
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            cell = min(int((y1 + y2) / 2), height - 1), min(int((x1 + x2) / 2), width - 1)
            likeness = [iou([0, 0, x2 - x1, y2 - y1], [0, 0, *shape]) for shape in ANCHORS]
            answers.setdefault((*cell, likeness.index(max(likeness))), i)
        for row in range(height):
            for column in range(width):
                for a, anchor in enumerate(ANCHORS):
                    v = tensor[image, a * 8 : a * 8 + 8, row, column].tolist()
                    x, y, confidence = sigmoid(v[0]), sigmoid(v[1]), sigmoid(v[4])
                    box = predicted(v, row, column, anchor)
                    overlaps = [iou(box, other) for other in boxes]
                    if (row, column, a) not in answers:
                        terms["prior"] += ((x - 0.5) ** 2 + (y - 0.5) ** 2 + v[2] ** 2 + v[3] ** 2) / 2
                        if max(overlaps, default=0) <= s.ignore_iou:
                            terms["no_object"] += confidence**2 / 2
                        continue
                    i = answers[row, column, a]
                    x1, y1, x2, y2 = boxes[i]
                    truth = [(x1 + x2) / 2 - column, (y1 + y2) / 2 - row]
                    truth += [math.log((x2 - x1) / anchor[0]), math.log((y2 - y1) / anchor[1])]
                    terms["box"] += sum((p - t) ** 2 for p, t in zip([x, y, *v[2:4]], truth, strict=True)) / 2
                    terms["objectness"] += (confidence - (overlaps[i] if s.rescore else 1)) ** 2 / 2
                    label = int(wanted[image].labels[i]) - 1
                    terms["classification"] += math.log(sum(map(math.exp, v[5:]))) - v[5 + label]
    weights = {"box": s.coordinates, "objectness": s.objects, "no_object": s.no_objects}
    weights["classification"] = s.classes
    weights["prior"] = s.prior if prior else 0.0
    return {f"loss_{name}": weights[name] * value / n for name, value in terms.items()}


@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("seen", [0, 50_000])
def test_each_loss_equals_a_loop_over_all_boxes(rescore: bool, seen: int) -> None:
    settings = YOLOv2Settings(rescore=rescore, ignore_iou=0.2)
    model = build(settings=settings)
    model.seen[0] = seen
    tensor = raw()
    outputs = model.split(tensor)
    losses = {name: float(loss) for name, loss in model.losses(outputs, model.assign(outputs, targets())).items()}
    assert losses == pytest.approx(naive_losses(tensor, targets(), settings, seen == 0), rel=1e-4)
    assert (losses["loss_prior"] > 0) == (seen == 0)


def test_weights_are_the_paper_s_and_the_prior_can_be_left_out() -> None:
    settings = YOLOv2Settings()
    assert (settings.coordinates, settings.objects, settings.no_objects, settings.classes) == (1, 5, 1, 1)
    assert (settings.ignore_iou, settings.prior_images) == (0.6, 12_800)
    outputs = build().split(raw())
    model = build(settings=YOLOv2Settings(prior=0))
    assert "loss_prior" not in model.losses(outputs, model.assign(outputs, targets()))


def test_a_box_learns_where_it_is_and_of_two_in_a_cell_the_first_is_learnt() -> None:
    model = build()
    assigned = model.assign(model.split(raw()), targets())
    places = torch.stack(assigned.places, 1).tolist()
    # by hand: centres at (17, 13), (18, 14.5), (66, 52) and (83, 81) pixels, cells of 32
    assert places == [[0, 0, 0, 0], [0, 1, 2, 2], [0, 2, 2, 1]]
    assert assigned.labels.tolist() == [0, 2, 0]
    torch.testing.assert_close(assigned.centres[0], torch.tensor([17 / 32, 13 / 32]))
    torch.testing.assert_close(assigned.sides[0], torch.tensor([26 / 32 / 0.5, 22 / 32 / 0.6]).log())
    assert not assigned.empty[0, 0, 0, 0]
    assert assigned.empty[1].all()


def test_an_object_on_the_far_border_and_one_without_width_are_safe() -> None:
    model = build()
    outputs = model.split(raw(images=1))
    odd = Instances((96, 96), boxes=torch.tensor([[96.0, 96, 96, 96], [0, 10, 0, 40]]), labels=[1, 2])
    losses = model.losses(outputs, model.assign(outputs, [odd]))
    assert all(loss.isfinite() for loss in losses.values())


def test_decoding_equals_a_loop() -> None:
    model = build(settings=YOLOv2Settings(min_score=0.05, max_detections=7))
    tensor = raw(seed=4)
    for image, found in enumerate(model.decode(model.split(tensor), [(96, 96), (96, 96)])):
        boxes, labels, scores = [], [], []
        for row in range(3):
            for column in range(3):
                for a, anchor in enumerate(ANCHORS):
                    v = tensor[image, a * 8 : a * 8 + 8, row, column].tolist()
                    box = [min(max(32 * c, 0), 96) for c in predicted(v, row, column, anchor)]
                    total = sum(map(math.exp, v[5:]))
                    for label in range(3):
                        score = sigmoid(v[4]) * math.exp(v[5 + label]) / total
                        if score > 0.05:
                            boxes.append(box)
                            labels.append(label + 1)
                            scores.append(score)
        keep = batched_nms(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), 0.45)[:7]
        assert len(keep) == 7
        torch.testing.assert_close(found["boxes"], torch.tensor(boxes)[keep], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(found["scores"], torch.tensor(scores)[keep])
        assert found["labels"].tolist() == torch.tensor(labels)[keep].tolist()


def test_published_counts() -> None:
    """yolov2.weights has 203,934,260 bytes: four numbers, then a float a parameter and running statistic."""
    with shapes_only():
        model = create_model("yolo_v2_darknet19", [str(i) for i in range(80)])
    parameters = sum(p.numel() for p in model.parameters())
    statistics = sum(v.numel() for k, v in model.state_dict().items() if "running" in k)
    assert parameters == 50_962_889
    assert 16 + 4 * (parameters + statistics) == 203_934_260
    assert model.sizes == tuple(range(320, 609, 32))
    assert len(COCO_ANCHORS) == len(VOC_ANCHORS) == 5


def test_the_passthrough_has_the_paper_s_shapes() -> None:
    with shapes_only():
        model = create_model("yolo_v2_darknet19", [str(i) for i in range(20)])
        fine, coarse = model.backbone(torch.zeros(1, 3, 416, 416)).values()
        assert fine.shape[1:] == (512, 26, 26)
        assert coarse.shape[1:] == (1024, 13, 13)
        assert model.head.passthrough[0](fine).shape[1:] == (64, 26, 26)
        assert model.head.passthrough(fine).shape[1:] == (256, 13, 13)
        assert model.network(torch.zeros(1, 3, 416, 416)).shape == (1, 125, 13, 13)


def test_the_passthrough_comes_before_the_coarse_map() -> None:
    """darknet's file says `layers=-1,-4`: the reordered map first, then the convolutions."""
    head = build().head.eval()
    seen = []
    head.joined.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    channels = [next(p for p in part.parameters()).shape[1] for part in (head.passthrough, head.convolutions)]
    one, other = torch.rand(1, channels[0], 4, 4), torch.rand(1, channels[1], 2, 2)
    with torch.inference_mode():
        head(one, other)
        passed = head.passthrough[0](one)
    c = passed.shape[1]
    for channel in (0, c - 1):
        for row in range(2):
            for column in range(2):
                place = channel * 4 + row * 2 + column
                assert torch.equal(seen[0][:, place], passed[:, channel, row::2, column::2])


def test_the_order_of_the_reordering_can_be_darknet_s() -> None:
    model = build()
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        plain = model.eval().network(images)
        model.head.passthrough[1] = DarknetReorg(2)
        assert model.network(images).shape == plain.shape
        assert not torch.allclose(model.network(images), plain)


def train_sizes(model: YOLOv2, batches: int) -> list[int]:
    """The sides of the batches, as `prepare` makes them."""
    images = [torch.zeros(3, 40, 60, dtype=torch.uint8)] * 2
    empty = [Instances((40, 60), classes=model.classes)] * 2
    return [int(model.prepare(images, empty)[0].tensor.shape[-1]) for _ in range(batches)]


def test_training_changes_the_size_every_ten_batches_and_goes_on_when_resumed() -> None:
    model = build(sizes=[64, 96, 128]).train()
    torch.manual_seed(5)
    whole = train_sizes(model, 65)
    assert set(whole) == {64, 96, 128}
    assert all(len(set(whole[i : i + 10])) == 1 for i in range(0, 60, 10))
    assert model.seen.tolist() == [130, 65, whole[-1]]
    again = build(sizes=[64, 96, 128]).train()
    torch.manual_seed(5)
    first = train_sizes(again, 33)
    state, random = copy.deepcopy(again.state_dict()), torch.get_rng_state()
    resumed = build(sizes=[64, 96, 128]).train()
    resumed.load_state_dict(state)
    torch.set_rng_state(random)
    assert first + train_sizes(resumed, 32) == whole


def test_the_size_stays_for_validation_and_prediction() -> None:
    model = build(sizes=[64, 128]).train()
    train_sizes(model, 1)
    before = torch.get_rng_state()
    image, empty = torch.zeros(3, 40, 60), Instances((40, 60), classes=model.classes)
    assert model.prepare([image], None)[0].tensor.shape[-1] == 96
    assert model.eval().prepare([image], [empty])[0].tensor.shape[-1] == 96
    assert torch.equal(torch.get_rng_state(), before)
    assert model.seen.tolist()[:2] == [2, 1]
    assert build().train().prepare([image], [empty])[0].tensor.shape[-1] == 96  # no sizes: always its own


def test_sizes_that_are_no_multiple_of_the_stride_are_refused() -> None:
    with pytest.raises(InputError, match="image_size is 100, but must be a multiple of the stride 32, such as 96"):
        build(image_size=100)
    with pytest.raises(InputError, match="a training size is 70, but must be a multiple of the stride 32, such as 64"):
        build(sizes=[64, 70])
    with pytest.raises(InputError, match="must be pairs of width and height in cells"):
        build(anchors=[[1.0, -2.0]])
    with pytest.raises(InputError, match="must be pairs of width and height in cells"):
        build(anchors=[[1.0, 2.0, 3.0]])
    with pytest.raises(InputError, match="anchors of yolo_v2_mobilenet_v2 is nan, but it must be a number from"):
        build(anchors=[[float("nan"), 2.0]])
    for name, value, kind in (("anchors", [1.0, 2.0], "lists of numbers"), ("sizes", 96, "whole numbers")):
        with pytest.raises(InputError, match=f"{name} of yolo_v2_mobilenet_v2 is .*, but it takes a list of {kind}"):
            build(**{name: value})


def test_a_head_that_starts_afresh_has_seen_nothing(tmp_path: Path) -> None:
    model = build()
    model.seen[0] = 50_000
    file = save(model, tmp_path / "a.safetensors")
    other = create_model("yolo_v2_mobilenet_v2", ["x", "y"], file, image_size=96, anchors=ANCHORS)
    assert other.seen.tolist() == [0, 0, 0]
    assert create_model("yolo_v2_mobilenet_v2", NAMES, file).seen.tolist() == [50_000, 0, 0]


def test_anchors_follow_the_image_size_and_can_be_compared_with_data() -> None:
    model = build(image_size=208 // 32 * 32, anchors=None)
    torch.testing.assert_close(model.anchors, torch.tensor(COCO_ANCHORS) * 192 / 416)
    shapes = build().anchor_shapes((48, 192))  # half as high and twice as wide as the model sees it
    torch.testing.assert_close(shapes, torch.tensor(ANCHORS) * 32 * torch.tensor([2.0, 0.5]))


def test_a_classifier_s_weights_fit_the_backbone() -> None:
    model = build()
    assert sum(v is not None for v in model.backbone_keys.values()) > 250
    with shapes_only():
        darknet = create_model("yolo_v2_darknet19", NAMES)
    taken = [k for k, v in darknet.backbone_keys.items() if v is not None]
    assert len(taken) == 18 * 6
    assert {k for k, v in darknet.backbone_keys.items() if v is None} == {"classifier.weight", "classifier.bias"}


@pytest.mark.slow
def test_it_learns_two_images() -> None:
    """Boxes, objectness and classes of two images, from a random start."""
    model = build(anchors=[[1.4, 1.4], [0.7, 0.7]]).train()
    images = [torch.full((3, 96, 96), 60, dtype=torch.uint8) for _ in range(2)]
    wanted = [([16.0, 16.0, 64.0, 64.0], 0), ([40.0, 24.0, 88.0, 72.0], 2)]
    for picture, (box, label) in zip(images, wanted, strict=True):
        x1, y1, x2, y2 = map(int, box)
        picture[label, y1:y2, x1:x2] = 250
    truth = [Instances((96, 96), classes=model.classes, boxes=[box], labels=[label]) for box, label in wanted]
    results = fitted_results(model, images, truth, steps=40, lr=2e-3)
    for result, (box, label) in zip(results, wanted, strict=True):
        assert int(result.labels[0]) == label
        assert result.boxes[0].tolist() == pytest.approx(box, abs=10)
