"""Sightline's own detector with masks or keypoints, from training to predictions, pictures and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sightline as sl
from sightline.models.detection.sightline_detector import DenseSettings


@pytest.mark.parametrize(
    ("name", "arguments", "metric", "field"),
    [
        ("sightline_n_mask", {}, "mask/AP50", "segmentation"),
        ("sightline_n_pose", {"num_keypoints": 8}, "keypoint/AP50", "keypoints"),
    ],
)
def test_from_training_to_pictures(
    tmp_path: Path, name: str, arguments: dict[str, Any], metric: str, field: str
) -> None:
    """With mosaics, whose tiles cut and place every field."""
    data = sl.scenes(4, 64)
    model = sl.create_model(name, data.classes, image_size=64, settings=DenseSettings(max_detections=5), **arguments)
    run = sl.train(
        model,
        data,
        sl.scenes(2, 64, seed=1),
        runs=tmp_path,
        epochs=1,
        batch_size=2,
        workers=0,
        augmentation="mosaic",
        progress=False,
    )
    assert run.metrics[0][f"val/{metric}"] is not None
    assert (run.folder / "report.html").is_file()
    pixels = data[0][0]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "scene.png")
    done = sl.predict_to_folder(run.model, tmp_path / "scene.png", tmp_path / "out", threshold=0.0)
    written = json.loads((done.folder / "predictions.json").read_text())["annotations"]
    assert len(written) == 5
    assert all(row[field] for row in written)
    drawn = sl.draw(pixels, sl.predict(run.model, pixels, threshold=0.0))
    assert drawn.size == (64, 64)
