"""Mask and keypoint branches: naive loops, odd input, old checkpoints, and training through the whole path."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline import api
from sightline.api import predict_to_folder
from sightline.data.dataset import Dataset
from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.keypoint_rcnn import KeypointRCNN
from sightline.models.published import PUBLISHED
from sightline.models.weights import load_weights
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.keypoint import (
    KeypointHead,
    KeypointPredictor,
    KeypointRegionHeads,
    heatmaps_to_keypoints,
    keypoints_to_cells,
)
from sightline.nn.heads.mask import crop_masks
from sightline.nn.heads.regions import AlignedRegions
from sightline.ops.masks import masks_to_boxes, rle_to_mask
from sightline.runtime.shapes import shapes_only
from sightline.structures import ImageBatch, Instances
from sightline.structures.deferred import Deferred
from sightline.training.loop import fit
from sightline.training.recipe import Recipe
from tests.models import parity
from tests.models.fitting import fitted_results

NAMES = ["disc", "square"]
TINY: dict[str, Any] = {"min_size": 64, "max_size": 96, "channels": 32, "hidden": 64}


def mask_model(**arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return create_model("mask_rcnn_mobilenet_v2_fpn", NAMES, **{**TINY, **arguments})


def keypoint_model(points: int = 3) -> KeypointRCNN:
    torch.manual_seed(0)
    base = create_model("faster_rcnn_mobilenet_v2_fpn", NAMES, **TINY)
    regions = base.roi_heads.region_features
    assert isinstance(regions, AlignedRegions)
    head = KeypointHead(32, (32, 32))
    heads = KeypointRegionHeads(base.roi_heads, AlignedRegions(regions.levels, 14), head, KeypointPredictor(32, points))
    return KeypointRCNN.on(base, heads)


def scene(seed: int, objects: int = 2, size: tuple[int, int] = (72, 80)) -> tuple[Tensor, Instances]:
    """Bright discs and squares on grey; their keypoints are left end, centre, right end."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.full((3, *size), 60, dtype=torch.uint8)
    rows, columns = torch.arange(size[0])[:, None] + 0.5, torch.arange(size[1]) + 0.5
    masks, labels, points = [], [], []
    for i in range(objects):
        r = 9 + 6 * float(torch.rand((), generator=generator))
        x, y = (r + torch.rand(2, generator=generator) * (torch.tensor(size[::-1]) - 2 * r)).tolist()
        label = (seed + i) % 2
        dx, dy = (columns - x).abs(), (rows - y).abs()
        mask = dx**2 + dy**2 < r**2 if label == 0 else torch.maximum(dx, dy) < r
        image[label, mask] = 250
        masks.append(mask)
        labels.append(label)
        points.append([[x - r + 1, y, 2], [x, y, 2], [x + r - 1, y, 1]])
    if not objects:
        return image, Instances(size)
    bitmaps = torch.stack(masks)
    target = Instances(size, boxes=masks_to_boxes(bitmaps), labels=labels, masks=bitmaps, keypoints=points)
    return image, target


def data(count: int) -> Dataset:
    pairs = [scene(i, objects=0 if i == 2 else 2) for i in range(count)]
    return Dataset.from_instances([image for image, _ in pairs], [target for _, target in pairs], NAMES)


def test_cropped_masks_are_the_mean_of_four_points() -> None:
    """RoI align with as many points as a cell has pixels, checked where a cell is two pixels: by interpolation."""
    masks = torch.rand(2, 30, 40, generator=torch.Generator().manual_seed(0)) > 0.5
    boxes = torch.tensor([[3.0, 4.0, 19.0, 20.0], [10.3, 5.6, 26.3, 21.6], [0.0, 0.0, 16.0, 16.0]])
    objects = torch.tensor([1, 0, 1])
    found = crop_masks(masks, objects, boxes, 8)
    for k in range(3):
        values = masks[objects[k]].double()

        def read(x: float, y: float, values: Tensor = values) -> float:
            x0, y0 = int(x), int(y)
            x1, y1 = min(x0 + 1, 39), min(y0 + 1, 29)
            dx, dy = x - x0, y - y0
            top = values[y0, x0] * (1 - dx) + values[y0, x1] * dx
            return float(top * (1 - dy) + (values[y1, x0] * (1 - dx) + values[y1, x1] * dx) * dy)

        for i in range(8):
            for j in range(8):
                x, y = float(boxes[k, 0]) + 2 * j, float(boxes[k, 1]) + 2 * i
                mean = sum(read(x + a, y + b) for a in (0.5, 1.5) for b in (0.5, 1.5)) / 4
                assert float(found[k, i, j]) == pytest.approx(mean, abs=1e-5)


