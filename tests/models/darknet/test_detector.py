"""Darknet's heads: boxes, scores, gradients; preprocessing, saving, training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sightline
from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.darknet import (
    DarknetClassifier,
    DarknetDetector,
    DarknetSettings,
    darknet,
    load_darknet,
    network_of,
    save_darknet_weights,
)
from sightline.models.darknet.cfg import parse_cfg
from sightline.models.darknet.heads import AnchorHead, heads_of
from sightline.models.darknet.network import DarknetNetwork
from sightline.models.darknet.preprocess import DarknetPreprocess
from sightline.structures import ClassScores, Instances
from tests.models.darknet import cfgs
from tests.models.fitting import fitted_results

NAMES = ["circle", "square", "star"]
CANVAS = (64, 64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def heads(text: str) -> tuple[list[Any], DarknetNetwork]:
    network = DarknetNetwork(parse_cfg(text))
    return heads_of(network), network


def naive_box(numbers: np.ndarray, i: int, j: int, w: int, h: int, anchor: tuple[float, float]) -> list[float]:
    """(x, y, w, h) in units of the image; the anchor in units of it, too."""
    return [
        (i + sigmoid(numbers[0])) / w,
        (j + sigmoid(numbers[1])) / h,
        math.exp(numbers[2]) * anchor[0],
        math.exp(numbers[3]) * anchor[1],
    ]


def naive_iou(a: list[float], b: list[float]) -> float:
    sides = [
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    if min(sides) <= 0:
        return 0.0
    both = sides[0] * sides[1]
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def anchors_of(head: AnchorHead, w: int, h: int) -> list[tuple[float, float]]:
    """In units of the image."""
    across = (CANVAS[1], CANVAS[0]) if head.kind == "yolo" else (w, h)
    return [(a / across[0], b / across[1]) for a, b in head.anchors]


@pytest.mark.parametrize("text", [cfgs.SMALL_V2, cfgs.SMALL_V3], ids=["region", "yolo"])
def test_boxes_and_scores_by_loops(text: str) -> None:
    found, network = heads(text)
    for head, layer in zip(found, network.heads, strict=True):
        c, h, w = network.shapes[layer]
        x = torch.randn(2, c, h, w, generator=torch.Generator().manual_seed(layer))
        out = head.split(x)
        boxes, scores = head.boxes(out, CANVAS), head.scores(out)
        raw = x.reshape(2, -1, 8, h, w).numpy().astype(np.float64)
        shapes = anchors_of(head, w, h)
        at = 0
        for n, m in enumerate(head.mask):
            for j in range(h):
                for i in range(w):
                    v = raw[1, n, :, j, i]
                    x_, y_, bw, bh = naive_box(v, i, j, w, h, shapes[m])
                    corners = [64 * v for v in (x_ - bw / 2, y_ - bh / 2, x_ + bw / 2, y_ + bh / 2)]
                    assert boxes[1, at].tolist() == pytest.approx(corners, rel=1e-4, abs=1e-3)
                    kinds = [sigmoid(k) for k in v[5:]]
                    if head.softmax:
                        kinds = list(np.exp(v[5:]) / np.exp(v[5:]).sum())
                    assert scores[1, at].tolist() == pytest.approx([sigmoid(v[4]) * k for k in kinds], rel=1e-4)
                    at += 1
        assert at == boxes.shape[1]


def darknet_deltas(head: AnchorHead, raw: np.ndarray, truth: list[list[float]], labels: list[int]) -> np.ndarray:
    """The negative gradient of one image's map [A, 5 + K, h, w], as the C programs fill it."""
    _, _, h, w = raw.shape
    delta, shapes = np.zeros_like(raw), anchors_of(head, w, h)
    yolo = head.kind == "yolo"
    box_scale, object_scale, empty_scale, class_scale = head.weights

    def slope(p: float) -> float:
        return 1.0 if yolo else p * (1 - p)  # yolo leaves the logistic's slope out

    def fill(n: int, i: int, j: int, t: int) -> None:
        v, box = raw[n, :, j, i], truth[t]
        scale = box_scale * (2 - box[2] * box[3])
        for k, wanted in ((0, box[0] * w - i), (1, box[1] * h - j)):
            wanted = min(max(wanted, 0.0), 1.0)  # a departure: σ(x) cannot leave the cell
            delta[n, k, j, i] = scale * (wanted - sigmoid(v[k])) * slope(sigmoid(v[k]))
        for k in (0, 1):
            wanted = math.log(box[2 + k] / shapes[head.mask[n]][k])
            delta[n, 2 + k, j, i] = scale * (wanted - v[2 + k])
        iou = naive_iou(naive_box(v, i, j, w, h, shapes[head.mask[n]]), box) if head.rescore else 1.0
        delta[n, 4, j, i] = object_scale * (iou - sigmoid(v[4])) * slope(sigmoid(v[4]))
        p = np.exp(v[5:]) / np.exp(v[5:]).sum() if head.softmax else 1 / (1 + np.exp(-v[5:]))
        delta[n, 5:, j, i] = class_scale * (np.eye(3)[labels[t]] - p)

    for n, m in enumerate(head.mask):
        for j in range(h):
            for i in range(w):
                box = naive_box(raw[n, :, j, i], i, j, w, h, shapes[m])
                ious = [naive_iou(box, t) for t in truth]
                p = sigmoid(raw[n, 4, j, i])
                delta[n, 4, j, i] = empty_scale * (0 - p) * slope(p)
                if max(ious, default=0) > head.ignore_iou:
                    delta[n, 4, j, i] = 0
                if max(ious, default=0) > head.truth_iou:
                    fill(n, i, j, int(np.argmax(ious)))
    for t, box in enumerate(truth):
        i, j = int(box[0] * w), int(box[1] * h)
        best = int(np.argmax([naive_iou([0, 0, *box[2:]], [0, 0, *shape]) for shape in shapes]))
        if best in head.mask:
            fill(head.mask.index(best), i, j, t)
    return delta


