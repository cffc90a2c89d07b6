"""Exported models give the results of the models they came from, for every kind of model (`pytest -m slow`).

Each model is exported small and compared at two batch sizes and three image sizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.deploy import sizes
from sightline.deploy.differences import TOLERANCE, Difference, compare, difference
from sightline.deploy.export import export
from sightline.deploy.exporting.parts import READERS, part_of
from sightline.deploy.runtimes import open_exported
from sightline.deploy.sizes import PerSize
from sightline.errors import InputError
from sightline.models.catalog import find
from sightline.models.creation import create_model
from tests.deploy.exporting.models import NAMES, batches, images, lively

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

EXPORTED: dict[str, dict[str, Any]] = {
    "mobilenet_v2": {"image_size": 64},
    "resnet18": {"image_size": 64},
    "vit_b_16": {"image_size": 64, "width": 64, "depth": 2},
    "deeplabv3_mobilenet_v2": {"width": 16, "min_size": 96},
    "lraspp": {"inner": 16},
    "unet_mobilenet_v2": {"channels": [32, 24, 16, 16, 8]},
    "sightline_n": {"image_size": 160},
    "sightline_lite0": {"image_size": 160},
    "ssdlite320_mobilenet_v2": {"image_size": 160},
    "retinanet_mobilenet_v2_fpn": {"min_size": 96, "max_size": 160, "channels": 32},
    "fcos_mobilenet_v2_fpn": {"min_size": 96, "max_size": 160, "channels": 32},
    "yolo_v2_darknet19": {"image_size": 64},
    "yolo_v1_mobilenet_v2": {"image_size": 64, "grid": 2},
    "localiser": {"image_size": 96},
    "faster_rcnn_mobilenet_v2_fpn": {"min_size": 96, "max_size": 160, "channels": 32, "hidden": 64},
    "faster_rcnn_mobilenet_v2": {"min_size": 96, "max_size": 160, "hidden": 64},
    "r_fcn_mobilenet_v2": {"min_size": 96, "max_size": 160, "hidden": 64},
    "light_head_rcnn_mobilenet_v2": {"min_size": 96, "max_size": 160, "hidden": 64},
    "region_proposal_network_mobilenet_v2": {"min_size": 96, "max_size": 160},
    "mask_rcnn_mobilenet_v2_fpn": {"min_size": 96, "max_size": 160, "channels": 32, "hidden": 64},
    "keypoint_rcnn_mobilenet_v2_fpn": {
        "min_size": 96,
        "max_size": 160,
        "channels": 32,
        "hidden": 64,
        "num_keypoints": 5,
    },
    "sightline_n_mask": {"image_size": 160},
    "sightline_n_pose": {"image_size": 160, "num_keypoints": 5},
    "efficientdet_d0": {"image_size": 128},
    "pp_yolo_mobilenet_v2": {"image_size": 160},
    "darknet": {"image_size": 96},
    "cube_rcnn_lite0_fpn": {"min_size": 96, "max_size": 160, "channels": 32, "hidden": 64},
}
"""Models that are exported, with smaller arguments."""
REFUSED = {
    "fast_rcnn_mobilenet_v2": "its proposals come from a function outside of the network",
    "r_cnn_mobilenet_v2": "which places it looks at depends on the image",
    "yolo_9000_mobilenet_v2": "where its walk down the tree of words ends depends on the scores",
    "densecap_lite0": "it writes captions word by word",
    "scene_graph_lite0_fpn": "which pairs of objects it looks at depends on the image",
    "mesh_rcnn_lite0_fpn": "how many points and faces its meshes have depends on the image",
    "overfeat_mobilenet_v2": "which places it looks at depends on the image",
    "sliding_window_mobilenet_v2": "which places it looks at depends on the image",
}
"""Models that are refused, with the reason."""


QUICK = ("sightline_n", "ssdlite320_mobilenet_v2", "yolo_v1_mobilenet_v2", "r_fcn_mobilenet_v2")
BOXES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name, entry in ((name, find(name)) for name in EXPORTED)
    if entry.task in ("detection", "proposal")
]


@pytest.mark.parametrize("name", BOXES)
def test_the_part_of_a_detector_equals_the_detector(name: str) -> None:
    model, given = lively(name, **EXPORTED[name]), images(2, (120, 170))
    with torch.no_grad():
        own, (batch, _) = model(given), model.prepare(given, None)
        part, (left, top, right, bottom) = part_of(model), batch.frame(0)
        size = torch.tensor([bottom - top, right - left])
        values = part(batch.tensor, size, torch.tensor(batch.original_sizes[0]))
    found = READERS[part.kind](dict(zip(part.outputs, values, strict=True)), batch.original_sizes, model.classes)
    total = difference(own[0], found[0]) + difference(own[1], found[1])
    assert total.objects
    assert total.within(Difference(scores=1e-5, pixels=1e-2, masks=1e-3, keypoints=1e-2))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_exported_equals_eager(name: str, tmp_path: Path) -> None:
    model = lively(name, **EXPORTED[name])
    export(model, tmp_path / "model.onnx", scores=model.task == "segmentation", check=False)
    opened = open_exported(tmp_path / "model.onnx")
    objects = 0
    for batch in batches():
        found = compare(model, opened, batch)
        assert found.within(TOLERANCE), str(found)
        objects += found.objects
    assert objects or model.task != "detection"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["faster_rcnn_mobilenet_v2_fpn", "sightline_n_mask", "ssdlite320_mobilenet_v2", "deeplabv3_mobilenet_v2"]
)
def test_openvino_gives_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(sizes, "PATIENCE", 0.0)
    model = lively(name, **EXPORTED[name])
    export(model, tmp_path / "model.onnx", check=False)
    opened = open_exported(tmp_path / "model.onnx", "openvino")
    for _ in ("for any size", "for one size"):
        found = compare(model, opened, images(3, (120, 170)))
        assert found.objects or model.task != "detection"
        assert found.within(TOLERANCE), str(found)
    run = opened._run
    assert isinstance(run, PerSize)
    assert len(run.shapes) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_other_models_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} cannot be exported: {REFUSED[name]}"):
        part_of(create_model(name, NAMES))
