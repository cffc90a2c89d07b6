"""Predictions of many images as Parquet: what is written is what was predicted, once, whatever happens in between."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.deploy.batch import pool
from sightline.deploy.batch.chunk import Chunk, Settings, write_part
from sightline.deploy.batch.files import Folder, find_names
from sightline.deploy.batch.reading import iterate_predictions
from sightline.deploy.batch.tables import Part
from sightline.errors import InputError
from tests.evaluation.shared_cases import IMAGES, KINDS, SIZE, case
from tests.test_cli import sightline

parquet = pytest.importorskip("pyarrow.parquet")
ARGUMENTS = {"threshold": 0.0}


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small detector that has learned nothing."""
    torch.manual_seed(0)
    model = sl.create_model("sightline_n", ["cat", "dog"], weights="none", image_size=64)
    model.metadata = {"threshold": 0.01}
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    sl.save(model, file)
    return file


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten images, two of them in a subfolder."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    rng = np.random.default_rng(1)
    for number in range(10):
        pixels = rng.integers(0, 255, (40 + number, 56, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / ("more" if number > 7 else "") / f"{number}.png")
    return folder


def sources(out: Path) -> Counter[str]:
    """How often each image is in the folder."""
    files = [*out.glob("images/*.parquet"), *out.glob("errors/*.parquet")]
    return Counter(name for file in files for name in parquet.read_table(file).column("source").to_pylist())


def same(a: Any, b: Any) -> bool:
    """Whether two results are the same, in every value."""
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and torch.equal(torch.as_tensor(a), torch.as_tensor(b).to(a.dtype))
    if isinstance(a, sl.Instances):
        return (a.image_size, a.classes, a.source) == (b.image_size, b.classes, b.source) and same(a.fields, b.fields)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "vertices"):
        return same(a.vertices, b.vertices) and same(a.faces, b.faces)
    return same(vars(a), vars(b)) if hasattr(a, "__dict__") and not isinstance(a, sl.Classes) else bool(a == b)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "counting"])
def test_results_of_every_task_come_back(name: str, tmp_path: Path) -> None:
    results = case(name)[0].predictions
    results = [result[:0] if i == 1 and hasattr(result, "__getitem__") else result for i, result in enumerate(results)]
    part = Part()
    for i, result in enumerate(results):
        part.add(f"{i}.png", SIZE, result)
    part.fail("bad.png", "it is broken")
    write_part(Folder(str(tmp_path)), 0, part)
    found = sl.read_predictions(tmp_path)
    assert found.errors == {"bad.png": "it is broken"}
    assert [result.source for result in found] == [f"{i}.png" for i in range(IMAGES)]
    for mine, theirs in zip(found, results, strict=True):
        if isinstance(mine, sl.Instances):
            assert same(mine.fields, theirs.fields)
        else:
            assert same({**vars(mine), "source": None}, {**vars(theirs), "source": None})


def test_a_table_is_what_users_query(tmp_path: Path) -> None:
    part = Part()
    boxes = [[1.0, 2.0, 5.0, 7.0], [0.0, 0.0, 4.0, 4.0]]
    masks = torch.zeros(2, 8, 9, dtype=torch.bool)
    masks[0, 2:7, 1:5] = True
    classes = sl.Classes(["cat", "dog"])
    found = sl.Instances((8, 9), classes=classes, boxes=boxes, labels=[1, 0], scores=[0.5, 0.25], masks=masks)
    part.add("a.png", (8, 9), found)
    part.add("b.png", (8, 9), found[:0])
    write_part(Folder(str(tmp_path)), 3, part)
    rows = parquet.read_table(tmp_path / "objects").to_pylist()
    assert [(row["source"], row["row"], row["class"], row["label"], row["score"]) for row in rows] == [
        ("a.png", 0, "dog", 1, 0.5),
        ("a.png", 1, "cat", 0, 0.25),
    ]
    assert [[row[name] for name in ("x1", "y1", "x2", "y2")] for row in rows] == boxes
    assert rows[0]["mask"]["size"] == [8, 9]
    images = parquet.read_table(tmp_path / "images" / "part-000003.parquet").to_pylist()
    assert [(row["source"], row["height"], row["width"], row["objects"]) for row in images] == [
        ("a.png", 8, 9, 2),
        ("b.png", 8, 9, 0),
    ]


