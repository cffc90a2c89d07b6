"""Why objects are missed, through the verbs and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import sightline as sl
from sightline.data.scenes import write_scenes
from tests.explain.planted import SIZE, Break, Planted
from tests.test_cli import done, sightline


def test_a_folder_with_a_page_and_a_wall_per_cause_is_written(tmp_path: Path) -> None:
    data = sl.scenes(3, SIZE)
    model = Planted(data, "anchor", Break(silent=2))
    written = sl.explain_missed(model, data[:], tmp_path / "out", method=None, progress=False)
    names = [file.relative_to(tmp_path / "out").as_posix() for file in written.files]
    assert names[:3] == ["missed.json", "missed.html", "class_never_predicted.png"]
    Image.open(written.files[2]).verify()
    values = json.loads(written.files[0].read_text(encoding="utf-8"))
    assert values == written.found.to_dict()
    assert values["threshold"] == 0.5
    again = sl.missed_objects(model, data[:], threshold=0.3, progress=False)
    assert (again.threshold, again.objects) == (0.3, written.found.objects)
    with pytest.raises(sl.InputError, match="is not empty"):
        sl.explain_missed(model, data[:], tmp_path / "out", progress=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved detectors that are not trained, and two rendered scenes."""
    folder = tmp_path_factory.mktemp("missed")
    data = write_scenes(folder / "scenes", 0, 0, 2, size=64, progress=False)
    classes = sl.open_dataset(data).classes
    sl.save(sl.create_model("sightline_n", classes, image_size=64), folder / "points.safetensors")
    two_stages = sl.create_model("faster_rcnn_mobilenet_v2_fpn", classes, min_size=64, max_size=64, hidden=32)
    sl.save(two_stages, folder / "regions.safetensors")
    return folder


@pytest.mark.parametrize("model", ["points", "regions"])
def test_the_command_shows_what_the_model_looked_at_instead(place: Path, tmp_path: Path, model: str) -> None:
    file, out = place / f"{model}.safetensors", tmp_path / "out"
    outcome = done("explain", file, place / "scenes", "--missed", "--out", out, "--quiet", "--device", "cpu")
    values = json.loads((out / "missed.json").read_text(encoding="utf-8"))
    assert len(values["missed"]) == values["objects"] > 2  # it finds nothing
    text = (out / "missed.html").read_text(encoding="utf-8")
    shown = sum(record["row"] >= 0 for record in values["missed"])
    assert text.count("what the model looked at</small>") == shown > 0
    assert outcome.out.startswith(f"{values['objects']} of {values['objects']} objects in 2 images are missed")
    assert str(out / "missed.html") in outcome.out


def test_the_labels_are_opened_as_they_are_for_evaluation(place: Path, tmp_path: Path) -> None:
    words = ["explain", place / "points.safetensors", place / "scenes", "--missed", "-q", "--device", "cpu"]
    kept = sl.open_dataset(place / "scenes").classes[0]
    done(*words, "--format", "coco", "--classes", kept, "--split", "test", "--out", tmp_path / "out")
    values = json.loads((tmp_path / "out" / "missed.json").read_text(encoding="utf-8"))
    assert {record["class_name"] for record in values["missed"]} == {kept}
    outcome = sightline(*words, "--format", "cocoa", "--out", tmp_path / "other")
    assert outcome.code == 2
    assert "there is no format 'cocoa'" in outcome.err
    assert not (tmp_path / "other").exists()
    outcome = sightline(*words[:2], place / "scenes", "--format", "coco", "--out", tmp_path / "other")
    assert outcome.code == 2
    assert "--format belongs to --score or --missed" in outcome.err


def test_targets_and_several_images_do_not_go_with_missed(place: Path, tmp_path: Path) -> None:
    words = ("explain", place / "points.safetensors", place / "scenes", "--missed", "--out", tmp_path / "out")
    outcome = sightline(*words, "--for", "box:0")
    assert outcome.code == 2
    assert "--for" in outcome.err
    outcome = sightline(*words[:3], place / "scenes", *words[3:])
    assert outcome.code == 2
    assert "one data set" in outcome.err
