"""COCO's numbers of masks and keypoints against pycocotools and the reference values; labels against themselves."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data.formats import open_dataset
from sightline.errors import InputError
from sightline.evaluation import COCO_METRICS, evaluate_detection
from sightline.evaluation.coco import KEYPOINT_METRICS
from sightline.evaluation.packed import PackedInstances
from sightline.ops.masks import masks_to_boxes, polygons_to_mask, rle_to_mask
from sightline.structures import Classes, Instances

NAMES = Classes(["disc", "person", "never"])


def disc(x: float, y: float, radius: float, size: tuple[int, int]) -> torch.Tensor:
    rows, columns = torch.arange(size[0])[:, None] + 0.5, torch.arange(size[1]) + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def points_around(rng: np.random.Generator, box: torch.Tensor, count: int) -> np.ndarray:
    low, high = box[:2].numpy(), box[2:].numpy()
    return np.concatenate([rng.uniform(low, high, (count, 2)), rng.integers(0, 3, (count, 1))], 1)


def random_case(seed: int, points: int = 17) -> tuple[list[Instances], list[Instances]]:
    """Discs of many sizes with keypoints, crowds among them; detections are these, moved, doubled, of other class."""
    rng = np.random.default_rng(seed)
    targets, predictions = [], []
    for _ in range(8):
        size = (int(rng.integers(90, 160)), int(rng.integers(90, 260)))
        n = int(rng.integers(0, 6))
        masks = [disc(*rng.uniform(0, size[::-1]), rng.uniform(8, 70), size) for _ in range(n)]
        bitmaps = torch.stack(masks) if n else torch.zeros(0, *size, dtype=torch.bool)
        boxes = masks_to_boxes(bitmaps)
        keypoints = [points_around(rng, box, points) * (rng.random() < 0.8) for box in boxes]
        labels = rng.integers(0, 2, n)
        targets.append(
            Instances(
                size,
                classes=NAMES,
                boxes=boxes,
                labels=labels,
                crowd=rng.random(n) < 0.1,
                areas=bitmaps.sum((1, 2)).double(),
                masks=bitmaps,
                keypoints=np.array(keypoints).reshape(n, points, 3),
            )
        )
        near = rng.integers(0, n, int(rng.integers(0, 2 * n + 1))) if n else np.zeros(0, dtype=int)
        shifts = rng.integers(-4, 5, (len(near), 2)).tolist()
        moved = [torch.roll(bitmaps[i], (dy, dx), (0, 1)) for i, (dx, dy) in zip(near, shifts, strict=True)]
        found = torch.stack(moved) if moved else torch.zeros(0, *size, dtype=torch.bool)
        spots = np.array([keypoints[i] for i in near]).reshape(len(near), points, 3)
        spots[..., :2] += rng.normal(0, 3, spots[..., :2].shape)
        predictions.append(
            Instances(
                size,
                classes=NAMES,
                boxes=masks_to_boxes(found),
                labels=np.where(rng.random(len(near)) < 0.8, labels[near], 1) if n else labels,
                scores=torch.from_numpy(rng.integers(1, 20, len(near)) / 20),
                masks=found,
                keypoints=spots,
            )
        )
    return targets, predictions


def oracle(targets: list[Instances], predictions: list[Instances], kind: str) -> tuple[list[float], np.ndarray]:
    """The numbers and the precision table of pycocotools."""
    from pycocotools import mask as coco
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def shapes(item: Instances, i: int) -> dict[str, Any]:
        rle = coco.encode(np.asfortranarray(item.masks[i].numpy().astype(np.uint8)))
        flat = item.keypoints[i].flatten().tolist()
        counted = int((item.keypoints[i, :, 2] > 0).sum())
        return {"segmentation": rle} if kind == "segm" else {"keypoints": flat, "num_keypoints": counted}

    def entries(items: list[Instances]) -> list[dict[str, Any]]:
        out = []
        for image, item in enumerate(items, 1):
            for i in range(len(item)):
                x1, y1, x2, y2 = item.boxes[i].tolist()
                entry = {"image_id": image, "category_id": int(item.labels[i]) + 1, **shapes(item, i)}
                if items is targets:
                    entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(item.areas[i])}
                    entry |= {"iscrowd": int(item.crowd[i]), "id": len(out) + 1}
                elif kind == "keypoints" and not (item.keypoints[i, :, 2] > 0).any():
                    continue  # it says that it has none
                else:
                    entry["score"] = float(item.scores[i])
                out.append(entry)
        return out

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [
                {"id": i, "height": t.image_size[0], "width": t.image_size[1]} for i, t in enumerate(targets, 1)
            ],
            "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)],
            "annotations": entries(targets),
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(entries(predictions)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist(), evaluation.eval["precision"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "prefix"), [("segm", "mask/"), ("keypoints", "keypoint/")])
def test_equals_pycocotools(seed: int, kind: str, prefix: str) -> None:
    targets, predictions = random_case(seed)
    result = evaluate_detection(targets, predictions, NAMES)
    expected, precision = oracle(targets, predictions, kind)
    names = COCO_METRICS if kind == "segm" else KEYPOINT_METRICS
    for name, value in zip(names, expected, strict=True):
        if value < 0:
            assert result.metrics[prefix + name] is None
            assert result.reasons[prefix + name]
        else:
            assert result.metrics[prefix + name] == pytest.approx(value, abs=1e-9)
    for k, name in enumerate(NAMES):
        table = precision[:, :, k, 0, -1]
        assert (result.per_class[name][f"{prefix}AP"] is None) == bool((table < 0).all())
        if (table >= 0).all():
            assert result.per_class[name][f"{prefix}AP"] == pytest.approx(table.mean(), abs=1e-9)
            assert result.per_class[name][f"{prefix}AP50"] == pytest.approx(table[0].mean(), abs=1e-9)
            assert result.per_class[name][f"{prefix}AP75"] == pytest.approx(table[5].mean(), abs=1e-9)


@pytest.mark.parametrize(("kind", "prefix"), [("segm", "mask/"), ("keypoints", "keypoint/")])
def test_reference_values(shared: Path, kind: str, prefix: str) -> None:
    folder = shared / "parity" / "metrics"
    truth = json.loads((folder / "coco_gt.json").read_text())
    found = json.loads((folder / f"coco_dt_{kind}.json").read_text())
    expected = json.loads((folder / "coco_expected.json").read_text())[kind]
    classes = Classes([c["name"] for c in truth["categories"]])
    ids = {c["id"]: k for k, c in enumerate(truth["categories"])}

    def bitmap(segmentation: Any, size: tuple[int, int]) -> torch.Tensor:
        return rle_to_mask(segmentation) if isinstance(segmentation, dict) else polygons_to_mask(segmentation, size)

    def rows(annotations: list[dict[str, Any]], image: dict[str, Any]) -> Instances:
        own = [a for a in annotations if a["image_id"] == image["id"]]
        size = (image["height"], image["width"])
        fields: dict[str, Any] = {"labels": [ids[a["category_id"]] for a in own]}
        boxes = torch.tensor([a.get("bbox", [0, 0, 9, 9]) for a in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        fields["boxes"] = boxes
        if kind == "segm":
            empty = torch.zeros(0, *size, dtype=torch.bool)
            fields["masks"] = torch.stack([bitmap(a["segmentation"], size) for a in own]) if own else empty
        else:
            fields["keypoints"] = torch.tensor([a["keypoints"] for a in own], dtype=torch.float64).reshape(-1, 17, 3)
        if annotations is found:
            fields["scores"] = torch.tensor([a["score"] for a in own], dtype=torch.float64)
        else:
            fields["crowd"] = [bool(a["iscrowd"]) for a in own]
            fields["areas"] = torch.tensor([a["area"] for a in own], dtype=torch.float64)
        return Instances(size, classes=classes, **fields)

    targets = [rows(truth["annotations"], image) for image in truth["images"]]
    predictions = [rows(found, image) for image in truth["images"]]
    result = evaluate_detection(targets, predictions, classes)
    names = COCO_METRICS if kind == "segm" else KEYPOINT_METRICS
    for name, value in zip(names, expected["stats"].values(), strict=True):
        assert result.metrics[prefix + name] == pytest.approx(value, abs=1e-9)
    for row in expected["per_class"].values():
        ours = result.per_class[row["name"]]
        recall = "AR100" if kind == "segm" else "AR"
        for name, value in (("AP", row["AP"]), ("AP50", row["AP50"]), ("AP75", row["AP75"]), (recall, row["AR"])):
            assert ours[prefix + name] == (None if value < 0 else pytest.approx(value, abs=1e-9))


def test_labels_against_themselves_score_one(shared: Path) -> None:
    data = open_dataset(shared / "data" / "coco_mini").with_fields("masks", "keypoints")
    targets = [data.target(i) for i in range(len(data))]
    result = evaluate_detection(targets, targets, data.classes)
    for name in ("AP", "mask/AP", "mask/AP50", "mask/APs", "mask/AR100", "keypoint/AP", "keypoint/AP50", "keypoint/AR"):
        assert result.metrics[name] == pytest.approx(1.0, abs=1e-12), name
    assert result.per_class["person"]["keypoint/AP"] == 1.0
    assert result.per_class["dog"]["keypoint/AP"] is None
    assert result.reasons["dog/keypoint/AP"] == "no object of 'dog' with labelled keypoints in these labels"


def test_masks_are_kept_packed_and_come_back() -> None:
    targets, predictions = random_case(0)
    result = evaluate_detection(targets, predictions, NAMES)
    for kept, items in ((result.targets, targets), (result.predictions, predictions)):
        assert isinstance(kept, PackedInstances)
        assert len(kept) == len(items)
        assert all("masks" not in item for item in kept.packed)
        assert all(torch.equal(a.masks, b.masks) for a, b in zip(kept, items, strict=True))
        assert len(kept[2:4]) == 2


def test_boxes_alone_have_no_numbers_of_masks() -> None:
    targets, predictions = random_case(1)
    boxes = [Instances(p.image_size, boxes=p.boxes, labels=p.labels, scores=p.scores) for p in predictions]
    result = evaluate_detection(targets, boxes, NAMES)
    assert not [name for name in result.metrics if "/" in name]
    both = evaluate_detection(targets, predictions, NAMES)
    assert {name: both.metrics[name] for name in result.metrics} == result.metrics
    assert both.to_dict()["protocols"]["mask/AP"] == "COCO 2017 segm"
    assert "mask AP50" in str(both)
    assert "COCO 2017 keypoints" in str(both)


def test_without_areas_an_object_is_as_large_as_its_mask() -> None:
    size = (100, 100)
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[0, 10:50, 10:12] = mask[0, 10:12, 10:50] = True  # 156 pixels in a box of 1600
    target = Instances(size, boxes=masks_to_boxes(mask), labels=[0], masks=mask)
    result = evaluate_detection([target], [target], ["line"])
    assert result.metrics["APs"] is None
    assert result.metrics["mask/APs"] == 1.0
    assert result.metrics["mask/APm"] is None


def test_hidden_keypoints_are_labelled_and_count() -> None:
    """COCO's visibility 1, labelled but hidden, is measured like 2; an object of 0 alone has no keypoints."""
    box = torch.tensor([[10.0, 10, 90, 90]])
    found = torch.tensor([[[20.0, 20, 2], [50, 50, 2], [80, 80, 2]]])
    for visibility, expected in ((1, 1.0), (2, 1.0), (0, None)):
        labelled = found.clone()
        labelled[..., 2] = visibility
        target = Instances((100, 100), classes=NAMES, boxes=box, labels=[1], keypoints=labelled)
        prediction = Instances((100, 100), classes=NAMES, boxes=box, labels=[1], scores=[0.9], keypoints=found)
        assert evaluate_detection([target], [prediction], NAMES).metrics["keypoint/AP"] == expected


