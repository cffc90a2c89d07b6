"""What is explained: targets by the words of the command line, and by hand."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import in_image
from sightline.explain.layers import default_layer, layer_named
from sightline.explain.method import maps_and_gradients
from sightline.explain.target import prepared
from sightline.explain.targets import (
    BoxDeltas,
    DetectedBox,
    ImageClass,
    Keypoint,
    MaskPixels,
    Objectness,
    RegionClass,
    candidate_box,
    detected_box,
    proposal,
)
from sightline.models.detection.candidates import select
from sightline.models.model import Model
from sightline.structures import ImageBatch
from sightline.verbs.explained import default_target, parse_target
from tests.models.detection.test_candidates import EVERY, detector, fast
from tests.models.test_contract import DETECTORS, build, image

SIZE = (90, 120)
FEW = ("faster_rcnn_mobilenet_v2_fpn", "sightline_n", "sliding_window_mobilenet_v2", "darknet")


@cache
def model_of(name: str) -> Any:
    model = copy.deepcopy(detector(name)).float() if name in EVERY else build(name).eval()
    assert isinstance(model, Model)
    return model


def copies(model: Model, count: int) -> ImageBatch:
    batch = prepared(model, image(*SIZE))
    return batch.with_copies(batch.tensor.expand(count, -1, -1, -1))


@pytest.mark.parametrize("name", fast(DETECTORS, FEW))
def test_a_detection_is_found_again_among_the_candidates(name: str) -> None:
    model, picture = model_of(name), image(*SIZE)
    with torch.no_grad():
        (result,) = model([picture])
    if not len(result):
        pytest.skip("these random weights find nothing")
    for index in {0, len(result) - 1}:
        target = detected_box(model, picture, index)
        assert target.class_id == int(result.labels[index])
        assert target.number == index
        if model.selection().method != "merging":
            assert target.box == pytest.approx(result.boxes[index].tolist(), abs=0.02)
        if model.selection().method == "nms":
            assert target.likelihood == pytest.approx(float(result.scores[index]), abs=1e-5)
        with torch.no_grad():
            scores = target.score(model, copies(model, 2))
        assert scores.shape == (2,)
        torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=1e-4)
        assert str(model.classes[target.class_id]) in target.describe(model)


@pytest.mark.parametrize("name", fast(DETECTORS, (*FEW, "overfeat_mobilenet_v2")))
def test_the_default_layer_has_gradients_of_the_default_target(name: str) -> None:
    model, picture = model_of(name), image(*SIZE)
    target = default_target(model, picture)
    batch = prepared(model, picture)
    layer = layer_named(model, default_layer(model, target))
    maps, gradients, _ = maps_and_gradients(
        lambda pixels: target.score(model, batch.with_copies(pixels)), batch.tensor, layer
    )
    assert any(bool(gradient.any()) for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert len(maps) == 1 or name.startswith("overfeat")


def test_a_region_is_scored_also_if_the_proposals_change() -> None:
    model, picture = model_of("faster_rcnn_mobilenet_v2_fpn"), image(*SIZE)
    target = detected_box(model, picture, 3)
    batch = prepared(model, picture)
    with torch.no_grad():
        maps = model.backbone(batch.tensor)
        region = torch.tensor([target.region])
        logits, _ = model.roi_heads.predict(maps, [region], batch)
        torch.testing.assert_close(target.score(model, batch), logits[:, target.class_id + 1])
        black = batch.with_copies(torch.zeros_like(batch.tensor))
        changed, _ = model.roi_heads.predict(model.backbone(black.tensor), [region], black)
        torch.testing.assert_close(target.score(model, black), changed[:, target.class_id + 1])


def test_a_network_on_crops_has_maps_of_the_region() -> None:
    model, picture = model_of("sliding_window_mobilenet_v2"), image(*SIZE)
    target = detected_box(model, picture, 0)
    assert target.frame == target.region == target.batch_box
    assert detected_box(model_of("sightline_n"), picture, 0).frame is None


def test_the_similarity_of_a_detection_to_itself() -> None:
    model, picture = model_of("sightline_n"), image(*SIZE)
    target = detected_box(model, picture, 0)
    batch = prepared(model, picture)
    with torch.no_grad():
        similarity = target.similarity(model, batch).score(model, batch)
    assert float(similarity) == pytest.approx(target.likelihood, abs=1e-4)


def test_box_regression() -> None:
    model, picture = model_of("sightline_n"), image(*SIZE)
    batch = prepared(model, picture)
    box = parse_target("box:2", model, picture)
    assert isinstance(box, DetectedBox)
    with torch.no_grad():
        (own,) = model.candidates(batch)
    apart = own.boxes[box.row, 0] - own.origins[box.row]
    whole = parse_target("box:2:delta", model, picture)
    right = parse_target("box:2:right", model, picture)
    assert isinstance(whole, BoxDeltas)
    with torch.no_grad():
        torch.testing.assert_close(whole.score(model, batch)[0], apart.abs().sum())
        torch.testing.assert_close(right.score(model, batch)[0], apart[2].abs())
    assert right.box == box.box
    assert right.level == box.level
    assert right.describe(model).startswith("right side of box 2")


@pytest.mark.parametrize(
    "name", ["sightline_n_mask", pytest.param("mask_rcnn_mobilenet_v2_fpn", marks=pytest.mark.slow)]
)
def test_the_pixels_of_one_mask(name: str) -> None:
    model, picture = model_of(name), image(*SIZE)
    with torch.no_grad():
        (result,) = model([picture])
    index = next(i for i, mask in enumerate(result.masks) if mask.any())
    target = parse_target(f"mask:{index}", model, picture)
    assert isinstance(target, MaskPixels)
    assert torch.equal(target.mask, result.masks[index])
    batch = copies(model, 2)
    with torch.no_grad():
        logits = model.mask_logits_of(batch, *target.fixed(batch))
        score = target.score(model, batch)
    assert float(score[0]) > 0
    torch.testing.assert_close(score[0], logits[0][logits[0] > 0].mean())
    layer = layer_named(model, default_layer(model, target))
    gradients = maps_and_gradients(
        lambda pixels: target.score(model, prepared(model, picture).with_copies(pixels)), batch.tensor[:1], layer
    )[1]
    assert gradients[0].any()


@pytest.mark.parametrize(
    "name", ["sightline_n_pose", pytest.param("keypoint_rcnn_mobilenet_v2_fpn", marks=pytest.mark.slow)]
)
def test_one_keypoint(name: str) -> None:
    model, picture = model_of(name), image(*SIZE)
    target = parse_target("keypoint:1:2", model, picture)
    assert isinstance(target, Keypoint)
    batch = prepared(model, picture)
    with torch.no_grad():
        (result,) = model([picture])
        score = target.score(model, batch)
    expected = result.keypoint_scores[1, 2]
    if name.startswith("sightline"):
        torch.testing.assert_close(score[0].sigmoid(), expected)
    else:  # resized bicubically to the box, a peak is nearly that of the grid
        assert float(score) == pytest.approx(float(expected), rel=0.3, abs=0.3)
    assert target.describe(model).startswith("keypoint 2 of box 1")
    with pytest.raises(InputError, match="3 keypoints, and 'nose' is none of them; give a number from 0 to 2"):
        parse_target("keypoint:1:nose", model, picture)
    with pytest.raises(InputError, match="does not say which keypoint"):
        parse_target("keypoint:1", model, picture)


def test_objectness_of_a_proposal() -> None:
    picture = image(*SIZE)
    alone = model_of("region_proposal_network_mobilenet_v2")
    target = default_target(alone, picture)
    assert isinstance(target, Objectness)
    with torch.no_grad():
        (result,) = alone([picture])
        score = target.score(alone, prepared(alone, picture))
    assert float(score.sigmoid()) == pytest.approx(float(result.scores[0]), abs=1e-5)
    assert target.box == pytest.approx(result.boxes[0].tolist(), abs=0.02)
    both = model_of("faster_rcnn_mobilenet_v2_fpn")
    second = proposal(both, picture, 1)
    with torch.no_grad():
        (own,) = both.proposal_candidates(prepared(both, picture))
    assert second.row == int(select(own, both.proposal_selection())[0][1])
    assert parse_target("proposal:1", both, picture) == second
    with pytest.raises(InputError, match="has no region proposal network"):
        parse_target("proposal:0", model_of("sightline_n"), picture)
    with pytest.raises(InputError, match="has no target 'box:0'; write proposal:0"):
        parse_target("box:0", alone, picture)


def test_a_class_of_the_image() -> None:
    model, picture = model_of("mobilenet_v2"), image(*SIZE)
    batch = copies(model, 2)
    target = parse_target("star", model, picture)
    assert target == ImageClass(2) == parse_target("class:star", model, picture)
    with torch.no_grad():
        logits = model.network(batch.tensor)
        assert torch.equal(target.score(model, batch), logits[:, 2])
    assert default_target(model, picture) == ImageClass(int(logits[0].argmax()))
    assert target.describe(model) == "class star"
    with pytest.raises(InputError, match="unknown class 'stra'; did you mean 'star'"):
        parse_target("stra", model, picture)
    with pytest.raises(InputError, match="predicts no boxes; explain a class of it"):
        detected_box(model, picture, 0)
    with pytest.raises(InputError, match="has no target 'box:0'; write dog or class:dog"):
        parse_target("box:0", model, picture)


def test_a_class_in_a_region() -> None:
    model, picture = model_of("unet_small"), image(*SIZE)
    batch = prepared(model, picture)
    with torch.no_grad():
        (result,) = model([picture])
        logits = model.outputs(batch)["out"]
    target = default_target(model, picture)
    assert isinstance(target, RegionClass)
    counts = result.labels.flatten().bincount()
    assert target.class_id == int(counts.argmax())
    own = logits[0].argmax(0) == target.class_id
    own[SIZE[0] :], own[:, SIZE[1] :] = False, False  # padding
    with torch.no_grad():
        torch.testing.assert_close(target.score(model, batch)[0], logits[0, target.class_id][own].mean())
    boxed = parse_target("class:star:10,20,30,60", model, picture)
    with torch.no_grad():
        torch.testing.assert_close(boxed.score(model, batch)[0], logits[0, 2, 20:60, 10:30].mean())
    assert boxed.describe(model) == "class star in the region 10,20,30,60"
    with pytest.raises(InputError, match="has no pixel of the image, which has 120×90 pixels"):
        parse_target("class:star:200,20,300,60", model, picture)
    with pytest.raises(InputError, match="must be four numbers x1,y1,x2,y2"):
        parse_target("class:star:a,20,300,60", model, picture)
    missing = next(name for i, name in enumerate(model.classes) if i >= len(counts) or not counts[i])
    with pytest.raises(InputError, match=f"no pixel is predicted as {missing}, only"):
        parse_target(missing, model, picture)


def test_a_class_of_a_detector_is_its_best_box() -> None:
    model, picture = model_of("sightline_n"), image(*SIZE)
    with torch.no_grad():
        (result,) = model([picture])
    first = int((result.labels == 1).nonzero()[0])
    assert parse_target("square", model, picture) == detected_box(model, picture, first)
    assert default_target(model, picture) == detected_box(model, picture, 0)
    own = candidate_box(model, picture, class_id=1, row=7)
    assert (own.row, own.class_id, own.number) == (7, 1, None)
    assert own.describe(model).startswith("candidate 7: square")


def test_what_the_model_did_not_predict() -> None:
    model, picture = model_of("sightline_n"), image(*SIZE)
    with torch.no_grad():
        count = len(model([picture])[0])
    with pytest.raises(InputError, match=f"found {count} objects, 0 to {count - 1}; box {count} is not one of them"):
        parse_target(f"box:{count}", model, picture)
    with pytest.raises(InputError, match=r"sightline_n predicts no masks; explain a box of it, such as box:0"):
        parse_target("mask:0", model, picture)
    with pytest.raises(InputError, match="box:-1 does not say which; give a number from 0"):
        parse_target("box:-1", model, picture)
    with pytest.raises(InputError, match="'box' does not say which box; write dog, box:0"):
        parse_target("box", model, picture)
    with pytest.raises(InputError, match="box:0 has no 'rihgt'; did you mean 'right'"):
        parse_target("box:0:rihgt", model, picture)
    with pytest.raises(InputError, match="has no target 'bxo:0'; did you mean 'box'"):
        parse_target("bxo:0", model, picture)


def test_a_detector_that_finds_nothing_has_its_best_candidate_explained() -> None:
    model: Any = build("retinanet_mobilenet_v2_fpn", min_size=64, max_size=64, settings=None or _strict()).eval()
    target = default_target(model, image(64, 64))
    assert isinstance(target, DetectedBox)
    assert target.number is None
    with torch.no_grad():
        (own,) = model.candidates(prepared(model, image(64, 64)))
    assert target.likelihood == pytest.approx(float(own.scores.max()))
    with pytest.raises(InputError, match="found no object in this image, so box 0 cannot be explained"):
        parse_target("box:0", model, image(64, 64))


def _strict() -> Any:
    from sightline.models.detection.retinanet import RetinaNetSettings

    return RetinaNetSettings(min_score=0.9)


def test_boxes_between_image_and_batch() -> None:
    batch = ImageBatch(torch.zeros(1, 3, 64, 96), [(60, 90)], [(20, 45)])
    box = torch.tensor([9.0, 10, 18, 20])
    assert batch.in_batch(box).tolist() == [18, 30, 36, 60]
    assert in_image(batch.in_batch(box), batch).tolist() == box.tolist()
    letterbox = ImageBatch(torch.zeros(1, 3, 64, 96), [(64, 96)], [(20, 40)], frames=[(0, 8, 96, 56)])
    assert letterbox.in_batch(torch.tensor([0.0, 0, 40, 20])).tolist() == [0, 8, 96, 56]


def test_the_model_comes_back_in_its_mode() -> None:
    model: Any = build("mobilenet_v2").train()
    before: list[Tensor] = [p.detach().clone() for p in model.buffers()]
    default_target(model, image(*SIZE))
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