def test_masks_are_cropped_alike_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.rand(7, 20, 20, generator=torch.Generator().manual_seed(1)) > 0.5
    boxes = torch.tensor([[1.0, 2.0, 15.0, 18.0]]).repeat(9, 1) + torch.arange(9)[:, None] * 0.2
    objects = torch.tensor([6, 0, 3, 3, 1, 5, 2, 0, 4])
    whole = crop_masks(masks, objects, boxes, 7)
    monkeypatch.setattr("sightline.nn.heads.mask._BITMAP_BYTES", 2 * 4 * 400)
    assert torch.equal(crop_masks(masks, objects, boxes, 7), whole)


def test_keypoint_cells_by_hand() -> None:
    box = torch.tensor([[10.0, 20.0, 18.0, 36.0]])
    points = torch.tensor([[[10, 20, 2], [18, 36, 1], [13.9, 29.9, 2], [9.9, 25, 2], [12, 40, 2], [12, 25, 0]]])
    cells, counted = keypoints_to_cells(points, box, 8)
    assert counted.tolist() == [[True, True, True, False, False, False]]
    assert cells.tolist() == [[0, 7 * 8 + 7, 4 * 8 + 3, 0, 0, 0]]
    cells, counted = keypoints_to_cells(points, torch.tensor([[12.0, 20.0, 12.0, 36.0]]), 8)  # a box without width
    assert ((cells >= 0) & (cells < 64)).all()


def test_the_keypoint_loss_is_a_mean_over_labelled_keypoints_alone() -> None:
    """A flat map of 7 × 7 cells costs log 49 a keypoint, however many there are that do not count."""
    heads = keypoint_model().roi_heads
    points = torch.tensor([[[12.0, 25, 2], [11, 21, 1], [13, 30, 0]], [[99, 99, 2], [0, 0, 0], [0, 0, 0]]])
    boxes = torch.tensor([[10.0, 20, 17, 34]]).repeat(2, 1)
    heat = torch.zeros(2, 3, 7, 7)
    assert float(heads.keypoint_loss(heat, points, boxes)) == pytest.approx(math.log(49))
    heat[0, 1, 0, 1] = math.log(48)  # half of the certainty in the hidden one's own cell
    assert float(heads.keypoint_loss(heat, points, boxes)) == pytest.approx((math.log(49) + math.log(2)) / 2)
    assert float(heads.keypoint_loss(heat[1:], points[1:], boxes[1:])) == 0


def test_keypoints_come_back_by_the_factors_of_both_sides() -> None:
    """An image of 50 × 200 pixels inside a batch of 100 × 100: x was halved, y doubled; another was left as it is."""
    model = keypoint_model()
    batch = ImageBatch(torch.zeros(2, 3, 128, 128), [(100, 100), (60, 40)], [(50, 200), (60, 40)])
    fields = {
        "boxes": torch.tensor([[10.0, 20, 30, 60]]),
        "labels": torch.tensor([1]),
        "scores": torch.tensor([0.5]),
        "keypoints": torch.tensor([[[10.0, 20, 2], [30, 60, 2], [11, 21, 2]]]),
    }
    first, second = model.finish([fields, fields], batch)
    assert first.boxes.tolist() == [[20, 10, 60, 30]]
    assert first.keypoints.tolist() == [[[20, 10, 2], [60, 30, 2], [22, 10.5, 2]]]
    assert second.keypoints.tolist() == fields["keypoints"].tolist()


