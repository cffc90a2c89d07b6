"""RetinaNet: equal to torchvision's; its losses and its decoding against loops written from the paper."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.parts import best_candidates
from sightline.models.detection.retinanet import RetinaNet, RetinaNetSettings
from sightline.ops.boxes import box_iou, decode_boxes, encode_boxes, generalized_box_iou
from sightline.runtime.shapes import shapes_only
from sightline.structures import Instances
from tests.models import parity
from tests.models.test_detection_parity import check_losses, images_of, targets_of

NINETY = [f"class {i}" for i in range(1, 91)]
NAMES = ["circle", "square", "star"]
PUBLISHED = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2")


def detections_equal(results: list[Instances], ref: dict[str, Any], prefix: str, threshold: float) -> None:
    """But for output 0, which the reference takes for a class though it is none."""
    for i, result in enumerate(results):
        result = result[result.scores > threshold]
        labels = torch.as_tensor(ref[f"{prefix}det{i}/labels"])
        kept = labels > 0
        assert (result.labels + 1).tolist() == labels[kept].tolist()
        parity.close(result.boxes, ref[f"{prefix}det{i}/boxes"][kept.numpy()], 0.05)
        parity.close(result.scores, ref[f"{prefix}det{i}/scores"][kept.numpy()], 1e-3)


@pytest.mark.parametrize("name", [pytest.param(PUBLISHED[0], marks=pytest.mark.slow), PUBLISHED[1]])
def test_it_equals_the_reference(name: str, shared: Path) -> None:
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        model = create_model(name, NINETY, min_size=320, max_size=448)
    parity.fill(model, shared, name)
    images = images_of(recipe, meta)
    with torch.inference_mode(), parity.once(model.backbone, model.head):
        batch, _ = model.prepare(images, None)
        assert batch.sizes == [tuple(s) for s in ref["transform/image_sizes"].tolist()]
        maps, logits, deltas = model.network(batch.tensor)
        for level, x in zip(["0", "1", "2", "p6", "p7"], maps, strict=True):
            assert list(x.shape) == ref[f"feature/{level}/shape"].tolist()
            parity.close(recipe.spatial(x), ref[f"feature/{level}/spatial"], 1e-3)
        anchors = torch.cat(model.anchors(maps, batch))
        assert len(anchors) == int(ref["anchors/0/count"])
        parity.close(anchors[:20], ref["anchors/0/first20"], 1e-4)
        parity.close(anchors[-20:], ref["anchors/0/last20"], 1e-4)
        parity.close(anchors[:: max(1, len(anchors) // 50)], ref["anchors/0/subsample"], 1e-4)
        parity.close(recipe.subsample(torch.cat(logits, 1), 2000), ref["head/cls_logits/subsample"], 1e-3)
        parity.close(recipe.subsample(torch.cat(deltas, 1), 2000), ref["head/bbox_regression/subsample"], 1e-3)
        detections_equal(model(images), ref, "", meta["score_thresh"])
    check_losses(model, model(images, targets_of(recipe, images)), ref)


def anchors_and_outputs(seed: int, classes: int = 3) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Two levels of 60 and 12 anchors, and outputs of two images for them."""
    generator = torch.Generator().manual_seed(seed)
    anchors, logits, deltas = [], [], []
    for count, side in ((60, 20.0), (12, 50.0)):
        corners = torch.rand(count, 2, generator=generator) * 80
        sides = side * (0.5 + torch.rand(count, 2, generator=generator))
        anchors.append(torch.cat([corners, corners + sides], 1))
        logits.append(torch.randn(2, count, classes + 1, generator=generator))
        deltas.append(torch.randn(2, count, 4, generator=generator) * 0.3)
    return anchors, logits, deltas


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    torch.manual_seed(0)
    return create_model("retinanet_mobilenet_v2_fpn", NAMES, min_size=96, max_size=128, channels=32)


TARGETS = [
    Instances((100, 100), boxes=[[10.0, 12.0, 40.0, 37.0], [30.0, 30.0, 90.0, 85.0]], labels=[1, 3]),
    Instances((100, 100), boxes=torch.zeros(0, 4), labels=[]),
]