@pytest.mark.parametrize("truth_thresh", [1.0, 0.5])
@pytest.mark.parametrize("text", [cfgs.SMALL_V2, cfgs.SMALL_V3], ids=["region", "yolo"])
def test_gradients_are_those_of_the_c_program(text: str, truth_thresh: float) -> None:
    text = text.replace("truth_thresh=1", f"truth_thresh={truth_thresh}").replace(
        "ignore_thresh=0.7", "ignore_thresh=0.3"
    )
    text = text.replace("\nthresh=0.6", "\nthresh=0.3").replace("coord_scale=1", "coord_scale=2")
    boxes = [[[5.0, 8.0, 21.0, 30.0], [20.0, 10.0, 63.0, 60.0], [40.0, 40.0, 47.0, 49.0]], []]
    labels = [[0, 2, 1], []]
    targets = [
        Instances(CANVAS, boxes=torch.tensor(b).reshape(-1, 4), labels=[v + 1 for v in label])
        for b, label in zip(boxes, labels, strict=True)
    ]
    found, network = heads(text)
    for head, layer in zip(found, network.heads, strict=True):
        c, h, w = network.shapes[layer]
        x = (0.7 * torch.randn(2, c, h, w, generator=torch.Generator().manual_seed(3))).requires_grad_()
        out = head.split(x)
        losses = head.losses(out, head.assign(out, targets, CANVAS), targets, CANVAS)
        sum(losses.values()).backward()
        assert x.grad is not None
        for image in range(2):
            truth = [[(a + c_) / 128, (b + d) / 128, (c_ - a) / 64, (d - b) / 64] for a, b, c_, d in boxes[image]]
            raw = x.detach()[image].reshape(-1, 8, h, w).numpy().astype(np.float64)
            wanted = darknet_deltas(head, raw, truth, labels[image])
            np.testing.assert_allclose(-2 * x.grad[image].reshape(wanted.shape).numpy(), wanted, atol=1e-4)


def test_an_object_is_learnt_by_the_head_whose_mask_names_its_anchor() -> None:
    found, network = heads(cfgs.SMALL_V3)
    large = [Instances(CANVAS, boxes=[[4.0, 2.0, 58.0, 60.0]], labels=[1])]
    counts = []
    for head, layer in zip(found, network.heads, strict=True):
        out = head.split(torch.zeros(1, *network.shapes[layer]))
        counts.append(int((head.assign(out, large, CANVAS).ids >= 0).sum()))
    assert counts == [1, 0]


