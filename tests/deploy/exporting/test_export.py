"""Export to ONNX: one small file through all calls, and bad input. `test_catalog.py` exports every kind of model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.deploy import sizes
from sightline.deploy.differences import Difference
from sightline.deploy.export import Exported
from sightline.deploy.runtimes import ExportedModel
from sightline.deploy.sizes import PerSize
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.structures import Classes
from tests.deploy.exporting.models import NAMES, images, lively

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model() -> Model:
    found = lively("squeezenet1_1", image_size=32)
    found.metadata = {"threshold": 0.4, "metrics": {"top1": 1.0}}
    return found


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What the export says while it runs."""
    return []


@pytest.fixture(scope="module")
def exported(model: Model, said: list[str], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    return sl.export(model, path, images=images(2, (50, 40)), tell=said.append)


def test_the_file_is_described(exported: Exported) -> None:
    assert exported.inputs == {"images": ["batch", 3, "height", "width"]}
    assert exported.outputs == {"scores": ["batch", 3]}
    assert exported.difference is not None
    assert exported.difference.scores < 1e-3
    assert exported.agrees
    other = replace(exported, difference=Difference(scores=0.1))
    assert not other.agrees
    assert "more than rounding explains" in str(other)
    assert "more than rounding explains" not in str(exported)
    assert exported.difference.images == 2
    text = str(exported)
    assert "small.onnx (2.9 MB)" in text
    assert "takes: images [batch, 3, height, width]\ngives: scores [batch, 3]\n" in text
    assert "by ONNX Runtime, CPUExecutionProvider: scores" in text


@pytest.mark.usefixtures("exported")
def test_each_step_is_told(said: list[str]) -> None:
    assert said == [
        "exporting squeezenet1_1 to ONNX, which may take minutes",
        "writing the fp32 file",
        "comparing it with the model on 2 images",
    ]


def test_the_file_says_what_it_needs_to_be_used_elsewhere(exported: Exported) -> None:
    found = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert json.loads(found["classes"]) == NAMES
    assert (found["task"], found["model"], found["version"]) == ("classification", "squeezenet1_1", sl.__version__)
    assert json.loads(found["metadata"]) == {"threshold": 0.4}
    assert json.loads(found["preprocess"])["centre_crop"] == 32
    assert json.loads(found["outputs"]) == {"scores": "[N, K] float, class probabilities"}
    assert found["images"] == "[N, 3, H, W] uint8, all of one size"


def test_it_predicts_like_the_model(model: Model, exported: Exported, tmp_path: Path) -> None:
    opened = sl.load(exported.path)
    assert isinstance(opened, ExportedModel)
    assert opened.provider == "ONNX Runtime, CPUExecutionProvider"
    assert opened.classes == Classes(NAMES)
    assert opened.metadata["threshold"] == 0.4
    given = [*images(2, (40, 60)), *images(1, (33, 32), 1), images(1, (40, 60), 2)[0].float() / 255]
    for own, other in zip(model(given), opened(given), strict=True):
        assert (own.image_size, own.classes) == (other.image_size, other.classes)
        torch.testing.assert_close(own.scores, other.scores, atol=1e-3, rtol=0)
    array = np.ascontiguousarray(given[0].permute(1, 2, 0).numpy())
    one, other = sl.predict(model, array), sl.predict(exported.path, array)
    torch.testing.assert_close(one.scores, other.scores, atol=1e-3, rtol=0)
    summary = sl.predict_to_folder(exported.path, [array], tmp_path / "out")
    assert summary.images == 1
    assert (tmp_path / "out" / "predictions.json").is_file()


def test_it_is_printed_and_not_saved(exported: Exported, tmp_path: Path) -> None:
    opened = sl.load(exported.path)
    assert isinstance(opened, ExportedModel)
    for row in (
        f"file: {exported.path}\n",
        "model: squeezenet1_1, classification\n",
        f"classes: 3: {', '.join(NAMES)}\n",
        "runs by: ONNX Runtime, CPUExecutionProvider\n",
    ):
        assert row in repr(opened)
    assert "threshold" not in repr(opened)  # of objects only
    objects = ExportedModel(
        opened.facts | {"outputs": {"boxes": "", "scores": ""}}, lambda _: {}, opened.provider, opened.path
    )
    assert "threshold: 0.4, used by predict\n" in repr(objects)
    with pytest.raises(InputError, match=r"small\.onnx is an exported model; copy its file instead of saving it"):
        sl.save(opened, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_openvino_gives_the_same(model: Model, exported: Exported) -> None:
    pytest.importorskip("openvino")
    opened = sl.load(exported.path, runtime="openvino")
    assert isinstance(opened, ExportedModel)
    assert opened.provider.startswith("OpenVINO, ")
    given = [*images(2, (40, 60)), *images(1, (33, 32), 1)]
    for own, other in zip(model(given), opened(given), strict=True):
        torch.testing.assert_close(own.scores, other.scores, atol=1e-3, rtol=0)


def test_openvino_gives_the_same_in_the_form_for_one_size(
    model: Model, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(sizes, "PATIENCE", 0.0)
    opened = sl.load(exported.path, runtime="openvino")
    assert isinstance(opened, ExportedModel)
    given = [*images(2, (40, 60)), *images(1, (33, 32), 1)]
    first = opened(given)
    run = opened._run
    assert isinstance(run, PerSize)
    assert run.shapes == [(("images", (2, 3, 40, 60)),), (("images", (1, 3, 33, 32)),)]
    for own, other, general in zip(model(given), opened(given), first, strict=True):
        torch.testing.assert_close(own.scores, other.scores, atol=1e-3, rtol=0)
        torch.testing.assert_close(general.scores, other.scores, atol=1e-4, rtol=0)


def test_it_is_evaluated_like_the_model(model: Model, exported: Exported) -> None:
    pairs = [
        (image, sl.ClassScores((40, 60), label=i % 3, classes=Classes(NAMES)))
        for i, image in enumerate(images(6, (40, 60)))
    ]
    one = sl.evaluate(model, pairs, progress=False)
    other = sl.evaluate(exported.path, pairs, progress=False)
    assert one.metrics.keys() == other.metrics.keys()
    assert other.metrics == pytest.approx(one.metrics, abs=1e-4)


def test_mistakes_are_explained(model: Model, exported: Exported, tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(InputError, match=r"ends in \.onnx; name it model\.onnx"):
        sl.export(model, tmp_path / "model.pt")
    with pytest.raises(InputError, match="exists, and nothing is overwritten"):
        sl.export(model, exported.path)
    with pytest.raises(InputError, match="there is no folder"):
        sl.export(model, tmp_path / "missing" / "model.onnx")
    with pytest.raises(InputError, match="pixels is 'int4', but must be"):
        sl.export(model, tmp_path / "model.onnx", pixels="int4")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="overfeat_mobilenet_v2 cannot be exported: which places it looks at"):
        sl.export(sl.create_model("overfeat_mobilenet_v2", NAMES), tmp_path / "model.onnx", tell=told.append)
    assert not told  # that it takes minutes, above all
    assert not list(tmp_path.iterdir())
    opened = sl.load(exported.path)
    with pytest.raises(InputError, match=r"image 0 has shape \[1, 40, 60\], but this model takes \[3, height, width\]"):
        opened([torch.zeros(1, 40, 60, dtype=torch.uint8)])
    with pytest.raises(InputError, match="has no losses; train the model"):
        opened(images(1, (40, 60)), [None])
    with pytest.raises(InputError, match="runtime is 'tensorrt', but must be one of onnxruntime, openvino"):
        sl.load(exported.path, runtime="tensorrt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"runs exported files \(\.onnx\)"):
        sl.load(tmp_path / "best.safetensors", runtime="openvino")


def test_other_files_are_refused(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        sl.load(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"broken\.onnx: ONNX Runtime cannot read this file"):
        sl.load(tmp_path / "broken.onnx")
    foreign = onnx.load(exported.path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match=r"foreign\.onnx: this ONNX file was not written by Sightline"):
        sl.load(tmp_path / "foreign.onnx")
    later = onnx.load(exported.path)
    next(entry for entry in later.metadata_props if entry.key == "format").value = "sightline onnx 9"
    onnx.save(later, tmp_path / "later.onnx")
    with pytest.raises(InputError, match=r"'sightline onnx 9', which this version .* install a later version"):
        sl.load(tmp_path / "later.onnx")