@pytest.mark.parametrize("box_loss", ["l1", "giou"])
def test_losses_equal_a_loop_over_anchors_and_classes(model: RetinaNet, box_loss: Any) -> None:
    """Equation 5 with α = ¼ and γ = 2, summed over all anchors but those between, over the image's objects' anchors."""
    anchors, logits, deltas = anchors_and_outputs(0)
    matches = model.assign(anchors, TARGETS)
    assert {-2, -1, 0, 1} == set(matches[0].tolist())
    assert set(matches[1].tolist()) == {-1}
    usual, model.settings = model.settings, RetinaNetSettings(box_loss=box_loss)
    losses = model.losses(logits, deltas, anchors, matches, TARGETS)
    model.settings = usual
    boxes = torch.cat(anchors)
    sums = {"loss_classification": 0.0, "loss_box": 0.0}
    for i, target in enumerate(TARGETS):
        focal = regression = 0.0
        objects = 0
        for n in range(72):
            match = int(matches[i, n])
            if match == -2:
                continue
            truth = int(target.labels[match]) if match >= 0 else None
            for output in range(4):
                p = 1 / (1 + math.exp(-float(torch.cat(logits, 1)[i, n, output])))
                if output == truth:
                    focal += 0.25 * (1 - p) ** 2 * -math.log(p)
                else:
                    focal += 0.75 * p**2 * -math.log(1 - p)
            if match >= 0:
                objects += 1
                delta, box = torch.cat(deltas, 1)[i, n], target.boxes[match]
                if box_loss == "l1":
                    regression += float((delta - encode_boxes(box, boxes[n])).abs().sum())
                else:
                    found = decode_boxes(delta, boxes[n])
                    regression += 1 - float(generalized_box_iou(found[None], box[None]))
        sums["loss_classification"] += focal / max(1, objects) / 2
        sums["loss_box"] += regression / max(1, objects) / 2
    assert {k: float(v) for k, v in losses.items()} == pytest.approx(sums, rel=1e-5)


def test_the_share_of_an_easy_background_is_small(model: RetinaNet) -> None:
    """At the prior of 0.01 an anchor of the background costs 0.75 · 0.01² · −log 0.99 a class."""
    anchors, logits, deltas = anchors_and_outputs(1)
    easy = [torch.full_like(x, -math.log(99)) for x in logits]
    background = torch.full((2, 72), -1)
    losses = model.losses(easy, deltas, anchors, background, [TARGETS[1]] * 2)
    assert float(losses["loss_classification"]) == pytest.approx(72 * 4 * 0.75 * 1e-4 * -math.log(0.99), rel=1e-4)
    assert float(losses["loss_box"]) == 0
    assert torch.allclose(model.head.classification_head.cls_logits.bias.sigmoid(), torch.tensor(0.01))


@pytest.mark.parametrize("with_quality", [False, True])
def test_best_candidates_equal_a_sorted_list_of_all_pairs(with_quality: bool) -> None:
    for seed in range(10):
        _, logits, _ = anchors_and_outputs(seed, classes=5)
        quality = [x[..., 0] * 2 for x in logits] if with_quality else None
        scores, ids, labels = best_candidates(logits, 20, quality)
        for image in range(2):
            expected = []
            for level, start in ((0, 0), (1, 60)):
                pairs = []
                for n in range(logits[level].shape[1]):
                    for label in range(1, 6):
                        score = float(logits[level][image, n, label].sigmoid())
                        if quality is not None:
                            score = math.sqrt(score * float(quality[level][image, n].sigmoid()))
                        pairs.append((score, start + n, label))
                expected += sorted(pairs, reverse=True)[:20]
            found = list(zip(scores[image].tolist(), ids[image].tolist(), labels[image].tolist(), strict=True))
            assert [x[1:] for x in found] == [x[1:] for x in expected]
            assert [x[0] for x in found] == pytest.approx([x[0] for x in expected], rel=1e-5)


