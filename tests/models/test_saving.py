"""A model as one file: everything comes back, whatever stops a write leaves what was there, other files are refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

import sightline
from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.ssd import SSDSettings
from sightline.models.saving import load, save
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.rpn import ProposalSettings
from sightline.runtime.shapes import shapes_only

NAMES = ["circle", "square", "star of §5 “points”"]
SMALL: dict[str, Any] = {"min_size": 64, "max_size": 96, "channels": 16, "hidden": 16}
PYRAMID = "faster_rcnn_mobilenet_v2_fpn"


def answers(model: nn.Module, channels: int = 3) -> list[torch.Tensor]:
    picture = torch.rand(channels, 50, 60, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (result,) = model.eval()([picture])
    return [result.boxes, result.labels, result.scores]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            PYRAMID,
            {
                **SMALL,
                "norm": "frozen",
                "trainable_layers": 2,
                "proposals": ProposalSettings(before_nms=(70, 50), after_nms=(60, 40), nms_iou=0.6, min_score=0.01),
                "boxes": BoxSettings(weights=(8.0, 9.0, 4.0, 5.0), min_score=0.0, max_detections=7),
            },
        ),
        ("ssdlite320_mobilenet_v2", {"image_size": 96, "settings": SSDSettings(nms_iou=0.4, max_detections=9)}),
        ("ssdlite320_mobilenet_v3_large", {"image_size": 96, "reduced_tail": False, "output_ids": [2, 5, 3]}),
        (PYRAMID, {**SMALL, "in_channels": 5}),
    ],
    ids=["two stages", "settings", "output_ids", "channels"],
)
def test_everything_comes_back(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    model = create_model(name, NAMES, **arguments)
    again = load(save(model, tmp_path / "model.safetensors"))
    assert (again.name, list(again.classes), again.task) == (name, NAMES, "detection")
    assert again.arguments == model.arguments
    assert again.output_ids == arguments.get("output_ids")
    assert again.in_channels == arguments.get("in_channels", 3)
    for key in ("settings", "roi_heads", "rpn"):
        if hasattr(model, key):
            assert repr(getattr(again, key)) == repr(getattr(model, key))
            assert getattr(getattr(again, key), "settings", None) == getattr(getattr(model, key), "settings", None)
    assert again.preprocess.extra_repr() == model.preprocess.extra_repr()
    learning = [[n for n, p in m.named_parameters() if p.requires_grad] for m in (model, again)]
    assert learning[0] == learning[1]
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    channels = again.in_channels
    assert all(torch.equal(a, b) for a, b in zip(answers(model, channels), answers(again, channels), strict=True))


def test_metadata_comes_back_and_is_read_without_the_library(tmp_path: Path) -> None:
    model = create_model("mobilenet_v3_small", NAMES, crop=64)
    kept = {"AP": 0.25, "recipe": {"epochs": 3}, "data": "shapes", "none": None, "path": Path("a")}
    file = save(model, str(tmp_path / "model.safetensors"), kept)
    assert load(str(file)).metadata == kept | {"path": "a"}
    with safe_open(file, framework="numpy") as opened:
        header = opened.metadata()
        assert set(opened.keys()) == set(model.state_dict())
    assert header["format"] == "sightline model 1"
    assert header["version"] == sightline.__version__
    assert (header["model"], header["task"]) == ("mobilenet_v3_small", "classification")
    assert json.loads(header["classes"]) == NAMES
    assert json.loads(header["arguments"]) == {"in_channels": 3, "image_size": 64}
    assert json.loads(header["metadata"])["AP"] == 0.25


def test_a_model_of_an_alias_is_saved_under_its_own_name(tmp_path: Path) -> None:
    with shapes_only():  # its numbers do not matter
        model = create_model("fasterrcnn_mobilenet_v3_large_320_fpn", NAMES, min_size=64, max_size=64)
    file = save(model.to_empty(device="cpu"), tmp_path / "model.safetensors")
    with safe_open(file, framework="numpy") as opened:
        assert opened.metadata()["model"] == "faster_rcnn_mobilenet_v3_large_320_fpn"
    again = load(file)
    assert again.name == "faster_rcnn_mobilenet_v3_large_320_fpn"
    assert again.preprocess.min_size == 64


def test_a_model_of_half_precision_comes_back_in_float32_with_the_same_numbers(tmp_path: Path) -> None:
    model = create_model("mobilenet_v3_small", NAMES).half()
    again = load(save(model, tmp_path / "half.safetensors"))
    kept, found = model.state_dict(), again.state_dict()
    assert found.keys() == kept.keys()
    for key, value in found.items():
        assert value.dtype == (torch.float32 if kept[key].is_floating_point() else kept[key].dtype)
        assert torch.equal(value, kept[key].to(value.dtype)), key


def test_a_run_s_folder_gives_its_best_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"this folder holds no trained model \(best\.safetensors\)"):
        load(tmp_path)
    for name in ("last", "best"):  # where there is no best, the last
        save(create_model("mobilenet_v3_small", NAMES), tmp_path / f"{name}.safetensors", {"which": name})
        assert load(tmp_path).metadata == {"which": name}


def test_what_is_no_path_is_named_by_its_value_or_if_that_is_long_its_type() -> None:
    """Such as the pair that `optimize` returns, whose text would be pages long."""
    with pytest.raises(InputError, match=r"of type tuple \(Sequential, str\)$"):
        load((nn.Sequential(nn.Linear(1, 1)), "steps"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"not from 3$"):
        load(3)  # type: ignore[arg-type]


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    file = save(create_model("mobilenet_v3_small", NAMES), tmp_path / "a" / "b" / "model.safetensors")
    assert file.is_file()


# What is refused


def test_files_that_save_did_not_write(tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            load(path)
        assert str(path) in str(caught.value)

    state = create_model("mobilenet_v3_small", NAMES).state_dict()
    refused(tmp_path / "none.safetensors", "there is no such file or folder; give a run's folder or a")
    torch.save(state, tmp_path / "model.pth")
    refused(tmp_path / "model.pth", r"not a saved Sightline model .* create_model\(name, classes, weights=path\)")
    safetensors.torch.save_file(state, tmp_path / "bare.safetensors")
    refused(tmp_path / "bare.safetensors", "this file does not say which model it holds")
    safetensors.torch.save_file(state, tmp_path / "other.safetensors", {"format": "pt"})
    refused(tmp_path / "other.safetensors", "this file does not say which model it holds")
    (tmp_path / "text.safetensors").write_text("no model")
    refused(tmp_path / "text.safetensors", "not a readable safetensors file")
    later = {"format": "sightline model 2", "version": "9.0.0"}
    safetensors.torch.save_file(state, tmp_path / "later.safetensors", later)
    refused(tmp_path / "later.safetensors", r"written by Sightline 9\.0\.0 as 'sightline model 2', which this version")


def test_a_model_of_one_s_own_is_not_of_the_catalog(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"only models created by create_model can be saved to one file"):
        save(nn.Linear(2, 2), tmp_path / "model.safetensors")


def test_an_argument_that_no_file_can_hold(tmp_path: Path) -> None:
    model = create_model("mobilenet_v3_small", NAMES)
    model.arguments["crop"] = {1, 2}
    with pytest.raises(InputError, match=r"argument \{1, 2\} of the model cannot be saved"):
        save(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.pt", "model", "model.safetensors.bak"])
def test_another_suffix_is_refused_for_load_would_refuse_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a saved model's file ends in \.safetensors; name it model"):
        save(create_model("mobilenet_v3_small", NAMES), tmp_path / name)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    model = create_model("mobilenet_v3_small", NAMES)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder.safetensors").mkdir()
    for path in (tmp_path / "file" / "model.safetensors", tmp_path / "folder.safetensors"):
        with pytest.raises(InputError, match=r"\.safetensors: the model cannot be written there \(.+\); choose"):
            save(model, path)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder.safetensors"}


# Interruptions


def half_then(error: BaseException) -> Callable[..., None]:
    def save_file(tensors: Any, path: Path, header: Any) -> None:
        Path(path).write_bytes(b"half a model")
        raise error

    return save_file


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
        (OSError(28, "No space left on device"), InputError),
        (safetensors.SafetensorError("I/O error: No space left on device (os error 28)"), InputError),
    ],
)
def test_an_interrupted_write_leaves_the_old_file(
    error: BaseException, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create_model("mobilenet_v3_small", NAMES)
    file = save(model, tmp_path / "model.safetensors", {"which": "old"})
    before = file.read_bytes()
    monkeypatch.setattr(safetensors.torch, "save_file", half_then(error))
    with pytest.raises(raised) as caught:
        save(model, file, {"which": "new"})
    if raised is InputError:
        assert "No space left on device" in str(caught.value)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    monkeypatch.undo()
    save(model, file, {"which": "new"})
    assert load(file).metadata == {"which": "new"}


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_file_has_the_rights_of_any_other(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        file = save(create_model("mobilenet_v3_small", NAMES), tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == mode


def test_the_new_file_takes_the_old_one_s_place_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("mobilenet_v3_small", NAMES)
    file = save(model, tmp_path / "model.safetensors", {"which": "old"})
    steps = []

    def replace(new: Path, old: Path) -> None:
        steps.append((load_metadata(new), load_metadata(old)))
        raise KeyboardInterrupt

    def load_metadata(path: Path) -> Any:
        with safe_open(path, framework="numpy") as opened:
            return json.loads(opened.metadata()["metadata"])["which"]

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save(model, file, {"which": "new"})
    assert steps == [("new", "old")]  # both whole, a moment before
    assert list(tmp_path.iterdir()) == [file]
    assert load_metadata(file) == "old"
