"""Detectors equal torchvision's of the same name: keys, shapes, features, proposals, detections, losses, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.models.creation import create_model
from sightline.models.detection import faster_rcnn
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.rpn import ProposalSettings
from sightline.structures import Instances
from tests.models import parity

NAMES = [f"class {i}" for i in range(1, 91)]
PHONE = ProposalSettings(min_score=0.05, before_nms=(2000, 150), after_nms=(2000, 150))

TWO_STAGE: dict[str, tuple[Callable[..., faster_rcnn.FasterRCNN], ProposalSettings]] = {
    "fasterrcnn_resnet50_fpn": (partial(create_model, "faster_rcnn_resnet50_fpn"), ProposalSettings()),
    "fasterrcnn_resnet50_fpn_v2": (partial(create_model, "faster_rcnn_resnet50_fpn_v2"), ProposalSettings()),
    "fasterrcnn_mobilenet_v3_large_fpn": (
        partial(create_model, "faster_rcnn_mobilenet_v3_large_fpn"),
        ProposalSettings(min_score=0.05),
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (partial(create_model, "faster_rcnn_mobilenet_v3_large_320_fpn"), PHONE),
}


def images_of(recipe: Any, meta: dict[str, Any]) -> list[torch.Tensor]:
    return [eval(text, {"recipe": recipe}) for text in meta["images"]]


def check_detections(results: list[Instances], ref: dict[str, Any], prefix: str, threshold: float) -> None:
    for i, result in enumerate(results):
        result = result[result.scores > threshold]
        assert (result.labels + 1).tolist() == ref[f"{prefix}det{i}/labels"].tolist()
        parity.close(result.boxes, ref[f"{prefix}det{i}/boxes"], 0.05)
        parity.close(result.scores, ref[f"{prefix}det{i}/scores"], 1e-3)


OWN_NAMES = {
    "loss_classifier": "loss_classification",
    "loss_box_reg": "loss_box",
    "loss_rpn_box_reg": "loss_proposal_box",
    "classification": "loss_classification",
    "bbox_regression": "loss_box",
    "bbox_ctrness": "loss_centerness",
}
"""Our names of torchvision's losses, where they differ."""


def check_values(losses: dict[str, torch.Tensor], ref: dict[str, Any]) -> None:
    theirs = {key.removeprefix("train/loss/"): value for key, value in ref.items() if key.startswith("train/loss/")}
    expected = {OWN_NAMES.get(name, name): value for name, value in theirs.items()}
    assert expected.keys() == losses.keys()
    for name, value in losses.items():
        parity.close(value, expected[name], 0, 1e-4)


def check_losses(model: torch.nn.Module, losses: dict[str, torch.Tensor], ref: dict[str, Any]) -> None:
    check_values(losses, ref)
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for name, norm in zip(ref["train/grad_names"].tolist(), ref["train/grad_norms"].tolist(), strict=True):
        assert float(gradients[name].double().norm()) == pytest.approx(norm, rel=1e-3, abs=1e-5), name


def targets_of(recipe: Any, images: list[torch.Tensor]) -> list[Instances]:
    found = []
    for i, image in enumerate(images):
        size = image.shape[-2], image.shape[-1]
        target = recipe.target(i, *size, "box")
        found.append(Instances(size, boxes=target["boxes"], labels=target["labels"] - 1))
    return found


