"""The certificate in a file: stored, read, printed, and any change of the file found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.doctor import doctor
from sightline.errors import InputError

onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402

from sightline.deploy.certificate import KEY, Certificate, Score, certificate_in, stamp, unchanged  # noqa: E402
from sightline.deploy.examine import examine  # noqa: E402
from sightline.deploy.runtimes import open_exported  # noqa: E402
from tests.deploy.exporting.graphs import by_hand, outputs, pictures  # noqa: E402

CERTIFICATE = Certificate(
    precision="int8",
    reference="the fp32 file in ONNX Runtime",
    data="photos",
    split="val",
    fingerprint="0123456789abcdef",
    images=40,
    metric="top1",
    protocol="one class per image",
    scores={"top1": Score(0.9, 0.895, (-0.02, 0.01)), "macro_F1": Score(0.8, 0.81), "top5": Score(None, None)},
    max_drop=0.01,
    lower_is_better=False,
    level=0.95,
    float_layers=("stem",),
    layers=4,
    calibration=(16, "train"),
    bytes=(1_000_000, 4_000_000),
    seconds={"reference": 0.02, "exported": 0.01, "size": [10, 12], "threads": 2, "machine": "a processor"},
    versions={"sightline": "0.1.0", "onnxruntime": "1.32.0"},
    provider="ONNX Runtime, CPUExecutionProvider",
    date="2026-01-02T03:04:05+00:00",
    notes=["the best epoch was chosen on these images"],
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(by_hand(), path)
    return path


def facts(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_it_is_stored_behind_the_file_which_still_runs(file: Path) -> None:
    before, content = facts(file), file.read_bytes()
    stamped = stamp(file, CERTIFICATE)
    assert replace(stamped, sha256="") == CERTIFICATE
    assert file.read_bytes().startswith(content)
    after = facts(file)
    assert certificate_in(after) == stamped
    assert certificate_in(before) is None
    assert {key: value for key, value in after.items() if key != KEY} == before
    assert unchanged(file, after[KEY], stamped)
    image = pictures(1)[0]
    assert outputs(onnx.load(file), image)[0].tolist() == outputs(by_hand(), image)[0].tolist()


@pytest.mark.parametrize("what", ["graph", "classes", "certificate", "a byte", "more"])
def test_every_change_is_found(file: Path, what: str) -> None:
    stamp(file, CERTIFICATE)
    model = onnx.load(file)
    if what == "graph":
        model.graph.node[-3].name = "another"
    for entry in model.metadata_props:
        if what == "classes" and entry.key == "classes":
            entry.value = json.dumps(["dog", "cat"])
        if what == "certificate" and entry.key == KEY:
            entry.value = entry.value.replace("0.895", "0.905")
    if what in ("graph", "classes", "certificate"):
        onnx.save(model, file)
    content = bytearray(file.read_bytes())
    if what == "a byte":
        content[content.index(numpy_helper.to_array(by_hand().graph.initializer[0]).tobytes())] ^= 1
        file.write_bytes(content)
    if what == "more":
        file.write_bytes(content + onnx.ModelProto(doc_string="more").SerializeToString())
    after = facts(file)
    found = certificate_in(after)
    assert found is not None
    assert not unchanged(file, after[KEY], found)
    checks = examine(file)
    assert not checks.ok
    assert "the file is not the one that was scored" in str(checks)


def test_doctor_prints_what_the_file_needs_and_what_it_scored(file: Path) -> None:
    text = str(doctor(file))
    assert "none: the file was not scored" in text
    stamp(file, CERTIFICATE)
    found = examine(file)
    assert found.ok
    text = str(found)
    for row in (
        "[N, 3, H, W] uint8, all of one size",
        "2: cat, dog",
        "byte for byte the one that was scored",
        "40 images (val) of photos, fingerprint 0123456789abcdef",
        "top1 (one class per image)  ok       0.9000 → 0.8950, difference -0.0050 (95 % interval -0.0200 to +0.0100)",
        "0.8000 → 0.8100, difference +0.0100 (no interval for this metric)",
        "int8: 3 of 4 layers in 8 bits",
        "16 images (train)",
        "1.0 MB, 0.25 × the fp32 file",
        "10.0 ms, 0.50 × the reference, 10×12, 2 threads, a processor",
        "on 40 images a drop of up to 0.0200 cannot be excluded",
    ):
        assert row in text
    assert all(f"  {name} " in text for name in ("layers in float", "largest drop allowed", "date", "versions"))
    sure = stamp(file, replace(CERTIFICATE, scores={"top1": Score(0.9, 0.9, (-0.005, 0.01))}))
    assert "cannot be excluded" not in str(sure)


def test_files_that_cannot_be_examined(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        examine(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(InputError, match=r"no ONNX file, or it is damaged|not written by Sightline"):
        examine(broken)
    foreign = by_hand()
    del foreign.metadata_props[:]
    onnx.save(foreign, broken)
    with pytest.raises(InputError, match="not written by Sightline"):
        examine(broken)
    with pytest.raises(InputError, match="damaged"):
        certificate_in({KEY: "{"})
    with pytest.raises(InputError, match=r"incomplete \('precision'\)"):
        certificate_in({KEY: "{}"})


def edited(path: Path, name: str, value: str | None) -> None:
    """Write a file of the library with another entry in its metadata, or without it."""
    model = by_hand()
    entry = next(entry for entry in model.metadata_props if entry.key == name)
    if value is None:
        model.metadata_props.remove(entry)
    else:
        entry.value = value
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("classes", None, "its metadata is damaged (there is no classes)"),
        ("classes", "5", "its metadata is damaged (classes is 5)"),
        ("classes", '["cat", "cat"]', "class 'cat' occurs twice"),
        ("metadata", "[1]", "its metadata is damaged (metadata is [1])"),
        ("preprocess", "{}", "its metadata is damaged (preprocess has no 'mean')"),
        ("preprocess", '{"mean": 1, "std": 2, "kind": "KeepSize", "divisor": 1}', "(preprocess has no 'description')"),
        ("dtype", "int4", "its metadata is damaged (dtype is int4)"),
        ("dtype", "float32", "its graph and its metadata do not belong together"),
        ("kind", "poems", "its graph and its metadata do not belong together"),
        ("outputs", '{"poems": "[N] lines"}', "but should take {'images': 'uint8'} and give poems"),
    ],
)
def test_edited_metadata_is_refused_by_doctor_and_predict(tmp_path: Path, name: str, value: str, message: str) -> None:
    path = tmp_path / "edited.onnx"
    edited(path, name, value)
    for read in (examine, open_exported):
        with pytest.raises(InputError) as raised:
            read(path)
        assert message in str(raised.value)
        assert str(raised.value).startswith(f"{path}: ")


def test_a_stored_threshold_that_is_no_score_is_an_error(tmp_path: Path) -> None:
    model = by_hand()
    path = tmp_path / "edited.onnx"
    for entry in model.metadata_props:
        entry.value = {"kind": "objects", "metadata": '{"threshold": NaN}'}.get(entry.key, entry.value)
    onnx.save(model, path)
    checks = examine(path)
    assert not checks.ok
    assert "nan, which is not a score from 0 to 1" in str(checks)


def test_classes_that_the_metadata_does_not_name_are_refused(tmp_path: Path) -> None:
    """Else an object would get no name, or another command would fail on it."""
    onnx.save(by_hand(), tmp_path / "model.onnx")
    model = open_exported(tmp_path / "model.onnx")
    model._run = lambda images: {"labels": np.array([[0, 2]])}
    with pytest.raises(InputError, match="gives class 2, but its metadata names only classes 0 to 1"):
        model([torch.zeros(3, 8, 8, dtype=torch.uint8)])