def test_what_is_written_is_what_predict_returns_and_is_continued(detector: Path, photos: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out.parquet"
    shutil.copytree(photos, folder)
    (folder / "broken.png").write_bytes(b"\x89PNG broken")
    done = sl.predict_to_parquet(detector, folder, out, part_size=4, **ARGUMENTS)
    assert (done.images, done.predicted, done.before, done.parts) == (10, 10, 0, 3)
    assert list(done.errors) == [str(folder / "broken.png")]
    with pytest.warns(UserWarning, match="left out"):
        expected = sl.predict(detector, folder, **ARGUMENTS)
    found = sl.read_predictions(out)
    assert found.errors == expected.errors
    assert done.objects == sum(map(len, found)) > 0
    assert all(map(same, found, expected))

    again = sl.predict_to_parquet(detector, folder, out, **ARGUMENTS)
    assert (again.images, again.predicted, again.before, again.parts) == (10, 0, 11, 0)
    # what a killed command leaves: a part without its file in images/; it is predicted again
    os.remove(out / "images" / "part-000001.parquet")
    shutil.copy(folder / "1.png", folder / "new.png")
    more = sl.predict_to_parquet(detector, folder, out, part_size=9, **ARGUMENTS)
    assert (more.images, more.predicted, more.before, more.parts) == (11, 5, 7, 1)
    assert set(sources(out).values()) == {1}
    assert len(sources(out)) == 12
    assert {file.name for file in (out / "objects").iterdir()} == {file.name for file in (out / "images").iterdir()}
    assert not list(out.rglob(".*"))

    with pytest.raises(InputError, match=r"has predictions with threshold 0\.0, not 0\.5; continue with the same"):
        sl.predict_to_parquet(detector, folder, out, threshold=0.5)
    other = sl.create_model("sightline_n", ["cat", "dog"], weights="none", image_size=64)
    with pytest.raises(InputError, match="has predictions by another model"):
        sl.predict_to_parquet(other, folder, out, **ARGUMENTS)
    with pytest.raises(InputError, match="must be files, which the workers read"):
        sl.predict_to_parquet(detector, torch.zeros(3, 8, 8), out)
    with pytest.raises(InputError, match="give the file of a saved or exported model"):
        sl.predict_to_parquet(other, folder, out, workers=2)
    with pytest.raises(InputError, match=r"has files that are not predictions \(0.png\)"):
        sl.predict_to_parquet(detector, folder, folder)
    with pytest.raises(InputError, match="has no predictions"):
        sl.read_predictions(folder)


def test_images_and_parts_on_other_file_systems(detector: Path, photos: Path, tmp_path: Path) -> None:
    uri, out = photos.as_uri(), (tmp_path / "out.parquet").as_uri()
    assert find_names(f"{uri}/*.png") == [f"{uri}/{i}.png" for i in range(8)]
    assert find_names(f"{uri}/**/9.png") == [f"{uri}/more/9.png"]
    assert find_names([f"{uri}/3.png", str(photos / "4.png"), f"{uri}/3.png"]) == [f"{uri}/3.png", f"{photos}/4.png"]
    done = sl.predict_to_parquet(detector, [uri, f"{uri}/3.png"], out, **ARGUMENTS)
    assert done.predicted == 10
    local = sl.predict(detector, photos, **ARGUMENTS)
    for mine, theirs in zip(iterate_predictions(out), local, strict=True):
        assert mine.source == Path(theirs.source).as_uri()
        assert same(mine.fields, theirs.fields)
    with pytest.raises(InputError, match=r"no image was found at .*none; correct the address"):
        find_names(f"{uri}/none")
    with pytest.raises(InputError, match=r"^what://place/x cannot be reached"):
        find_names("what://place/x")


WORKER = """
import json, os, signal, sys

json.loads(input())
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    chunk = json.loads(line)
    for name in chunk["names"]:
        marker = os.path.join(sys.argv[1], name)
        if name == "deadly" or (name == "once" and not os.path.exists(marker)):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    done = {"part": chunk["part"], "images": len(chunk["names"]), "objects": 0, "errors": {}}
    print(json.dumps(done), flush=True)
"""
"""A worker without a model. It kills itself at the image deadly, and once at the image once."""


@pytest.mark.parametrize("workers", [1, 3])
def test_the_pool_replaces_workers_that_are_killed(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "killed").mkdir()
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, "-c", WORKER, str(tmp_path / "killed")])
    names = [("a", "once", "b"), ("c",), ("d", "e", "deadly", "f", "g"), ("h", "i")]
    chunks = [Chunk(part, own) for part, own in enumerate(names)]
    numbers = itertools.count(4)
    settings = Settings("model", str(tmp_path / "out"), 0.5)
    done = list(pool.predict_in_pool(settings, chunks, workers, lambda: next(numbers)))
    assert sum(one.images for one in done) == 10
    failed = [one for one in done if one.errors]
    assert [list(one.errors) for one in failed] == [["deadly"]]
    assert "was killed twice, possibly because memory ran out" in failed[0].errors["deadly"]
    assert sources(tmp_path / "out") == {"deadly": 1}
    assert len({one.part for one in done}) == len(done)
    assert {file.name for file in (tmp_path / "killed").iterdir()} == {"once", "deadly"}


