"""Certified exports: what is scored, how layers return to float, refusals; and from training to the exported file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.torch_data import TorchData
from sightline.deploy import certify as module
from sightline.deploy.certify import Trial, certify, fingerprint
from sightline.deploy.export import Exported
from sightline.doctor import doctor
from sightline.errors import InputError
from sightline.evaluation import ClassificationMeasure
from sightline.structures import Classes, ClassScores

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import numpy_helper  # noqa: E402

from sightline.deploy.runtimes import open_exported  # noqa: E402
from tests.deploy.exporting.graphs import by_hand, outputs  # noqa: E402

NAMES = Classes(["cat", "dog"])


def pictures(count: int, seed: int) -> list[Any]:
    """Flat colours with noise, [3, 12, 12] uint8."""
    rng = np.random.default_rng(seed)
    noise = [rng.integers(0, 60, (3, 12, 12)) + rng.integers(0, 195, (3, 1, 1)) for _ in range(count)]
    return [picture.astype(np.uint8) for picture in noise]


def coarse() -> Any:
    """The file by hand, with a layer whose first inputs have weights so wide that 8 bits leave little of the others.

    The bias of the head is the one by which half of the pictures belong to each class.
    """

    def made(bias: float) -> Any:
        model = by_hand(bias=bias)
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor).copy()
            if tensor.name == "part.model.left.weight":
                values[:, 0] *= 300
            if tensor.name.startswith("part.model.stem"):
                values[0] *= 1e-3
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return model

    model = made(0.0)
    scores = np.array([outputs(model, picture[None])[0][0] for picture in pictures(40, 1)])
    return made(-float(np.median(np.log(scores[:, 1] / scores[:, 0]))))


def labelled(model: Any, count: int = 40) -> TorchData:
    """Pictures with the classes that a file gives them."""
    pairs = []
    for picture in pictures(count, 1):
        label = int(outputs(model, picture[None])[0][0].argmax())
        pairs.append((torch.from_numpy(picture), ClassScores((12, 12), label=label, classes=NAMES)))
    return TorchData(pairs, NAMES)


@pytest.fixture(scope="module")
def data() -> TorchData:
    return labelled(coarse())


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch) -> None:
    """The export of any model is the file written by hand."""

    def written(model: Any, path: Path, **options: Any) -> Exported:
        onnx.save(coarse(), path)
        return Exported(path, {"images": ["n", 3, "h", "w"]}, {"scores": ["n", 2]}, 0.0)

    monkeypatch.setattr(module, "export", written)


def trial(data: TorchData, **changes: Any) -> Trial:
    return Trial(data, ClassificationMeasure, (), "pictures", "val", data, "train", ("a remark",), **changes)


def certified(path: Path, data: TorchData, tell: Callable[[str], None] = lambda text: None, **options: Any) -> Exported:
    onnx.save(coarse(), path.with_name("model_in_torch.onnx"))
    own = open_exported(path.with_name("model_in_torch.onnx"))
    return certify(own, path, trial(data), progress=False, tell=tell, **options)


@pytest.mark.usefixtures("export")
def test_layers_return_to_float_until_the_drop_is_allowed(data: TorchData, tmp_path: Path) -> None:
    said: list[str] = []
    found = certified(tmp_path / "most.onnx", data, said.append, max_drop=0.1, calibration=20).certificate
    assert found is not None
    assert found.float_layers == ("left",)  # the coarse one
    assert said[0] == "scoring the fp32 file on 40 images (val)"
    assert [line.split(":")[0] for line in said[1:]] == ["fp32", "int8", "int8, 1 of 4 layers in float"]
    score = found.judged
    assert (found.metric, found.protocol, score.reference) == ("top1", "one class per image", 1.0)
    assert score.difference is not None
    assert -0.1 <= score.difference < 0
    model = open_exported(tmp_path / "most.onnx")  # the figures are those of the file that was written
    right = [int(model([image])[0].scores.argmax()) == target.label for image, target in (data[i] for i in range(40))]
    assert score.exported == pytest.approx(np.mean(right))
    assert score.interval is not None
    assert score.interval[0] <= score.difference <= score.interval[1] <= 0
    assert (found.images, found.split, found.data, found.calibration) == (40, "val", "pictures", (20, "train"))
    assert found.notes[0] == "a remark"
    assert "interval says nothing" not in str(found.notes)
    assert "chosen on these images" in found.notes[1]
    assert found.bytes[0] < (tmp_path / "most.onnx").stat().st_size
    assert model.certificate == found
    assert doctor(tmp_path / "most.onnx").ok
    stricter = certified(tmp_path / "strict.onnx", data, max_drop=0.0, calibration=20).certificate
    assert stricter is not None
    assert stricter.judged.difference == 0
    assert stricter.judged.interval == (0.0, 0.0)
    assert "the interval says nothing about new images, because the difference is the same" in stricter.notes[-1]
    assert len(stricter.float_layers) == 3
    assert set(stricter.float_layers) >= {"left"}


@pytest.mark.usefixtures("export")
def test_other_precisions(data: TorchData, tmp_path: Path) -> None:
    half = certified(tmp_path / "half.onnx", data, precision="fp16", max_drop=0.05)
    assert half.certificate is not None
    assert (half.certificate.precision, half.certificate.calibration) == ("fp16", (0, ""))
    assert half.certificate.bytes[0] < half.certificate.bytes[1]
    whole = certified(tmp_path / "whole.onnx", data, precision="fp32")
    assert whole.certificate is not None
    assert whole.certificate.judged.difference == 0.0
    assert whole.certificate.reference == "the model in PyTorch"
    assert whole.certificate.notes == ["a remark"]  # the same results are what is expected of it
    text = str(whole)
    assert "certificate\n  measured on" in text
    assert "1.0000 → 1.0000, difference +0.0000 (95 % interval +0.0000 to +0.0000)" in text


@pytest.mark.usefixtures("export")
def test_no_file_if_nothing_helps(data: TorchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_candidates", lambda *_: lambda count: (by_hand(seed=1), ("a",) * count, 9))
    sentence = (
        r"int8 loses 0\.\d{4} of top1 on these images \(1\.0000 → 0\.\d{4}\), more than the 0\.01 allowed, however"
    )
    with pytest.raises(InputError, match=sentence):
        certified(tmp_path / "no.onnx", data)
    assert not (tmp_path / "no.onnx").exists()
    said: list[str] = []
    found = certified(tmp_path / "whole.onnx", data, said.append, or_float=True).certificate
    assert found is not None
    assert (found.precision, found.float_layers, found.judged.difference) == ("fp32", (), 0.0)
    assert said[-1] == "int8 loses more than 0.01, so the fp32 file is written"


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 5, 6, 11, 12])
def test_the_search_finds_the_smallest_number_of_float_layers(needed: int, tmp_path: Path) -> None:
    tried: list[int] = []

    def candidate(count: int) -> tuple[Any, tuple[str, ...], int]:
        tried.append(count)
        return by_hand(), tuple("layer" * count), 12

    judge: Any = SimpleNamespace(
        scored=lambda model: int(model.path.stem), shown=str, drop=lambda before, after: 1.0 * (after < needed)
    )
    found: Any
    found, floats, layers = module._within(candidate, judge, 0, tmp_path, 0.5, "int8", lambda text: None)  # type: ignore[arg-type]
    assert layers == 12
    assert len(tried) == len(set(tried)) <= 8
    assert (found, len(floats)) == ((needed, 5 * needed) if needed < 12 else (0, 0))


def test_a_metric_that_is_not_available(tmp_path: Path) -> None:
    result = SimpleNamespace(headline=("AP",), metrics={"AP": None}, reasons={"AP": "no objects in these labels"})
    judge = module._Judge(trial(TorchData([], NAMES)), 8, False)
    with pytest.raises(InputError, match=r"AP is not available on these images \(no objects in these labels\)"):
        judge.value(module._Scored(None, result))  # type: ignore[arg-type]


def test_a_drop_of_an_error_is_a_rise() -> None:
    part = TorchData([], NAMES)
    judge = module._Judge(Trial(part, ClassificationMeasure, ("error",), "", "", part, ""), 8, False)
    one, other = (
        module._Scored(None, SimpleNamespace(headline=("error",), metrics={"error": value}))  # type: ignore[arg-type]
        for value in (1.0, 1.5)
    )
    assert judge.drop(one, other) == 0.5
    assert judge.drop(other, one) == -0.5


def test_the_fingerprint_follows_images_and_labels() -> None:
    found = sl.scenes(2, 32)
    one = fingerprint(found)
    assert one == fingerprint(found[:])
    renamed = found.with_class_mapping(dict.fromkeys(found.classes, found.classes[0]))
    assert len({one, fingerprint(found[:1]), fingerprint(renamed)}) == 3
    assert fingerprint(labelled(by_hand(), 2)) == "unknown"


def test_wrong_arguments(tmp_path: Path) -> None:
    model = sl.create_model("squeezenet1_1", ["cat", "dog"])
    with pytest.raises(InputError, match=r"bf16.*ONNX Runtime's CPU provider cannot run convolutions in bfloat16"):
        sl.export(model, tmp_path / "a.onnx", precision="bf16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"precision is 'int4', but must be one of fp32, fp16, int8$"):
        sl.export(model, tmp_path / "a.onnx", precision="int4")  # type: ignore[arg-type]
    pairs = [(image, label) for image, label in (labelled(by_hand(), 2)[i] for i in range(2))]
    with pytest.raises(InputError, match="calibration is 0, but it must be a whole number of at least 1"):
        sl.export(model, tmp_path / "a.onnx", precision="int8", data=pairs, calibration=0)
    with pytest.raises(InputError, match="max_drop is -1"):
        sl.export(model, tmp_path / "a.onnx", precision="int8", data=pairs, max_drop=-1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_training_to_the_server(tmp_path: Path) -> None:
    """The names of the classes, the threshold and the preprocessing are right at each step."""
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    data = sl.scenes(40, 96)
    arguments = {"image_size": 96}
    run = sl.train(
        "sightline_n", data[:32], data[32:], arguments=arguments, epochs=3, runs=tmp_path, progress=False, report=False
    )
    trained = sl.load(run.folder)
    threshold = trained.metadata["threshold"]
    assert 0 < threshold < 1
    kept = sl.load(sl.save(trained, tmp_path / "kept.safetensors"))
    written = sl.export(
        kept, tmp_path / "small.onnx", precision="int8", data=data[32:], max_drop=0.05, batch_size=4, progress=False
    )
    assert written.certificate is not None
    assert written.certificate.judged.exported is not None
    assert written.certificate.judged.difference is not None
    small = sl.load(written.path)
    scored = sl.evaluate(small, data[32:], progress=False)
    assert scored.metrics["AP"] == pytest.approx(written.certificate.judged.exported, abs=1e-6)
    for model in (trained, kept, small):
        assert list(model.classes) == list(data.classes)
        assert model.metadata["threshold"] == threshold
        assert model.preprocess.extra_repr() == trained.preprocess.extra_repr()
    image = data[34][0]
    own, other = sl.predict(kept, image), sl.predict(small, image)
    assert own.scores is not None
    assert other.scores is not None
    assert min(float(own.scores.min()), float(other.scores.min())) >= threshold
    assert own.image_size == other.image_size == (96, 96)  # pixels of the image, not of the resized one
    assert -0.05 <= written.certificate.judged.difference <= 1  # how alike they are is the certificate's affair
    checks = {check.name: check for check in doctor(written.path)}
    assert checks["classes"].value == f"{len(data.classes)}: {', '.join(data.classes)}"
    assert f"{threshold:.3g}, used by predict: that of the highest F1" in checks["threshold"].value
    assert trained.preprocess.extra_repr() in checks["preprocessing"].value
    assert checks["unchanged"].status == "ok"
    with TestClient(sl.server_app({"small": small})) as client:
        body = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(body, "PNG")
        answer = client.post("/predict", content=body.getvalue()).json()
    assert answer["threshold"] == pytest.approx(threshold)
    assert [one["name"] for one in answer["prediction"]["categories"]] == list(data.classes)
    assert [one["score"] for one in answer["prediction"]["annotations"]] == pytest.approx(
        other.scores.tolist(), abs=1e-3
    )