def test_the_tolerance_of_other_things_by_hand() -> None:
    """σ = 0.067, k = 2σ: 10 pixels beside an area of 6400 are an OKS of exp(−100 / (2 · 6400 · 0.134²)) = 0.647, above
    three of COCO's ten thresholds."""
    box, points = torch.tensor([[10.0, 10, 90, 90]]), torch.tensor([[[20.0, 20, 2], [50, 50, 2], [80, 80, 2]]])
    target = Instances((100, 100), classes=NAMES, boxes=box, labels=[1], keypoints=points)
    moved = points + torch.tensor([6.0, 8, 0])
    prediction = Instances((100, 100), classes=NAMES, boxes=box, labels=[1], scores=[0.9], keypoints=moved)
    assert evaluate_detection([target], [prediction], NAMES).metrics["keypoint/AP"] == pytest.approx(0.3)


def test_keypoints_that_some_labels_lack_are_not_measured() -> None:
    box, points = torch.tensor([[10.0, 10, 90, 90]]), torch.tensor([[[20.0, 20, 2]]])
    whole = Instances((100, 100), classes=NAMES, boxes=box, labels=[1], scores=[0.9], keypoints=points)
    bare = Instances((100, 100), classes=NAMES, boxes=box, labels=[1])
    empty = Instances((100, 100), classes=NAMES)
    assert "keypoint/AP" not in evaluate_detection([whole, bare], [whole, whole], NAMES).metrics
    assert evaluate_detection([whole, empty], [whole, empty.replace(scores=[])], NAMES).metrics["keypoint/AP"] == 1.0


def test_keypoints_of_other_things_have_one_tolerance() -> None:
    targets, _ = random_case(2, points=4)
    result = evaluate_detection(targets, targets, NAMES)
    assert result.metrics["keypoint/AP"] == 1.0
    assert any("COCO defines no tolerances for 4 keypoints" in note for note in result.notes)
    five = [t.replace(keypoints=torch.cat([t.keypoints, t.keypoints[:, :1]], 1)) for t in targets]
    with pytest.raises(InputError, match="the labels have 4 keypoints per object and the predictions 5"):
        evaluate_detection(targets, five, NAMES)


def test_masks_of_another_size_are_refused() -> None:
    def square(side: int) -> Instances:
        return Instances((side, side), boxes=[[0, 0, 9, 9]], labels=[0], masks=torch.ones(1, side, side))

    with pytest.raises(InputError, match=r"prediction 0 .* has masks of \[40, 40\] pixels, but the labels' are of"):
        evaluate_detection([square(50)], [square(40)], ["square"])