def test_decoding_equals_a_loop(model: RetinaNet) -> None:
    anchors, logits, deltas = anchors_and_outputs(3)
    usual, model.settings = model.settings, RetinaNetSettings(min_score=0.4, candidates=15, nms_iou=0.3)
    results = model.decode(logits, deltas, anchors, [(90, 100), (100, 70)])
    model.settings = usual
    for i, (height, width) in enumerate([(90, 100), (100, 70)]):
        found: list[tuple[float, int, list[float]]] = []
        for level in range(2):
            pairs = []
            for n in range(len(anchors[level])):
                box = decode_boxes(deltas[level][i, n], anchors[level][n]).tolist()
                box = [min(max(v, 0), limit) for v, limit in zip(box, (width, height) * 2, strict=True)]
                pairs += [(float(logits[level][i, n, k].sigmoid()), k, box) for k in (1, 2, 3)]
            found += [x for x in sorted(pairs, reverse=True)[:15] if x[0] > 0.4]
        kept: list[tuple[float, int, list[float]]] = []
        for score, label, box in sorted(found, reverse=True):
            same = [other for _, k, other in kept if k == label]
            if not same or float(box_iou(torch.tensor([box]), torch.tensor(same)).max()) <= 0.3:
                kept.append((score, label, box))
        assert results[i]["labels"].tolist() == [k for _, k, _ in kept]
        assert results[i]["scores"].tolist() == pytest.approx([s for s, _, _ in kept])
        torch.testing.assert_close(results[i]["boxes"], torch.tensor([b for _, _, b in kept]))
    assert min(len(r["boxes"]) for r in results) > 5


def test_anchors_are_three_sizes_in_three_shapes(model: RetinaNet) -> None:
    """Section 4: areas from 32² to 512² and 2^⅓, 2^⅔ times their sides; ratios 1:2, 1:1, 2:1; 9 a cell."""
    shapes = model.anchor_shapes((96, 96))
    assert shapes.shape == (45, 2)
    sides = (shapes[:, 0] * shapes[:, 1]).sqrt()
    assert float(sides.min()) == pytest.approx(32, rel=0.05)
    assert float(sides.max()) == pytest.approx(512 * 2 ** (2 / 3), rel=0.01)
    wanted = [32 * 2 ** (k / 3) for k in range(15)]
    for group in range(15):  # one size in three ratios, whatever their order
        ours = sorted(sides.tolist())[3 * group : 3 * group + 3]
        assert ours == pytest.approx([wanted[group]] * 3, rel=0.06)


def test_p6_is_from_c5_or_p5() -> None:
    with shapes_only():
        first, second = (create_model(name, NAMES).backbone.fpn.extra_blocks for name in PUBLISHED)
    assert first.p6.weight.shape[1] == 256
    assert second.p6.weight.shape[1] == 2048


def test_values_that_no_retinanet_can_have() -> None:
    with pytest.raises(InputError, match="box_loss is 'iou', but must be 'l1' or 'giou'"):
        RetinaNetSettings(box_loss="iou")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="channels is 48, but heads with group normalisation need a multiple of 32"):
        create_model("retinanet_mobilenet_v2_fpn", NAMES, channels=48)


def test_checkpoints_of_older_names_are_understood(tmp_path: Path) -> None:
    """Its convolutions were entries 0, 2, 4, 6 of a row with activations, the pyramid's had no blocks around them."""
    arguments: dict[str, Any] = {"settings": RetinaNetSettings(box_loss="l1"), "channels": 32, "depth": 4}
    model = create_model("retinanet_mobilenet_v2_fpn", NAMES, **arguments)
    state = {key: torch.rand_like(value.float()).to(value.dtype) for key, value in model.state_dict().items()}
    old = {}
    for key, value in state.items():
        parts = key.split(".")
        if key.startswith("head.") and ".conv." in key and parts[4] == "0":
            key = ".".join([*parts[:3], str(2 * int(parts[3])), parts[5]])
        elif "inner_blocks" in key or "layer_blocks" in key:
            key = ".".join([*parts[:4], parts[5]])
        old[key] = value
    assert "head.regression_head.conv.6.weight" in old
    assert "backbone.fpn.layer_blocks.2.bias" in old
    torch.save(old, tmp_path / "old.pth")
    loaded = create_model("retinanet_mobilenet_v2_fpn", NAMES, weights=tmp_path / "old.pth", **arguments)
    own = loaded.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own)