def test_the_grid_s_numbers_lie_as_in_darknet() -> None:
    (head,), _ = heads(cfgs.SMALL_V1)
    x = torch.rand(1, 52, 1, 1)
    flat, out = x.flatten().tolist(), head.split(x)
    boxes, scores = head.boxes(out, (32, 32)), head.scores(out)
    for cell in range(4):
        row, column = divmod(cell, 2)
        for n in range(2):
            place = 4 * (3 + 2) + (cell * 2 + n) * 4
            x_, y_ = (flat[place] + column) / 2, (flat[place + 1] + row) / 2
            w, h = flat[place + 2] ** 2, flat[place + 3] ** 2
            wanted = [32 * v for v in (x_ - w / 2, y_ - h / 2, x_ + w / 2, y_ + h / 2)]
            assert boxes[0, cell * 2 + n].tolist() == pytest.approx(wanted, abs=1e-4)
            confidence = flat[4 * 3 + cell * 2 + n]
            kinds = [confidence * flat[cell * 3 + k] for k in range(3)]
            assert scores[0, cell * 2 + n].tolist() == pytest.approx(kinds, abs=1e-5)


@pytest.mark.parametrize("roots", [True, False])
def test_the_grid_learns_sides_or_their_roots(roots: bool) -> None:
    """Whatever the network says of the object's sides, also below 0, is drawn to them by its distance."""
    (head,), _ = heads(cfgs.SMALL_V1.replace("sqrt=1", f"sqrt={int(roots)}"))
    x = torch.rand(1, 52, 1, 1, generator=torch.Generator().manual_seed(1))
    x[0, 20:] -= 0.3
    x.requires_grad_()
    target = [Instances((32, 32), boxes=[[2.0, 3.0, 10.0, 15.0]], labels=[2])]
    out = head.split(x)
    matches = head.assign(out, target, (32, 32))
    losses = head.losses(out, matches, target, (32, 32))
    losses["loss_size"].backward()
    wanted = [(8 / 32) ** (0.5 if roots else 1), (12 / 32) ** (0.5 if roots else 1)]
    n = int(matches.responsible[0, 0, 0].int().argmax())
    said = x.detach().flatten()[20 + 4 * n + 2 : 20 + 4 * n + 4].tolist()
    assert losses["loss_size"].item() == pytest.approx(5 * sum((a - b) ** 2 for a, b in zip(said, wanted, strict=True)))
    assert x.grad is not None
    slopes = x.grad.flatten()[20 + 4 * n + 2 : 20 + 4 * n + 4].tolist()
    assert slopes == pytest.approx([10 * (a - b) for a, b in zip(said, wanted, strict=True)], abs=1e-5)
    assert x.grad.count_nonzero() == 2


@pytest.mark.parametrize("size", [(30, 60), (60, 30), (17, 100), (200, 31), (64, 64), (1, 1)])
def test_the_letterbox_and_back(size: tuple[int, int]) -> None:
    prepare = DarknetPreprocess(3, (64, 96))
    image = torch.rand(3, *size)
    box = torch.tensor([[0.2, 0.3, 0.7, 0.9]]) * torch.tensor([size[1], size[0]] * 2)
    batch, moved = prepare([image], [Instances(size, boxes=box, labels=[0])])
    assert moved is not None
    h, w = size
    ratio = min(64 / h, 96 / w)
    high, wide = (int(h * ratio + 1e-6), 96) if 96 / w < 64 / h else (64, int(w * ratio + 1e-6))
    high, wide = max(high, 1), max(wide, 1)
    top, left = (64 - high) // 2, (96 - wide) // 2
    assert batch.tensor.shape == (1, 3, 64, 96)
    inside = batch.tensor[0, :, top : top + high, left : left + wide]
    if min(size) > 1:  # corners on corners
        assert torch.allclose(inside[:, 0, 0], image[:, 0, 0])
        assert torch.allclose(inside[:, -1, -1], image[:, -1, -1], atol=1e-5)
    outside = torch.ones(64, 96, dtype=torch.bool)
    outside[top : top + high, left : left + wide] = False
    assert (batch.tensor[0][:, outside] == 0.5).all()
    wanted = [left + 0.2 * wide, top + 0.3 * high, left + 0.7 * wide, top + 0.9 * high]
    assert moved[0].boxes[0].tolist() == pytest.approx(wanted, abs=1e-3)
    assert moved[0].image_size == (64, 96)
    stretched = prepare.back(moved[0].boxes, size)
    assert (stretched / torch.tensor([96, 64] * 2)).tolist()[0] == pytest.approx([0.2, 0.3, 0.7, 0.9], abs=1e-5)