def test_the_error_of_a_worker_ends_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = """import sys; input(); print('{"error": "the model is broken"}', flush=True); sys.stdin.read()"""
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, "-c", answer])
    settings = Settings("model", str(tmp_path), 0.5)
    with pytest.raises(InputError, match=r"^the model is broken$"):
        list(pool.predict_in_pool(settings, [Chunk(0, ("a",)), Chunk(1, ("b",))], 2, lambda: 2))
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, "-c", ""])
    with pytest.raises(InputError, match="was killed while it loaded the model"):
        list(pool.predict_in_pool(settings, [Chunk(0, ("a",))], 1, lambda: 1))


HOOK = """
import os, signal, sys

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        name = os.path.basename(arguments[0])
        marker = os.environ["MARKER"] + name
        if name == "deadly.png" or (name == "once.png" and not os.path.exists(marker)):
            os.close(os.open(marker, os.O_CREAT | os.O_WRONLY))
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
"""
"""Kills the process that opens deadly.png, and the first one that opens once.png."""


@pytest.fixture
def killed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images with one that kills the first worker process that opens it."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    places = [str(tmp_path / "hook"), str(Path(sl.__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.setenv("MARKER", str(tmp_path / "killed-"))
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "2.png").rename(folder / "once.png")
    return folder


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_and_doubles_nothing(detector: Path, killed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    done = sl.predict_to_parquet(detector, killed, out, part_size=5, workers=2, **ARGUMENTS)
    assert (tmp_path / "killed-once.png").exists()
    assert (done.images, done.predicted, done.parts, done.errors) == (10, 10, 2, {})
    assert set(sources(out).values()) == {1}
    expected = {result.source: result for result in sl.predict(detector, killed, **ARGUMENTS)}
    found = sl.read_predictions(out)
    assert len(found) == 10
    assert all(same(result, expected[result.source]) for result in found)


@pytest.mark.slow
def test_an_image_that_kills_every_worker_is_listed(detector: Path, killed: Path, tmp_path: Path) -> None:
    shutil.copy(killed / "3.png", killed / "deadly.png")
    out = tmp_path / "out.parquet"
    done = sl.predict_to_parquet(detector, killed, out, part_size=4, workers=2, **ARGUMENTS)
    assert list(done.errors) == [str(killed / "deadly.png")]
    assert "was killed twice, possibly because memory ran out" in done.errors[str(killed / "deadly.png")]
    assert done.images == 10
    assert set(sources(out).values()) == {1}
    assert len(sources(out)) == 11


@pytest.mark.slow
def test_an_actor_of_ray_that_is_killed_loses_and_doubles_nothing(detector: Path, killed: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    (killed / "broken.png").write_bytes(b"\x89PNG broken")
    out = tmp_path / "out.parquet"
    try:
        done = sl.predict_to_parquet(detector, killed, out, part_size=2, workers=2, engine="ray", **ARGUMENTS)
    finally:
        ray.shutdown()
    assert (tmp_path / "killed-once.png").exists()
    assert (done.images, done.predicted, list(done.errors)) == (10, 10, [str(killed / "broken.png")])
    assert set(sources(out).values()) == {1}
    assert len(sources(out)) == 11


@pytest.mark.slow
def test_an_exported_file_is_a_model_like_any_other(detector: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    sl.export(detector, file, check=False)
    done = sl.predict_to_parquet(file, photos, tmp_path / "out.parquet", workers=2, part_size=5, **ARGUMENTS)
    assert (done.predicted, done.errors) == (10, {})
    facts = json.loads((tmp_path / "out.parquet" / "_job.json").read_text())
    assert facts["name"].endswith("(ONNX Runtime, CPUExecutionProvider)")


def test_files_of_others_are_never_deleted(detector: Path, photos: Path, tmp_path: Path) -> None:
    """A folder with meshes in objects/ is no dataset, and a file that is no part is left alone in one."""
    mine = tmp_path / "mine.parquet" / "objects" / "chair.obj"
    mine.parent.mkdir(parents=True)
    mine.write_text("v 0 0 0")
    with pytest.raises(InputError, match=r"has files that are not predictions \(objects\)"):
        sl.predict_to_parquet(detector, photos / "0.png", tmp_path / "mine.parquet")
    assert mine.read_text() == "v 0 0 0"
    out = tmp_path / "out.parquet"
    sl.predict_to_parquet(detector, photos / "0.png", out, **ARGUMENTS)
    (out / "objects" / "notes.txt").write_text("keep")
    (out / "images" / "notes.txt").write_text("keep")
    assert sl.predict_to_parquet(detector, photos / "1.png", out, **ARGUMENTS).images == 2
    assert (out / "objects" / "notes.txt").exists()


def test_a_damaged_part_is_named(detector: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    sl.predict_to_parquet(detector, photos / "0.png", out, **ARGUMENTS)
    part = out / "images" / "part-000000.parquet"
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(InputError, match=r"images/part-000000\.parquet cannot be read .*; delete it"):
        sl.predict_to_parquet(detector, photos / "1.png", out, **ARGUMENTS)
    part.unlink()
    assert sl.predict_to_parquet(detector, photos / "0.png", out, **ARGUMENTS).predicted == 1


def test_wrong_tiles_leave_no_folder_that_refuses_right_ones(detector: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tiles of 32 pixels cannot overlap by 32"):
        sl.predict_to_parquet(detector, photos / "0.png", tmp_path / "out.parquet", tile=32, overlap=32)
    assert not (tmp_path / "out.parquet").exists()


def test_videos_and_arguments_of_tiles_alone_are_refused(detector: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"never read")
    with pytest.raises(InputError, match=r"clip\.mp4 is a video, but Parquet files hold predictions of images"):
        sl.predict_to_parquet(detector, [photos, tmp_path / "clip.mp4"], tmp_path / "out.parquet")
    for given, words in (({"overlap": 8}, "overlap is 8, but only tiles"), ({"whole_image": False}, "without tiles")):
        with pytest.raises(InputError, match=words):
            sl.predict_to_parquet(detector, photos, tmp_path / "out.parquet", **given)
        with pytest.raises(InputError, match=words):
            sl.predict_to_folder(detector, photos, tmp_path / "out.parquet", **given)
    assert not (tmp_path / "out.parquet").exists()


def test_options_without_effect_are_refused_on_the_command_line(detector: Path, photos: Path, tmp_path: Path) -> None:
    words = ["predict", detector, photos, "--quiet", "--out"]
    for out, option, value, shown in (
        ("a.parquet", "--every", "0", "--every is 0, but images are predicted and written as Parquet"),
        ("a.parquet", "--track", None, "--track is given, but images are"),
        ("a.parquet", "--save", "csv", "--save is csv, but images are"),
        ("a", "--workers", "0", "--workers is 0, but only Parquet files are written by several workers"),
        ("a", "--part-size", "0", "--part-size is 0, but only Parquet"),
    ):
        outcome = sightline(*words, tmp_path / out, option, *([] if value is None else [value]))
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
        assert shown in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_continued(detector: Path, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "out.parquet"
    write, written = Folder._write, []

    def full(self: Folder, place: str, fill: Any) -> None:
        if len(written) > 3:  # the job and the first part, which are two files, and images of the second
            raise OSError(28, "Error writing bytes to file. Detail: [errno 28] No space left on device")
        written.append(place)
        write(self, place, fill)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "_write", full)
        with pytest.raises(InputError, match=r"part-0000.*parquet cannot be written \(.*No space left.* it continues"):
            sl.predict_to_parquet(detector, photos, out, **ARGUMENTS)
    left = sl.predict_to_parquet(detector, photos, out, **ARGUMENTS)
    assert left.before > 0
    assert sorted(sources(out).values()) == [1] * 10
