"""Mask R-CNN and Keypoint R-CNN equal torchvision's: keys, shapes, masks, keypoints, losses, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sightline.models.creation import create_model
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.keypoint import heatmaps_to_keypoints, keypoints_to_cells
from sightline.nn.heads.mask import crop_masks
from sightline.nn.heads.rpn import ProposalSettings
from sightline.ops.geometry import resize_target
from sightline.ops.masks import paste_masks
from sightline.structures import Instances
from tests.models import parity
from tests.models.test_detection_parity import NAMES, check_detections, check_losses, images_of

MASKS = {
    "maskrcnn_resnet50_fpn": partial(create_model, "maskrcnn_resnet50_fpn"),
    "maskrcnn_resnet50_fpn_v2": partial(create_model, "maskrcnn_resnet50_fpn_v2"),
}
ALL_MASKS = ["maskrcnn_resnet50_fpn", pytest.param("maskrcnn_resnet50_fpn_v2", marks=pytest.mark.slow)]
KEYPOINTS = "keypointrcnn_resnet50_fpn"


def targets_of(recipe: Any, images: list[torch.Tensor], kind: str) -> list[Instances]:
    found = []
    for i, image in enumerate(images):
        size = image.shape[-2], image.shape[-1]
        target = recipe.target(i, *size, kind)
        target["labels"] = target["labels"] - 1
        found.append(Instances(size, **target))
    return found


def for_losses(build: Callable[..., FasterRCNN], names: list[str], meta: dict[str, Any]) -> FasterRCNN:
    counts = meta["train"]["constructor_kwargs"]
    proposals = replace(
        ProposalSettings(),
        samples=counts["rpn_batch_size_per_image"],
        before_nms=(counts["rpn_pre_nms_top_n_train"], 1),
        after_nms=(counts["rpn_post_nms_top_n_train"], 1),
    )
    boxes = BoxSettings(samples=counts["box_batch_size_per_image"])
    with parity.undrawn():
        return build(names, min_size=320, max_size=448, proposals=proposals, boxes=boxes)


@pytest.mark.parametrize("name", ALL_MASKS)
def test_mask_rcnn_equals_the_reference(name: str, shared: Path) -> None:
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        model = MASKS[name](NAMES, min_size=320, max_size=448, boxes=BoxSettings(min_score=meta["score_thresh"]))
    parity.fill(model, shared, name)
    images = images_of(recipe, meta)
    with torch.inference_mode(), parity.once(model.roi_heads.mask_head):
        batch, _ = model.prepare(images, None)
        maps = model.backbone(batch.tensor)
        proposals, _ = model.rpn(maps, batch)
        found, _ = model.roi_heads(maps, proposals, batch)
        labels = torch.cat([fields["labels"] for fields in found])
        logits = model.roi_heads.predict_masks(maps, [fields["boxes"] for fields in found], batch)
        assert list(logits.shape) == ref["mask/logits_shape"].tolist()
        parity.close(logits[torch.arange(8), labels[:8]], ref["mask/logits_of_label_first8"], 1e-3)
        results = model.finish(found, batch)
        check_detections(results, ref, "", meta["score_thresh"])
        for i, (fields, result) in enumerate(zip(found, results, strict=True)):
            pasted = paste_masks(fields["masks"], result.boxes, result.image_size, threshold=None)
            assert torch.equal(result.masks, pasted > 0.5)
            parity.close(pasted[:8, ::4, ::4], ref[f"det{i}/masks_stride4_first8"], 2e-3)
            parity.close(pasted.double().sum((1, 2)), ref[f"det{i}/mask_sums"], 0.5, 1e-3)


@pytest.mark.parametrize("name", ALL_MASKS)
def test_mask_rcnn_losses_equal_the_reference(name: str, shared: Path) -> None:
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    model = for_losses(MASKS[name], NAMES, meta)
    parity.fill(model, shared, name)
    images = images_of(recipe, meta)
    check_losses(model, model(images, targets_of(recipe, images, "mask")), ref)


def test_keypoint_rcnn_equals_the_reference(shared: Path) -> None:
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, KEYPOINTS)
    boxes = BoxSettings(min_score=meta["score_thresh"])
    with parity.undrawn():
        model = create_model("keypoint_rcnn_resnet50_fpn", ["person"], min_size=320, max_size=448, boxes=boxes)
    parity.fill(model, shared, KEYPOINTS)
    images = images_of(recipe, meta)
    with torch.inference_mode(), parity.once(model.roi_heads.keypoint_head):
        batch, _ = model.prepare(images, None)
        maps = model.backbone(batch.tensor)
        proposals, _ = model.rpn(maps, batch)
        found, _ = model.roi_heads(maps, proposals, batch)
        heat = model.roi_heads.predict_heat(maps, [fields["boxes"] for fields in found], batch)
        assert list(heat.shape) == ref["keypoint/heatmap_shape"].tolist()
        parity.close(heat[:4, :, ::2, ::2], ref["keypoint/heatmaps_first4_stride2"], 1e-3)
        results = model.finish(found, batch)
    check_detections(results, ref, "", meta["score_thresh"])
    for i, result in enumerate(results):
        stable = torch.from_numpy(ref[f"det{i}/keypoints_stable"])
        # a box whose side is a whole number of pixels but for rounding may get a pixel more or less
        sides = found[i]["boxes"][:, 2:] - found[i]["boxes"][:, :2]
        stable &= ((sides - sides.round()).abs() > 1e-3).all(1, keepdim=True)
        assert stable.float().mean() > 0.9
        parity.close(result.keypoints[..., :2][stable], ref[f"det{i}/keypoints"][..., :2][stable], 0.05)
        parity.close(result.keypoint_scores[stable], ref[f"det{i}/keypoints_scores"][stable], 5e-3)


def test_keypoint_rcnn_losses_equal_the_reference(shared: Path) -> None:
    """Rounding changes which rectifiers are open, and with them gradients by a thousandth; that of float64 does not."""
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, KEYPOINTS)
    model = for_losses(partial(create_model, "keypoint_rcnn_resnet50_fpn"), ["person"], meta)
    parity.fill(model, shared, KEYPOINTS)
    images = images_of(recipe, meta)
    with parity.float64():
        model, images = model.double(), [image.double() for image in images]
        check_losses(model, model(images, targets_of(recipe, images, "keypoint")), ref)


def operators(shared: Path) -> tuple[dict[str, np.ndarray], Any]:
    with np.load(shared / "parity" / "ops" / "detection_utils.npz") as file:
        return {key: file[key] for key in file.files}, parity.recipe(shared)


def test_resized_targets_equal_the_reference(shared: Path) -> None:
    ref, recipe = operators(shared)
    made = recipe.target(0, 60, 90, "mask")
    points = recipe.target(0, 60, 90, "keypoint")["keypoints"]
    target = Instances((60, 90), boxes=made["boxes"], labels=made["labels"], masks=made["masks"], keypoints=points)
    height, width = ref["resize/image_sizes"][0].tolist()
    moved = resize_target(target, (width / 90, height / 60), (height, width))
    parity.close(moved.boxes, ref["resize/boxes"], 1e-3)
    assert np.array_equal(moved.masks.numpy(), ref["resize/masks"].astype(bool))
    parity.close(moved.keypoints, ref["resize/keypoints"], 1e-3)


def test_cropped_masks_equal_the_reference(shared: Path) -> None:
    ref, recipe = operators(shared)
    masks = recipe.target(0, 60, 90, "mask")["masks"].bool()
    boxes = torch.from_numpy(ref["project_masks/boxes"])
    parity.close(crop_masks(masks, torch.tensor([0, 1, 2, 0]), boxes, 28), ref["project_masks/output"], 1e-4)


def test_keypoint_cells_equal_the_reference(shared: Path) -> None:
    ref, recipe = operators(shared)
    target = recipe.target(0, 60, 90, "keypoint")
    cells, counted = keypoints_to_cells(target["keypoints"], target["boxes"], 56)
    assert np.array_equal(counted.numpy(), ref["keypoints_to_heatmap/valid"].astype(bool))
    assert np.array_equal(cells.numpy(), ref["keypoints_to_heatmap/targets"])


def test_hottest_places_equal_the_reference(shared: Path) -> None:
    ref, _ = operators(shared)
    low = torch.from_numpy(ref["keypoints/maps_lowres"])
    heat = F.interpolate(low, size=(56, 56), mode="bicubic", align_corners=True)
    boxes = torch.from_numpy(ref["keypoints/rois"])
    points, scores = heatmaps_to_keypoints(heat, boxes)
    parity.close(points[..., :2], ref["keypoints/xy"][..., :2], 1e-3)
    parity.close(scores, ref["keypoints/scores"], 1e-4)
