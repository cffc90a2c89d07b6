"""Exported cuboids: the file takes the cameras of images, and finds what the model finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sightline as sl
from sightline.deploy.differences import TOLERANCE, Difference, compare, difference
from sightline.deploy.examine import examine
from sightline.deploy.export import export
from sightline.deploy.exporting.cameras import as_input, cameras_of, seen_by
from sightline.deploy.exporting.parts import READERS, part_of, refusal
from sightline.deploy.runtimes import open_exported
from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.spatial.cube_rcnn import CubeRCNN
from tests.deploy.exporting.models import NAMES, batches, images, lively

SMALL: dict[str, Any] = {"min_size": 96, "max_size": 160, "channels": 32, "hidden": 64}
SKEWED = torch.tensor([[150.0, 2, 80], [0, 140, 55], [0, 0, 1]])
MIRRORED = torch.tensor([[-1.0, 0, 170], [0, 1, 0], [0, 0, 1]]) @ SKEWED


def views(given: Sequence[Tensor]) -> list[Tensor]:
    """Images of which the first has a skewed camera, the second a mirrored one, and the others none."""
    cameras = (SKEWED, MIRRORED)
    return [sl.View(image, camera) for image, camera in zip(given, cameras, strict=False)] + list(given[2:])


@pytest.fixture(scope="module")
def model() -> CubeRCNN:
    made = lively("cube_rcnn_lite0_fpn", **SMALL)
    assert isinstance(made, CubeRCNN)
    return made


def test_the_part_finds_the_cuboids_of_the_model_in_the_frame_of_each_camera(model: CubeRCNN) -> None:
    given = views(images(3, (120, 170)))
    with torch.no_grad():
        own, (batch, _) = model(given), model.prepare(given, None)
        left, top, right, bottom = batch.frame(0)
        size, cameras = torch.tensor([bottom - top, right - left]), cameras_of(given, model.assumed_focal)
        part = part_of(model)
        values = part(batch.tensor, size, torch.tensor(batch.original_sizes[0]), as_input(cameras))
    found = READERS[part.kind](dict(zip(part.outputs, values, strict=True)), batch.original_sizes, model.classes)
    found = [seen_by(each, camera) for each, camera in zip(found, cameras, strict=True)]
    total = difference(own[0], found[0]) + difference(own[1], found[1]) + difference(own[2], found[2])
    assert total.objects
    assert total.within(Difference(scores=1e-5, pixels=1e-2, cuboids=1e-4))
    assert [sorted(each.fields) for each in found] == [sorted(each.fields) for each in own]
    torch.testing.assert_close(found[1].cameras, own[1].cameras)
    far = own[0].replace(cuboids=own[0].cuboids * torch.tensor([1, 1, 1.05, 1, 1, 1, 1, 1, 1]))
    assert not difference(own[0], far).within(TOLERANCE)


@pytest.fixture(scope="module")
def file(model: CubeRCNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    return export(model, tmp_path_factory.mktemp("cuboids") / "model.onnx", check=False).path


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_file_takes_cameras(model: CubeRCNN, file: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    opened, objects = open_exported(file, runtime), 0
    for batch in batches():
        found = compare(model, opened, views(batch))
        assert found.within(TOLERANCE), str(found)
        objects += found.objects
    assert objects
    own, other = (sl.predict(each, images(1, (120, 170))[0], camera="focal=200") for each in (model, opened))
    assert difference(own, other).within(TOLERANCE)
    assert opened.takes_cameras
    assert "cameras" in str(examine(file))


def test_depth_maps_have_no_exported_form() -> None:
    reason = refusal(create_model("cube_rcnn_lite0_fpn", NAMES, depth=True, **SMALL))
    assert reason == "its depth maps have no exported form yet"


def test_a_file_that_takes_cameras_has_no_certificate(model: CubeRCNN, tmp_path: Path) -> None:
    data = sl.scenes(1, (32, 48), fields=("cuboids",))
    with pytest.raises(InputError, match="leave precision and data out"):
        sl.export(model, tmp_path / "model.onnx", precision="int8", data=data)
    assert not any(tmp_path.iterdir())
