"""Videos frame by frame: what is predicted, what is written, and every broken file."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sightline as sl
from sightline.data.frames import Frame, read_frames
from sightline.data.video_writer import VideoWriter
from sightline.data.videos import read_clip, video_header, write_video
from sightline.deploy.video import _ReadAhead
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from tests.test_cli import sightline

av = pytest.importorskip("av")
FRAMES, FPS = 24, 8
DEFAULT = " (the default is 0.5, because no threshold is saved with the model)"


def moving() -> np.ndarray:
    """[T, H, W, 3]: a red and a green square that pass each other; the green one is hidden for two frames."""
    made = np.full((FRAMES, 48, 96, 3), 40, np.uint8)
    for t in range(FRAMES):
        made[t, 4:16, 2 + 3 * t : 14 + 3 * t] = (230, 20, 20)
        if t not in (8, 9):
            made[t, 24:36, 80 - 3 * t : 92 - 3 * t] = (20, 230, 20)
    return made


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "cars.mp4"
    write_video(path, moving(), FPS)
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


class Squares(Model):
    """Finds the red and the green square."""

    task = "detection"

    def __init__(self) -> None:
        super().__init__(["red", "green"], Preprocess(divisor=1))
        self.batches: list[int] = []

    def forward(self, images, targets=None):  # type: ignore[no-untyped-def]
        self.batches.append(len(images))
        return [self.found(image) for image in images]

    def found(self, image: Tensor) -> sl.Instances:
        rows = []
        for label in (0, 1):
            y, x = (image[label].int() - image[1 - label].int() > 90).nonzero(as_tuple=True)
            if len(x):
                rows.append([label, int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1])
        table = torch.tensor(rows).reshape(-1, 5)
        more = {"boxes": table[:, 1:].float(), "labels": table[:, 0], "scores": torch.full((len(rows),), 0.9)}
        size = (int(image.shape[1]), int(image.shape[2]))
        return sl.Instances(size, classes=self.classes, **more)


def test_frames_in_turn(video: Path) -> None:
    model = Squares()
    found = list(sl.predict_video(model, video, batch_size=5))
    assert [one.number for one in found] == list(range(FRAMES))
    assert [one.time for one in found] == pytest.approx([t / FPS for t in range(FRAMES)])
    assert model.batches == [5, 5, 5, 5, 4]
    for one, drawn in zip(found, moving(), strict=True):
        assert np.abs(one.frame.permute(1, 2, 0).numpy().astype(int) - drawn).mean() < 4
        labels = one.result.labels.tolist()
        assert labels == ([0] if one.number in (8, 9) else [0, 1])
        assert abs(one.result.boxes[0] - torch.tensor([2 + 3 * one.number, 4, 14 + 3 * one.number, 16])).max() <= 1
    some = list(sl.predict_video(model, video, every=5, classes=["green"]))
    assert [(one.number, len(one.result)) for one in some] == [(t, 1) for t in (0, 5, 10, 15, 20)]
    for time, frame, result, _ in sl.predict_video(model, video):
        assert (time, frame.shape, len(result)) == (0, (3, 48, 96), 2)
        break
    assert not [thread for thread in threading.enumerate() if thread.name == "frames"]  # stopped with the loop


def test_tracks(video: Path) -> None:
    found = list(sl.predict_video(Squares(), video, track=True))
    numbers = [dict(zip(one.result.names(), one.result.tracks.tolist(), strict=True)) for one in found]
    assert numbers == [{"red": 1} | ({} if t in (8, 9) else {"green": 2}) for t in range(FRAMES)]


def test_a_folder_of_results(video: Path, tmp_path: Path) -> None:
    done = sl.predict_to_folder(Squares(), video, tmp_path / "out", draw=sl.draw, track=True, save="json,csv")
    assert "46 objects in 24 frames, 2 tracks; written: cars.jsonl, cars.csv, cars.mp4" in str(done)
    assert done.hint == "objects with a score of at least 0.5 are kept; change it with --threshold" + DEFAULT
    lines = [json.loads(line) for line in (done.folder / "cars.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["time"]) for line in lines] == [(t, t / FPS) for t in range(FRAMES)]
    assert [(one["category"], one["track"]) for one in lines[3]["results"]] == [("red", 1), ("green", 2)]
    assert lines[3]["results"][0]["bbox"] == pytest.approx([11, 4, 12, 12], abs=2)
    rows = table(done.folder / "cars.csv")
    assert len(rows) == 46
    assert (rows[-1]["frame"], rows[-1]["class"], rows[-1]["track"]) == ("23", "green", "2")
    drawn = read_clip(done.folder / "cars.mp4")
    assert (drawn.frames, drawn.duration, tuple(drawn.shape[2:])) == (FRAMES, 3.0, (48, 96))
    assert abs(drawn.frame(3).float() - torch.from_numpy(moving()[3]).permute(2, 0, 1).float()).mean() > 2  # boxes
    with av.open(str(done.folder / "cars.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].pix_fmt == "yuv420p"


def test_other_results_and_half_of_the_frames(video: Path, tmp_path: Path) -> None:
    classifier = sl.create_model("mobilenet_v2", ["a", "b", "c", "d", "e", "f"], image_size=32)
    done = sl.predict_to_folder(classifier, video, tmp_path / "c", draw=sl.draw, every=8)
    lines = [json.loads(line) for line in (done.folder / "cars.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 8, 16]
    assert len(lines[0]["results"]) == 5
    assert lines[0]["results"][0]["score"] >= lines[0]["results"][1]["score"]
    assert video_header(done.folder / "cars.mp4").fps == pytest.approx(1, abs=0.01)
    assert read_clip(done.folder / "cars.mp4").times == (0, 1, 2)
    segmenter = sl.create_model("lraspp_mobilenet_v3_large", ["a", "b"])
    done = sl.predict_to_folder(segmenter, video, tmp_path / "s", every=12, save="csv")
    rows = table(done.folder / "cars.csv")
    assert [(row["frame"], row["class"]) for row in rows] == [("0", "a"), ("0", "b"), ("12", "a"), ("12", "b")]
    assert sum(int(row["pixels"]) for row in rows) == 2 * 48 * 96
    assert not (done.folder / "cars.mp4").exists()
    with pytest.raises(InputError, match="predicts no objects with scores, which tracking needs"):
        sl.predict_to_folder(classifier, video, tmp_path / "t", track=True)
    assert not (tmp_path / "t").exists()


def test_what_videos_do_not_take_is_refused(video: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (20, 20)).save(photo)
    for images in ([video, photo], [photo, video]):
        with pytest.raises(InputError, match=r"cars\.mp4 is a video, but .*photo\.png is an image; predict them one"):
            sl.predict_to_folder(Squares(), [str(path) for path in images], tmp_path / "out")
    for given, words in (
        ({"overlap": 8}, "overlap is 8, but only tiles overlap"),
        ({"whole_image": False}, "without tiles, only whole images"),
        ({"full_scale": 4095}, "the frames of videos have 8 bits"),
    ):
        with pytest.raises(InputError, match=words):
            sl.predict_to_folder(Squares(), video, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_videos_are_not_explained_by_models_of_images(video: Path, tmp_path: Path) -> None:
    classifier = sl.create_model("mobilenet_v2", ["a", "b"], image_size=32)
    for look in (
        lambda: sl.explain_images(classifier, video),
        lambda: sl.explain_to_folder(classifier, video, tmp_path / "out"),
        lambda: sl.activations(classifier, video),
        lambda: sl.look_inside(classifier, video, "activations", out=tmp_path / "out"),
    ):
        with pytest.raises(InputError, match=r"cars\.mp4 is a video, but mobilenet_v2 takes images; give one of its"):
            look()
    assert not (tmp_path / "out").exists()


def test_broken_videos(video: Path, tmp_path: Path) -> None:
    whole = video.read_bytes()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "odd.mp4").write_bytes(whole.replace(b"avc1", b"zzz9"))
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    for name, words in (
        ("empty", "the file is empty; replace or remove it"),
        ("text", "it is damaged, truncated or no video"),
        ("half", "it is damaged, truncated or no video"),
        ("odd", "its codec is unknown, or it is damaged; convert it to H.264"),
    ):
        with pytest.raises(InputError, match=words):
            list(sl.predict_video(Squares(), tmp_path / f"{name}.mp4"))
    with pytest.raises(InputError, match="there is no video"):
        list(sl.predict_video(Squares(), tmp_path / "none.mp4"))
    with pytest.raises(InputError, match="cannot open camera 97"):
        list(sl.predict_video(Squares(), 97))
    with pytest.raises(InputError, match=r"cannot open rtsp://127\.0\.0\.1:1/x: .*; check the number or the address"):
        list(sl.predict_video(Squares(), "rtsp://127.0.0.1:1/x"))
    with pytest.raises(InputError, match="every is 0, but it must be a whole number of at least 1"):
        sl.predict_video(Squares(), video, every=0)
    with pytest.raises(InputError, match=r"cars\.mp4 is a video, but .* predicts images; use sightline\.predict_video"):
        sl.predict(Squares(), video)


def test_a_video_that_ends_early_is_predicted_so_far(tmp_path: Path) -> None:
    path = tmp_path / "long.mkv"
    writer = VideoWriter(path, FPS)
    for t, one in enumerate(np.tile(moving(), (4, 1, 1, 1))):
        writer.add(one, t / FPS)
    writer.close()
    (tmp_path / "cut").mkdir()
    whole = path.read_bytes()
    (tmp_path / "cut" / "long.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    seen: list[int] = []
    found = sl.predict_video(Squares(), tmp_path / "cut" / "long.mkv")
    with pytest.raises(InputError, match=r"the video .*long\.mkv is truncated: its frames end at .* should be 12\.0 s"):
        seen.extend(one.number for one in found)
    assert 10 < len(seen) < 96
    done = sl.predict_to_folder(Squares(), [path, tmp_path / "cut" / "long.mkv"], tmp_path / "out")
    assert done.images == 96 + len(seen)
    assert [sentence.rsplit("(", 1)[1] for sentence in done.errors.values()] == [f"{len(seen)} frames predicted)"]
    assert len((tmp_path / "out" / "cut" / "long.jsonl").read_text().splitlines()) == len(seen)


def test_new_frames_replace_those_that_wait() -> None:
    """Of a live source, the newest frame is predicted."""
    sent = threading.Event()

    def camera():  # type: ignore[no-untyped-def]
        for number in range(50):
            yield Frame(number, number / 10, torch.zeros(3, 2, 2))
        sent.set()

    ahead = _ReadAhead(camera(), 1, skip=True)
    sent.wait(10)
    numbers = [one.number for _ in range(50) for one in ahead.batch(1)]
    assert numbers[-1] == 49
    assert len(numbers) < 50
    ahead.close()


def test_sizes_that_change_and_odd_sides(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "odd.mp4", 10)
    for t, size in enumerate([(31, 47), (40, 20), (31, 47)]):
        writer.add(np.full((*size, 3), 200, np.uint8), t / 10)
    writer.close()
    frames = list(read_frames(tmp_path / "odd.mp4"))
    assert [tuple(one.image.shape) for one in frames] == [(3, 32, 48)] * 3
    assert int(frames[1].image[:, 5:, 25:].max()) < 40  # filled with black


def test_on_the_command_line(video: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    sl.save(sl.create_model("ssdlite320_mobilenet_v2", ["a"], image_size=64), model)
    words = ["predict", model, video, "--every", "6", "--track", "--quiet"]
    outcome = sightline(*words, "--out", tmp_path / "out", "--threshold", "0")
    assert outcome.code == 0, outcome.err
    assert "in 4 frames" in outcome.out
    outcome = sightline(*words, "--out", tmp_path / "out2", "--tile", "32")
    assert outcome.code == 2
    assert "the frames of videos are not predicted in tiles" in outcome.err
    (tmp_path / "bad.mp4").write_bytes(b"x")
    outcome = sightline("predict", model, tmp_path / "bad.mp4", "--out", tmp_path / "out3")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "it is damaged, truncated or no video; replace or remove it" in outcome.err
    assert not (tmp_path / "out3").exists()