@pytest.mark.parametrize("name", TWO_STAGE)
def test_faster_rcnn_equals_the_reference(name: str, shared: Path) -> None:
    build, proposals = TWO_STAGE[name]
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        model = build(NAMES, min_size=320, max_size=448, proposals=proposals)
    parity.fill(model, shared, name)
    images = images_of(recipe, meta)
    with torch.inference_mode(), parity.once(model.backbone, model.roi_heads.box_head):
        batch, _ = model.prepare(images, None)
        assert batch.sizes == [tuple(s) for s in ref["transform/image_sizes"].tolist()]
        assert list(batch.tensor.shape) == ref["transform/batch_shape"].tolist()
        parity.close(recipe.subsample(batch.tensor, 2000), ref["transform/batch_subsample"], 1e-5)
        maps = model.backbone(batch.tensor)
        for level, x in zip(
            [k[8:-6] for k in ref if k.startswith("feature/") and k.endswith("shape")], maps.values(), strict=True
        ):
            assert list(x.shape) == ref[f"feature/{level}/shape"].tolist()
            parity.close(recipe.spatial(x), ref[f"feature/{level}/spatial"], 1e-3)
        anchors = torch.cat(model.rpn.anchors(maps, batch))
        assert len(anchors) == int(ref["anchors/0/count"])
        parity.close(anchors[:: max(1, len(anchors) // 50)], ref["anchors/0/subsample"], 1e-4)
        for level, x in enumerate(maps.values()):
            hidden = model.rpn.head.conv(x)
            parity.close(recipe.subsample(model.rpn.head.cls_logits(hidden)), ref[f"rpn/objectness/{level}"], 1e-3)
            parity.close(recipe.subsample(model.rpn.head.bbox_pred(hidden)), ref[f"rpn/bbox/{level}"], 1e-3)
        found, _ = model.rpn(maps, batch)
        for i, boxes in enumerate(found):
            assert len(boxes) == int(ref[f"proposals/{i}/count"])
            parity.close_in_order(boxes, ref[f"proposals/{i}/first50"], 0.05)
        pooled = model.roi_heads.region_features(maps, found, batch)
        parity.close(pooled[:8, :8], ref["roi/pooled_first8"], 1e-3)
        logits, deltas = model.roi_heads.predict(maps, found, batch)
        parity.close(logits[:20], ref["roi/class_logits_first20"], 1e-3)
        parity.close(deltas.flatten(1)[:20, :40], ref["roi/box_regression_first20"], 1e-3)
        check_detections(model(images), ref, "", meta["score_thresh"])


@pytest.mark.parametrize(
    "name",
    [
        # Mask R-CNN's losses of the same network are compared in test_mask_parity.py
        pytest.param("fasterrcnn_resnet50_fpn", marks=pytest.mark.slow),
        pytest.param("fasterrcnn_resnet50_fpn_v2", marks=pytest.mark.slow),
        pytest.param("fasterrcnn_mobilenet_v3_large_fpn", marks=pytest.mark.slow),
        "fasterrcnn_mobilenet_v3_large_320_fpn",
    ],
)
def test_faster_rcnn_losses_equal_the_reference(name: str, shared: Path) -> None:
    build, proposals = TWO_STAGE[name]
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    counts = meta["train"]["constructor_kwargs"]
    with parity.undrawn():
        model = build(
            NAMES,
            min_size=320,
            max_size=448,
            proposals=replace(
                proposals,
                samples=counts["rpn_batch_size_per_image"],
                before_nms=(counts["rpn_pre_nms_top_n_train"], 1),
                after_nms=(counts["rpn_post_nms_top_n_train"], 1),
            ),
            boxes=BoxSettings(samples=counts["box_batch_size_per_image"]),
        )
    parity.fill(model, shared, name)
    images = images_of(recipe, meta)
    check_losses(model, model(images, targets_of(recipe, images)), ref)


DEFAULTS = ["fasterrcnn_mobilenet_v3_large_320_fpn"] + [
    pytest.param(name, marks=pytest.mark.slow)
    for name in (
        *("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"),
        *("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn", "fcos_resnet50_fpn"),
    )
]


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_sizes_equal_the_reference(name: str, shared: Path) -> None:
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        model = create_model(name, ["person"] if name.startswith("keypoint") else NAMES)
    parity.fill(model, shared, name)
    with torch.inference_mode():  # the reference pads both images to the larger one's size
        batch, _ = model.prepare(images_of(parity.recipe(shared), meta), None)
        assert batch.sizes == [tuple(size) for size in ref["default/transform/image_sizes"].tolist()]
        assert list(batch.tensor.shape) == ref["default/transform/batch_shape"].tolist()
        results = model.finish(model.process(batch, None)[0], batch)
    check_detections(results, ref, "default/", meta["default"]["score_thresh"])


def test_ssdlite_equals_the_reference(shared: Path) -> None:
    name = "ssdlite320_mobilenet_v3_large"
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        model = create_model("ssdlite320_mobilenet_v3_large", NAMES)
    parity.fill(model, shared, name)
    images = images_of(recipe, meta)
    with torch.inference_mode():
        batch, _ = model.prepare(images, None)
        maps, logits, deltas = model.network(batch.tensor)
        for level, x in enumerate(maps):
            parity.close(recipe.spatial(x), ref[f"feature/{level}/spatial"], 1e-3)
        anchors = model.anchors(maps, batch)
        assert len(anchors) == int(ref["anchors/0/count"])
        parity.close(anchors[:: max(1, len(anchors) // 50)], ref["anchors/0/subsample"], 1e-4)
        parity.close(recipe.subsample(logits, 2000), ref["head/cls_logits/subsample"], 1e-3)
        parity.close(recipe.subsample(deltas, 2000), ref["head/bbox_regression/subsample"], 1e-3)
        check_detections(model(images), ref, "", meta["score_thresh"])
    check_losses(model, model(images, targets_of(recipe, images)), ref)
