"""An exported file of every task stands in for the model that it came from, in both runtimes (`pytest -m slow`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import sightline as sl
from sightline.cli.app import app
from sightline.data.dataset import Dataset
from sightline.deploy.differences import TOLERANCE, compare
from sightline.models.model import Model
from sightline.structures import Instances
from tests.deploy.exporting.models import lively

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

RCNN = {"min_size": 96, "max_size": 160, "channels": 32, "hidden": 64}
OBJECTS: dict[str, Any] = {"fields": ("masks", "keypoints")}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sightline_n": ({"image_size": 96}, OBJECTS),
    "faster_rcnn_mobilenet_v2_fpn": (RCNN, OBJECTS),
    "mask_rcnn_mobilenet_v2_fpn": (RCNN, OBJECTS),
    "sightline_n_mask": ({"image_size": 96}, OBJECTS),
    "sightline_n_pose": ({"image_size": 96, "num_keypoints": 8}, OBJECTS),
    "region_proposal_network_mobilenet_v2": ({"min_size": 96, "max_size": 160}, OBJECTS),
    "lraspp": ({"inner": 16}, {"kind": "class_map"}),
    "resnet18": ({"image_size": 64}, {"kind": "class_scores"}),
}
"""Models, with smaller arguments and what the scenes are labelled with: each kind of result, for each task."""


class Used:
    """A model, its exported file, and labelled images in memory and in a folder."""

    def __init__(self, name: str, folder: Path):
        arguments, about = CASES[name]
        self.data: Dataset = sl.scenes(5, (72, 96), **about)
        self.images = [self.data[i][0] for i in range(len(self.data))]
        self.model: Model = lively(name, classes=list(self.data.classes), fitted=self.images, **arguments)
        self.model.metadata = {"threshold": 0.3}
        self.file, self.photos = folder / "model.onnx", folder / "photos"
        sl.export(self.model, self.file, check=False)
        self.photos.mkdir()
        for i, image in enumerate(self.images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(self.photos / f"{i}.png")


@pytest.fixture(scope="module", params=CASES)
def used(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Used:
    return Used(request.param, tmp_path_factory.mktemp("used"))


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def kind_of(result: Any) -> tuple[Any, ...]:
    """The type of a result, the size of its image, and of objects the fields and the number."""
    own = (sorted(result.fields), len(result)) if isinstance(result, Instances) else ()
    return type(result), result.image_size, *own


def command(*arguments: object) -> str:
    """What `sightline …` prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_loaded_it_predicts_and_is_evaluated_like_the_model(used: Used, runtime: Any) -> None:
    model = sl.load(used.file, runtime=runtime)
    assert (model.task, model.name) == (used.model.task, used.model.name)
    assert list(model.classes) == list(used.model.classes)
    found = compare(used.model, model, used.images)
    assert found.within(TOLERANCE), str(found)
    own, other = (sl.predict(each, used.photos) for each in (used.model, model))
    assert list(map(kind_of, other)) == list(map(kind_of, own))
    wanted, scored = (sl.evaluate(each, used.data, progress=False).metrics for each in (used.model, model))
    assert scored.keys() == wanted.keys()
    assert all(scored[name] == pytest.approx(wanted[name], abs=1e-3) for name in wanted)


@pytest.mark.slow
def test_the_command_predicts_it_with_the_runtime_that_is_asked_for(used: Used, runtime: str, tmp_path: Path) -> None:
    said = command("predict", used.file, used.photos, "--out", tmp_path / "out", "--runtime", runtime, "--no-pictures")
    assert {"onnxruntime": "ONNX Runtime, CPUExecutionProvider", "openvino": "OpenVINO, CPU"}[runtime] in said
    sl.predict_to_folder(used.model, used.photos, tmp_path / "own")
    names = [sorted(file.name for file in (tmp_path / folder).rglob("*")) for folder in ("out", "own")]
    assert names[0] == names[1]
    written, wanted = (json.loads((tmp_path / folder / "predictions.json").read_text()) for folder in ("out", "own"))
    assert written.keys() == wanted.keys()
    assert written.get("categories") == wanted.get("categories")
    assert len(written.get("annotations", ())) == len(wanted.get("annotations", ()))


@pytest.mark.slow
def test_several_workers_predict_it(used: Used, runtime: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    command("predict", used.file, used.photos, "--out", out, "--runtime", runtime, "--workers", 2, "--part-size", 2)
    own = {result.source: result for result in sl.predict(used.model, used.photos)}
    found = sl.read_predictions(out)
    assert {result.source for result in found} == own.keys()
    for result in found:
        assert kind_of(result) == kind_of(own[result.source])
