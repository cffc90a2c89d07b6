"""Dense video captioning from videos to a report, by the command line and in Python; and odd input on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.events import source_of_events
from sightline.data.videos import write_video
from sightline.deploy.writers.events import EventWriter
from sightline.structures import Clip, Events
from sightline.tasks import TASKS, video_captioning
from tests.test_cli import done

pytest.importorskip("av")

SMALL = ("image_size=32", "frames=4", "grid=2", "pixels=4", "width=16", "hidden=16", "vector=32", "hidden_words=32")
OPTIONS = [*(part for value in SMALL for part in ("--arg", value)), "--batch-size", "4", "--set", "workers=0", "-q"]
QUIET = ("-q", "--device", "cpu")
COLOURS = {"red": (220, 30, 30), "blue": (40, 40, 230)}


def moving(colour: str, way: str, shade: int) -> np.ndarray:
    """[8, 32, 32, 3]: a square that rests for a second and then moves to one side for another, at 4 frames a second."""
    frames = np.full((8, 32, 32, 3), shade, np.uint8)
    for t in range(8):
        step = 5 * max(0, t - 3)
        x = step if way == "right" else 22 - step
        frames[t, 12:20, x : x + 8] = COLOURS[colour]
    return frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training and two validation videos in the layout of ActivityNet Captions."""
    out = tmp_path_factory.mktemp("events")
    ways = [(colour, way) for colour in COLOURS for way in ("left", "right")]
    for split, own in (("train", ways), ("val", ways[::3])):
        (out / split).mkdir()
        entries = {}
        for k, (colour, way) in enumerate(own):
            name = f"v_{split}{k}"
            write_video(out / split / f"{name}.mp4", moving(colour, way, 90 if split == "train" else 120), 4)
            sentence = f"a {colour} square moves to the {way}"
            entries[name] = {"duration": 2.0, "timestamps": [[1.0, 2.0]], "sentences": [sentence]}
        (out / f"{split}.json").write_text(json.dumps(entries))
    return out


def test_the_command_line_from_videos_to_a_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Training can start" in done("check", folder).out
    done("look", folder, "-n", "2", "-o", "look.png")
    done("train", folder, "--epochs", "1", "--name", "a", *OPTIONS, "--device", "cpu")
    recipe = sl.Recipe.from_yaml("runs/a/recipe.yaml")
    assert (recipe.augmentation, recipe.cache_features, recipe.freeze) == ("none", 1, "all")
    done("train", folder, "--name", "a", "--resume", "--epochs", "2", *QUIET)
    rows = [json.loads(line) for line in Path("runs/a/metrics.jsonl").read_text().splitlines()]
    assert {"val/caption_score", "val/recall", "train/loss_caption", "train/loss_event_times"} <= rows[-1].keys()

    model = sl.load("runs/a")
    assert model.name == "video_captioner_lite0"
    assert model.vocabulary.words == ("a", "moves", "square", "the", "to", "blue", "left", "red", "right")
    done("predict", "runs/a", folder / "val", "--out", "found", "--save", "json,results", "--threshold", "0", *QUIET)
    written = json.loads(Path("found/predictions.json").read_text())
    assert list(written) == ["v_val0", "v_val1"]
    own = sl.predict(model, folder / "val" / "v_val0.mp4", threshold=0)
    assert isinstance(own, Events)
    assert len(own)
    assert written["v_val0"] == own.to_dict()
    results = json.loads(Path("found/results.json").read_text())["results"]
    assert [row["sentence"] for row in results["v_val0"]] == list(own.captions)
    with Image.open("found/v_val0.png") as picture:
        assert picture.width == 3 * 320  # of 32 pixels each, enlarged to be legible: three in a row
    again = sl.open_dataset("found/predictions.json", images=folder / "val")  # predictions are labels, too
    assert again.target(0).captions == own.captions

    done("evaluate", "runs/a", "--json", "found.json", "-q")
    measured = json.loads(Path("found.json").read_text())["metrics"]
    best = max(row["val/caption_score"] for row in rows)  # of two epochs, either may be the best
    assert measured["caption_score"] == pytest.approx(best, abs=1e-6)
    Path("runs/a/report.html").unlink()
    done("report", "runs/a")
    page = Path("runs/a/report.html").read_text()
    assert all(words in page for words in ("Temporal IoU", "caption score", "with the nearest labelled event"))

    said = done("explain", "runs/a", folder / "val" / "v_val0.mp4", "--for", "event:0", "--out", "heat", *QUIET)
    assert f"grad_cam for the event {own.captions[0]!r}" in said.out
    with Image.open("heat/v_val0.png") as picture:
        assert picture.width == 4 * 180  # the film of the four frames that the model sees, below each other twice
        assert picture.height > 2 * 180


def test_the_data_says_the_task() -> None:
    clip = Clip(torch.zeros(3, 4, 8, 8, dtype=torch.uint8))
    data = sl.Dataset(source_of_events([clip], [Events((8, 8), [[0, 0.25]], ["It moves!"], 0.5)]))
    assert video_captioning.words(data) == {"words": ["it", "moves"]}
    assert video_captioning.words([]) == {}
    assert sl.tasks.task_for(data.kind) is TASKS["video_captioning"]


def test_videos_are_refused_where_images_are_needed(folder: Path, tmp_path: Path) -> None:
    video = folder / "val" / "v_val0.mp4"
    model = sl.create_model("ssdlite320_mobilenet_v2", ["a"], image_size=64)
    with pytest.raises(sl.InputError, match="is a video, but ssdlite320_mobilenet_v2 predicts images"):
        sl.predict(model, video)
    data = sl.open_dataset(folder)
    with pytest.raises(sl.InputError, match="is a video, and videos cannot be augmented"):
        sl.contact_sheet(data, "light")
    with pytest.raises(sl.InputError, match="the labels of the training set are events in videos"):
        sl.train("mobilenet_v2", data, epochs=1, runs=tmp_path, progress=False)


def test_a_broken_video_stops_the_training_by_name(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    (broken / "train").mkdir(parents=True)
    for file in (folder / "train").iterdir():
        (broken / "train" / file.name).write_bytes(file.read_bytes())
    (broken / "train.json").write_text((folder / "train.json").read_text())
    hurt = broken / "train" / "v_train2.mp4"
    hurt.write_bytes(hurt.read_bytes()[:300])
    with pytest.raises(sl.InputError, match=r"v_train2\.mp4"):
        sl.train(data=broken, epochs=1, runs=tmp_path / "runs", progress=False)


def test_files_of_several_folders_keep_their_names(tmp_path: Path) -> None:
    """Equal names in different folders are told apart by their paths; a video without events has empty lists."""
    from sightline.deploy.writers.base import PredictedImage

    paths = [Path("a/v.mp4"), Path("b/v.mp4")]
    files = EventWriter().begin(tmp_path, paths, ["event"], ["json"])
    for k, path in enumerate(paths):
        files.add(PredictedImage(k + 1, k, path, (8, 8)), Events((8, 8), [], [], 2.0, torch.zeros(0)), None)
    assert "no event has a score of 0.5 or more" in files.finish(0.5, False).hint
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content == {
        name: {"duration": 2.0, "timestamps": [], "sentences": [], "scores": []} for name in ("a/v.mp4", "b/v.mp4")
    }
