"""ActivityNet Captions: the published layout, written by the tests in small, and each way in which it can be broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.data.formats import convert
from sightline.data.videos import write_video
from sightline.errors import InputError

pytest.importorskip("av")

ENTRY = {"duration": 1.0, "timestamps": [[0.0, 0.5], [0.25, 1.0]], "sentences": ["A  dog runs. ", " It jumps."]}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Three videos of 8 frames."""
    folder = tmp_path_factory.mktemp("videos")
    for k, name in enumerate(("v_a", "v_b", "c")):  # some tools leave the "v_" out
        frames = np.random.default_rng(k).integers(0, 256, (8, 32, 48, 3), np.uint8)
        write_video(folder / f"{name}.mp4", frames, 8)
    return folder


def write(folder: Path, files: dict[str, object], videos: Path, place: str = "videos") -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    if place and not (folder / place).exists():
        (folder / place).symlink_to(videos, target_is_directory=True)
    return folder


@pytest.mark.parametrize("where", ["", "captions/", "annotations/"])
def test_the_published_layout(tmp_path, videos, where):
    empty = {"duration": 1.0, "timestamps": [], "sentences": []}
    files = {"train.json": {"v_a": ENTRY, "v_gone": ENTRY}, "val_1.json": {"v_b": ENTRY, "v_c": empty}}
    files["val_2.json"] = {"v_b": ENTRY}
    data = sl.open_dataset(write(tmp_path, {where + name: content for name, content in files.items()}, videos))
    assert (data.format, data.kind, data.splits, len(data)) == ("activitynet", "events", ("train", "val"), 3)
    clip, events = data["train"][0]
    assert isinstance(clip, sl.Clip)
    assert isinstance(events, sl.Events)
    assert (tuple(clip.shape), events.image_size, events.source) == ((3, 8, 32, 48), (32, 48), "videos/v_a.mp4")
    assert events.times.tolist() == ENTRY["timestamps"]
    assert (events.captions, events.duration) == (("A dog runs.", "It jumps."), 1.0)
    assert [data["val"].name(i) for i in range(2)] == ["videos/v_b.mp4", "videos/c.mp4"]
    assert len(data["val"].target(1)) == 0
    assert data.orphans == (f"{where}train.json: v_gone",)
    assert any("val_2.json is left out, because val_1.json describes the same split" in note for note in data.notes)
    assert data.label_path(0) == tmp_path / where / "train.json"


def test_one_file_and_a_folder_of_videos(tmp_path, videos):
    write(tmp_path, {"some.json": {"v_a": ENTRY}}, videos, place="")
    with pytest.raises(sl.InputError, match=r"contains 1 labels but none of their images: some\.json: v_a"):
        sl.open_dataset(tmp_path / "some.json")
    data = sl.open_dataset(tmp_path / "some.json", images=videos)
    assert (data.splits, len(data[0][1])) == (("all",), 2)
    named = sl.open_dataset(tmp_path, val=tmp_path / "some.json", images=videos)
    assert named.splits == ("val",)
    with pytest.raises(sl.InputError, match="describes events, which have no classes"):
        sl.open_dataset(tmp_path, classes=["dog"], images=videos)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (ENTRY | {"sentences": ["one"]}, "v_b has 2 timestamps, but 1 sentences"),
        (ENTRY | {"duration": -1}, "v_b has a duration of -1 s"),
        (ENTRY | {"duration": "long"}, r"train\.json: the entry 'duration' of v_b is 'long'"),
        (ENTRY | {"timestamps": [[0, 1], [1]]}, "v_b: timestamp 1 has 1 number"),
        (ENTRY | {"timestamps": [[0, 1], ["a", 2]]}, r"'timestamps\[1\]\[0\]' of .*v_b is 'a'"),
        ({"duration": 1, "timestamps": []}, "v_b lacks the entry 'sentences'"),
        ([1], r"v_b is \[1\]"),
    ],
)
def test_a_broken_entry_is_named(tmp_path, videos, entry, words):
    write(tmp_path, {"train.json": {"v_a": ENTRY, "v_b": entry}}, videos)
    with pytest.raises(sl.InputError, match=words) as refused:
        sl.open_dataset(tmp_path)
    assert "train.json" in str(refused.value)
    lenient = sl.open_dataset(tmp_path, lenient=True)
    assert (len(lenient), len(lenient.malformed)) == (1, 1)