def test_hottest_places_equal_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    heat = torch.randn(6, 4, 14, 14, generator=generator)
    corner = torch.rand(6, 2, generator=generator) * 40
    sides = torch.tensor([[30.2, 11.7], [0.2, 5.0], [90.5, 40.1], [14.0, 14.0], [3.3, 70.9], [55.5, 55.5]])
    boxes = torch.cat([corner, corner + sides], 1)
    monkeypatch.setattr("sightline.nn.heads.keypoint._HEAT_BYTES", 4 * 4 * 60 * 60)
    points, scores = heatmaps_to_keypoints(heat, boxes)
    for k in range(6):
        width, height = (boxes[k, 2:] - boxes[k, :2]).clamp(min=1).tolist()
        columns, rows = int(-(-width // 1)), int(-(-height // 1))
        full = F.interpolate(heat[k][None], size=(rows, columns), mode="bicubic", align_corners=False)[0]
        for p in range(4):
            place = int(full[p].argmax())
            x = float(corner[k, 0]) + (place % columns + 0.5) * width / columns
            y = float(corner[k, 1]) + (place // columns + 0.5) * height / rows
            assert points[k, p].tolist() == pytest.approx([x, y, 2], abs=1e-3)
            assert float(scores[k, p]) == pytest.approx(float(full[p].max()), abs=1e-4)
    none = heatmaps_to_keypoints(heat[:0], boxes[:0])
    assert none[0].shape == (0, 4, 3)
    assert none[1].shape == (0, 4)


def test_masks_fill_the_image_they_came_from_and_unused_outputs_are_left_out() -> None:
    model = mask_model(output_ids=[3, 5], boxes=BoxSettings(min_score=0.0)).eval()
    image, _ = scene(0, size=(90, 50))
    with torch.inference_mode():
        result = model([image])[0]
    assert len(result)
    assert isinstance(result._fields["masks"], Deferred)  # nothing is pasted before it is read
    assert result.masks.dtype == torch.bool
    assert result.masks.shape == (len(result), 90, 50)
    assert set(result.labels.tolist()) <= {0, 1}
    # a mask lies in its box, but for the pixels that the box only touches and the border of the grid
    boxes = masks_to_boxes(result.masks)[result.masks.any((1, 2))]
    own = result.boxes[result.masks.any((1, 2))]
    margin = (own[:, 2:] - own[:, :2]) / 28 + 2
    assert (boxes[:, :2] >= own[:, :2] - margin).all()
    assert (boxes[:, 2:] <= own[:, 2:] + margin).all()


@pytest.mark.parametrize(("build", "field"), [(mask_model, "masks"), (keypoint_model, "keypoints")])
def test_targets_without_the_field_are_refused_with_one_sentence(build: Any, field: str) -> None:
    image, target = scene(0)
    bare = Instances(target.image_size, boxes=target.boxes, labels=target.labels, source="a.jpg")
    with pytest.raises(InputError, match=rf'a\.jpg has no {field}, but this model learns.*with_fields\("{field}"\)'):
        build()([image], [bare])


def test_wrong_shapes_are_refused_with_one_sentence() -> None:
    image, target = scene(0)
    other = Instances((30, 30), boxes=[[1, 1, 9, 9]], labels=[0], masks=torch.ones(1, 30, 30), source="a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg has masks of \[30, 30\] pixels, but its image has \[72, 80\]"):
        mask_model()([image], [other])
    with pytest.raises(
        InputError, match="the objects have 3 keypoints, but the model has 5; create it with num_keypoints=3"
    ):
        keypoint_model(points=5)([image], [target])


def test_keypoints_outside_or_absent_teach_nothing_and_harm_nothing() -> None:
    image, target = scene(0)
    absent = target.keypoints.clone()
    absent[..., 2] = 0
    outside = target.keypoints.clone()
    outside[..., 0] += 1000
    model = keypoint_model()
    for points in (absent, outside):
        losses = model([image], [target.replace(keypoints=points)])
        assert losses["loss_keypoint"].item() == 0
        sum(losses.values()).backward()  # type: ignore[union-attr]


def test_old_checkpoints_of_the_mask_head_are_read() -> None:
    model, other = mask_model(), mask_model()
    old = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if parts[1:2] == ["mask_head"]:
            key = f"roi_heads.mask_head.mask_fcn{int(parts[2]) + 1}.{parts[4]}"
        old[key] = torch.randn_like(value) if value.is_floating_point() else value
    report = load_weights(other, old, "old.pth")
    assert not report.left_out
    assert not report.fresh
    first = other.state_dict()["roi_heads.mask_head.2.0.weight"]
    assert torch.equal(first, old["roi_heads.mask_head.mask_fcn3.weight"])


def test_published_checkpoints_are_those_of_the_reference(shared: Path) -> None:
    for theirs in ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn"):
        entry = next(w for w in parity.manifest(shared, theirs)["weights"] if w["default"])
        ours = next(p for p in PUBLISHED if p.url == entry["url"])
        for figure in entry["meta"]["_metrics"]["COCO-val2017"].values():
            assert str(figure) in ours.metric
        with shapes_only():
            outputs = entry["meta"]["num_categories"] - 1
            model = create_model(theirs, [str(i) for i in range(outputs)], **ours.arguments)
        assert sum(p.numel() for p in model.parameters()) == entry["meta"]["num_params"]
        assert model.name == ours.network


def test_two_steps_through_the_whole_path(tmp_path: Path) -> None:
    images = data(6)
    train, held_out = images[:4], images[4:]
    assert "masks" not in train.target(0)
    numbers = {"epochs": 1, "batch_size": 2, "workers": 0, "augmentation": "default", "ema": None, "lr": 1e-4}
    run = api.train(mask_model(), train, held_out, runs=tmp_path, name="masks", progress=False, device="cpu", **numbers)
    assert run.metrics[0]["train/loss_mask"] > 0
    assert run.metrics[0]["val/mask/AP"] is not None
    assert run.metric == "val/AP"
    stored = json.loads((run.folder / "evaluation.json").read_text())
    assert "mask/AP50" in stored["metrics"]
    assert "mask AP" in (run.folder / "report.html").read_text(encoding="utf-8")
    again = api.evaluate(run.folder, held_out, progress=False, device="cpu")
    assert again.metrics["mask/AP"] == stored["metrics"]["mask/AP"]
    boxes = [(i, Instances(t.image_size, boxes=t.boxes, labels=t.labels)) for i, t in held_out]
    bare = Dataset.from_instances([i for i, _ in boxes], [t for _, t in boxes], NAMES)
    assert "mask/AP" not in api.evaluate(run.model, bare, progress=False).metrics
    with pytest.raises(InputError, match="mask_rcnn_mobilenet_v2_fpn learns from masks, but the dataset has no field"):
        api.train(mask_model(), bare, runs=tmp_path, progress=False, **numbers)


def test_keypoints_through_training_with_augmentation(tmp_path: Path) -> None:
    from sightline.data.transforms import recipes

    images = data(4).with_fields("keypoints")
    recipe = Recipe.from_dict({"epochs": 1, "batch_size": 2, "workers": 0, "ema": None, "lr": 1e-4}, "the test")
    model = keypoint_model()
    run = fit(
        model,
        images,
        recipe,
        tmp_path / "run",
        transform=recipes.named("default"),
        progress=False,
        device="cpu",
        save=lambda model, path, metadata: torch.save(model.state_dict(), path),
    )
    assert run.metrics[0]["train/loss_keypoint"] > 0
    result = api.evaluate(model, images, progress=False)
    assert "keypoint/AP" in result.metrics


def test_masks_of_predictions_in_files_and_pictures(tmp_path: Path) -> None:
    image, target = scene(0)
    marked = target.replace(scores=torch.tensor([0.9, 0.8]))

    class Oracle(nn.Module):
        classes = data(1).classes
        in_channels = 3

        def forward(self, images: list[Tensor]) -> list[Instances]:
            return [marked.replace() for _ in images]

    from sightline.data.images import to_pil

    to_pil(image).save(tmp_path / "a.png")
    predict_to_folder(Oracle(), str(tmp_path / "a.png"), tmp_path / "out", draw=api.draw, progress=False)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    entries = found["annotations"] if isinstance(found, dict) else found
    for entry, mask in zip(entries, target.masks, strict=True):
        assert torch.equal(rle_to_mask(entry["segmentation"]), mask)
    plain = api.draw(image, target.replace(masks=torch.zeros_like(target.masks)))
    drawn = api.draw(image, target)
    x, y = (int(v) for v in target.keypoints[0, 1, :2] + 4)
    assert drawn.size == (80, 72)
    assert plain.tobytes() != drawn.tobytes()
    assert drawn.getpixel((x, y)) != plain.getpixel((x, y))


@pytest.mark.slow
def test_masks_and_keypoints_overfit() -> None:
    pairs = [scene(i, objects=1) for i in (0, 1)]
    images, targets = [image for image, _ in pairs], [target for _, target in pairs]
    for model in (mask_model(), keypoint_model()):
        model.train()
        results = fitted_results(model, images, targets, steps=80, lr=2e-3)
        for result, target in zip(results, targets, strict=True):
            assert int(result.labels[0]) == int(target.labels[0])
            if "masks" in result:
                a, b = result.masks[0], target.masks[0]
                assert int((a & b).sum()) / int((a | b).sum()) > 0.75
            else:
                assert (result.keypoints[0, :, :2] - target.keypoints[0, :, :2]).abs().max() < 5


def test_anchors_of_the_small_pyramid_are_thirds_of_octaves() -> None:
    """Strides of 8, 16, 32 and 64: three sizes each, from 32 to 256 · 2^(2/3) pixels, in three shapes."""
    bases = create_model("faster_rcnn_mobilenet_v2_fpn", NAMES, **TINY).rpn.anchor_bases
    sides = [(base[:, 2:] - base[:, :2]).prod(1).sqrt().tolist() for base in bases]
    for level, found in enumerate(sides):
        expected = [32 * 2 ** (level + third / 3) for third in range(3)]
        assert sorted(found) == pytest.approx(sorted(expected * 3), rel=0.05)