def test_a_box_comes_back_in_pixels_of_the_image() -> None:
    """One cell of one head says that there is a box of its anchor's size."""
    model = load_darknet(cfgs.SMALL_V3, names=NAMES)
    assert isinstance(model, DarknetDetector)
    network = network_of(model)
    maps = [torch.full((1, *network.shapes[i]), -20.0) for i in network.heads]
    view = maps[0].view(1, 2, 8, 8, 8)
    view[0, 1, :4, 3, 5] = 0
    view[0, 1, [4, 6], 3, 5] = 20
    model.network = lambda images: maps  # type: ignore[method-assign]
    (found,) = model([torch.zeros(3, 32, 128, dtype=torch.uint8)])
    # 128×32 lies in 64×64 as 64×16, 24 pixels from the top; centre (44, 28), anchor 50 × 60
    assert found.labels.tolist() == [1]
    assert found.boxes[0].tolist() == pytest.approx([38, 0, 128, 32], abs=1e-3)
    assert found.scores[0] == pytest.approx(1)


@pytest.mark.parametrize("text", [cfgs.SMALL_V1, cfgs.SMALL_V2, cfgs.SMALL_V3], ids=["v1", "v2", "v3"])
def test_every_kind_trains_and_is_saved(text: str, tmp_path: Path) -> None:
    file = tmp_path / "net.cfg"
    file.write_text(text)
    model = create_model("darknet", NAMES, cfg=str(file), settings=DarknetSettings(min_score=0.001)).train()
    images = [torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8), torch.zeros(3, 9, 30, dtype=torch.uint8)]
    targets = [
        Instances((40, 56), classes=model.classes, boxes=[[2.0, 3.0, 30.0, 30.0]], labels=[1]),
        Instances((9, 30), classes=model.classes),
    ]
    losses = model(images, targets)
    assert all(v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    file.unlink()  # the saved model does not need it
    again = sightline.load(sightline.save(model.eval(), tmp_path / "a.safetensors"))
    with torch.no_grad():
        assert torch.equal(model(images)[0].scores, again(images)[0].scores)
    assert again.settings == model.settings
    by_hand = load_darknet(text, names=NAMES, settings=DarknetSettings(min_score=0.001))
    loaded = sightline.load(sightline.save(by_hand, tmp_path / "b.safetensors"))
    with torch.no_grad():
        assert torch.equal(by_hand(images)[0].scores, loaded(images)[0].scores)


def test_a_file_without_heads_is_a_classifier(tmp_path: Path) -> None:
    model = load_darknet(cfgs.SMALL_CLASSIFIER)
    assert isinstance(model, DarknetClassifier)
    assert list(model.classes) == [f"class {i}" for i in range(5)]
    image = torch.rand(3, 50, 40)
    (scores,) = model([image])
    side = torch.nn.functional.interpolate(image[None], size=(40, 32), mode="bilinear")[:, :, 4:36]
    with torch.no_grad():
        torch.testing.assert_close(scores.scores, network_of(model)(side)[0].softmax(0))
    assert model([image], [ClassScores((50, 40), label=3)])["loss_classification"].isfinite()
    again = sightline.load(sightline.save(model, tmp_path / "a.safetensors"))
    assert torch.equal(again([image])[0].scores, scores.scores)
    with pytest.raises(InputError, match=r"2 names, but the \.cfg file has 5 classes"):
        load_darknet(cfgs.SMALL_CLASSIFIER, names=["a", "b"])


def test_names_from_a_file_and_weights_of_other_classes(tmp_path: Path) -> None:
    names = tmp_path / "a.names"
    names.write_text("cat\ndog\nbird\n\n")
    model = load_darknet(cfgs.SMALL_V3, names=names)
    assert list(model.classes) == ["cat", "dog", "bird"]
    file = sightline.save(model, tmp_path / "a.safetensors")
    other = create_model("darknet", ["x", "y"], file, cfg=cfgs.SMALL_V3)
    assert {key.split(".")[2] for key in other.weights_report.left_out} <= {"7", "14"}
    cut = save_darknet_weights(network_of(model), tmp_path / "cut.weights", layers=7)
    again = load_darknet(cfgs.SMALL_V3, cut, names, layers=7)
    for i in range(7):
        for a, b in zip(
            network_of(model).layers[i].parameters(), network_of(again).layers[i].parameters(), strict=True
        ):
            assert torch.equal(a, b)


def test_the_network_alone_is_traced() -> None:
    for text, side in ((cfgs.SMALL_V1, 32), (cfgs.SMALL_V2, 64), (cfgs.SMALL_V3, 64)):
        network = network_of(load_darknet(text))
        x = torch.rand(1, 3, side, side)
        exported = torch.export.export(network, (x,)).module()
        for a, b in zip(exported(x), network(x), strict=True):
            torch.testing.assert_close(a, b)


def test_it_overfits_two_images() -> None:
    torch.manual_seed(0)
    model = darknet(NAMES, image_size=96).train()
    images = [torch.full((3, 96, 96), 60, dtype=torch.uint8) for _ in range(2)]
    boxes, targets = [[16.0, 16.0, 64.0, 64.0], [40.0, 24.0, 88.0, 72.0]], []
    for picture, box, label in zip(images, boxes, (0, 2), strict=True):
        x1, y1, x2, y2 = map(int, box)
        picture[label, y1:y2, x1:x2] = 250
        targets.append(Instances((96, 96), classes=model.classes, boxes=[box], labels=[label]))
    results = fitted_results(model, images, targets, steps=40, lr=2e-3)
    for result, box, label in zip(results, boxes, (0, 2), strict=True):
        assert int(result.labels[0]) == label
        assert result.boxes[0].tolist() == pytest.approx(box, abs=10)


@pytest.mark.parametrize("size", [100, 250, 417])
def test_a_size_that_the_stride_does_not_divide_is_told(size: int) -> None:
    with pytest.raises(InputError, match=rf"{size}.*multiples of|multiples of the coarsest stride"):
        darknet(NAMES, image_size=size)
    assert darknet(NAMES, image_size=128)


def test_the_file_s_letter_box_decides_where_nothing_is_said() -> None:
    for text, usual in ((cfgs.SMALL_V1, False), (cfgs.SMALL_V3, True)):
        other = text.replace("[net]", f"[net]\nletter_box={int(not usual)}", 1)
        assert load_darknet(other, names=NAMES).preprocess.letterbox is not usual  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["yolo", "region"])
def test_darknet_takes_twenty_classes_where_none_are_told(kind: str) -> None:
    text = f"[net]\nwidth=32\nheight=32\n[conv]\nfilters=25\n[{kind}]\nanchors=1,1\nnum=1\n"
    assert len(load_darknet(text).classes) == 20
    assert len(darknet(NAMES, cfg=text).classes) == 3


def test_stretched_or_boxed_is_kept_when_saved(tmp_path: Path) -> None:
    image = torch.rand(3, 20, 60)
    for text, usual in ((cfgs.SMALL_V1, False), (cfgs.SMALL_V3, True)):
        assert load_darknet(text, names=NAMES).preprocess.letterbox is usual  # type: ignore[union-attr]
        model = load_darknet(text, names=NAMES, letterbox=not usual)
        again = sightline.load(sightline.save(model, tmp_path / "a.safetensors"))
        assert again.preprocess.letterbox is not usual  # type: ignore[union-attr]
        batch, _ = again.preprocess([image])  # type: ignore[operator]
        wanted, _ = model.preprocess([image])
        assert torch.equal(batch.tensor, wanted.tensor)