def test_what_is_left_out_is_said(tmp_path, videos):
    files = {"captions/train.json": "", "captions/val_1.json": {"v_a": ENTRY, "v_gone": ENTRY}}
    data = sl.open_dataset(write(tmp_path, files, videos))
    assert data.notes == (
        "captions/train.json is left out, because it holds no captions",
        "1 video of the captions left out, because there is no file",
    )


def test_a_file_that_ends_too_early(tmp_path, videos):
    write(tmp_path, {"train.json": json.dumps({"v_a": ENTRY})[:-4]}, videos)
    with pytest.raises(sl.InputError, match=r"train\.json is not valid JSON: it ends too early"):
        sl.open_dataset(tmp_path)


def test_check_names_what_cannot_be_learnt(tmp_path, videos):
    """Times outside the video, a sentence without words, no events; and a video that is broken."""
    late = ENTRY | {"timestamps": [[0, 0.5], [0.5, 2.5]]}
    silent = ENTRY | {"sentences": ["", "It jumps."]}
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "v_d.mp4").write_bytes((videos / "v_a.mp4").read_bytes()[:900])
    (broken / "v_e.mp4").write_bytes((videos / "v_a.mp4").read_bytes())
    long = ENTRY | {"duration": 40.0}
    entries = {
        "v_a": late,
        "v_b": silent,
        "v_e": long,
        "v_c": {"duration": 1, "timestamps": [], "sentences": []},
        "v_d": ENTRY,
    }
    found = sl.check(write(tmp_path, {"train.json": entries}, videos), progress=False)
    assert not found.ok
    said = {problem.rule: problem.what for problem in found.problems}
    assert "event 1 is from 0.5 s to 2.5 s, but the video is 1 s long" in said["event-invalid"]
    assert "1 of its 2 events have an empty sentence" in said["event-without-words"]
    assert "has no events" in said["video-without-events"]
    assert said["duration-differs"] == "broken/v_e.mp4: the label says 40 s, but the video is 1 s long"
    assert found.about == "events: 8 events, 5 different words"
    assert "it is damaged, truncated or no video" in said["image-truncated"]
    with pytest.raises(sl.InputError, match=r"v_a\.mp4: event 1 is from 0\.5 s to 2\.5 s"):
        sl.open_dataset(tmp_path).target(0)


def test_what_is_written_is_read_back(tmp_path):
    data = sl.scenes(4, 32, kind="events")
    data = data.split(0.5, 0.25, 0.25, seed=0)
    written = convert(data, tmp_path / "out", "activitynet")
    assert str(written) == f"4 videos with events in videos written to {tmp_path / 'out'} as activitynet"
    back = sl.open_dataset(tmp_path / "out")
    assert (back.format, back.kind, back.splits) == ("activitynet", "events", ("train", "val", "test"))
    assert "4 videos (train 2, val 1, test 1)" in repr(back)
    assert "Format activitynet: 4 videos (train 2, val 1, test 1)\n" in str(sl.check(back, progress=False))
    for split in back.splits:
        for i in range(len(back[split])):
            (clip, target), (own, mine) = back[split][i], data[split][i]
            assert clip.times == pytest.approx(own.times)
            assert (torch.as_tensor(clip).float() - torch.as_tensor(own).float()).abs().mean() < 6
            assert target.captions == mine.captions
            torch.testing.assert_close(target.times.double(), mine.times.double(), atol=1e-3, rtol=0)
            assert target.duration == pytest.approx(mine.duration, abs=1e-3)
    sl.convert(tmp_path / "out", tmp_path / "again", "activitynet", symlink=True)  # from files
    again = sl.open_dataset(tmp_path / "again")
    assert [again.target(i).to_dict() for i in range(4)] == [back.target(i).to_dict() for i in range(4)]
    assert all(again.path(i).is_symlink() for i in range(4))
    with pytest.raises(
        sl.InputError, match="a dataset of events in videos cannot be written as coco, which holds objects"
    ):
        sl.convert(back, tmp_path / "coco", "coco")


def test_a_video_that_is_described_twice_is_refused(tmp_path: Path, videos: Path) -> None:
    entry = json.dumps(ENTRY)
    root = write(tmp_path, {"train.json": f'{{"v_a": {entry}, "v_b": {entry}, "v_a": {entry}}}'}, videos)
    with pytest.raises(
        InputError, match=r"train\.json has two entries named 'v_a', of which only one can be read; join"
    ):
        sl.open_dataset(root)
