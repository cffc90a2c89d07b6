"""Scenes as datasets, in memory and on disk."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.scenes import CLASSES, SEMANTIC_CLASSES, render, scene_seeds, scenes, write_scenes
from sightline.errors import InputError


def test_dataset_holds_what_render_gives() -> None:
    fields = ("masks", "keypoints", "cuboids", "captions", "visibility", "colours", "materials", "sizes")
    data = scenes(6, 64, seed=2, fields=fields)
    assert len(data) == 6
    assert tuple(data.classes) == CLASSES
    for i, seed in enumerate(scene_seeds(6, 2, "memory")):
        scene = render(seed, 64)
        image, target = data[i]
        assert np.array_equal(image.numpy().transpose(1, 2, 0), scene.image)
        assert np.array_equal(target.boxes.numpy(), scene.boxes)
        assert np.array_equal(target.labels.numpy(), scene.labels)
        assert np.array_equal(target.masks.numpy(), scene.masks)
        assert target.keypoints.numpy() == pytest.approx(scene.keypoints, abs=1e-4)
        assert target.cuboids.numpy() == pytest.approx(scene.cuboids, abs=1e-5)
        assert target.areas.tolist() == [item.area for item in scene.objects]
        assert target.captions == [item.caption for item in scene.objects]
        assert list(target.materials) == [item.material for item in scene.objects]
        facts = data.image_extra(i)
        assert facts["captions"] == [scene.caption]
        assert facts["seed"] == seed
        assert [tuple(row.values()) for row in data.table("relations", i)] == [
            (r.subject, r.predicate, r.object) for r in scene.relations
        ]
        assert facts["camera"]["matrix"] == pytest.approx(scene.camera.matrix.round(6))
    plain = scenes(2, 64, seed=2)
    assert "masks" not in plain[0][1]
    assert np.array_equal(
        plain.with_fields("masks")[0][1].masks.numpy(), render(plain.image_extra(0)["seed"], 64).masks
    )
    assert len(plain.split(0.5, 0.5, 0)["val"]) == 1


def test_other_kinds() -> None:
    maps = scenes(2, 48, seed=1, kind="class_map")
    assert tuple(maps.classes) == SEMANTIC_CLASSES
    seeds = scene_seeds(2, 1, "memory")
    assert np.array_equal(maps[1][1].labels.numpy(), render(seeds[1], 48).semantic_map)
    labels = scenes(3, 48, seed=1, kind="class_scores", objects=(1, 1))
    for i, seed in enumerate(scene_seeds(3, 1, "memory")):
        assert labels[i][1].label == render(seed, 48, objects=(1, 1)).labels[0]
    assert len(scenes(0)) == 0


def test_seeds_of_streams_and_sets_are_disjoint() -> None:
    streams = ("memory", "train", "val", "test")
    blocks = sorted(
        (own.start, own.stop) for own in (scene_seeds(1_000_000, seed, s) for seed in (0, 1, 5) for s in streams)
    )
    assert all(stop <= start for (_, stop), (start, _) in pairwise(blocks))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("out") / "scenes", 4, 2, 1, size=(64, 80), seed=3, progress=False)


def test_written_folder_by_another_reader(folder: Path) -> None:
    import contextlib
    import io

    from pycocotools.coco import COCO

    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        with contextlib.redirect_stdout(io.StringIO()):
            table = COCO(folder / "annotations" / f"instances_{split}.json")
        assert len(table.imgs) == count == len(list((folder / split).iterdir()))
        for number, seed in enumerate(scene_seeds(count, 3, split), 1):
            scene = render(seed, (64, 80))
            entry = table.imgs[number]
            assert (entry["height"], entry["width"], entry["seed"]) == (64, 80, seed)
            with Image.open(folder / split / entry["file_name"]) as image:
                assert np.array_equal(np.asarray(image), scene.image)
            rows = table.loadAnns(table.getAnnIds([number]))
            assert len(rows) == len(scene.objects)
            for row, item, mask in zip(rows, scene.objects, scene.masks, strict=True):
                assert np.array_equal(table.annToMask(row).astype(bool), mask)
                x, y, w, h = row["bbox"]
                assert [x, y, x + w, y + h] == item.box.tolist()
                assert table.cats[row["category_id"]]["name"] == item.class_name
                assert np.array(row["keypoints"]).reshape(-1, 3) == pytest.approx(item.keypoints, abs=0.01)
                assert row["num_keypoints"] == (item.keypoints[:, 2] > 0).sum()
                assert row["area"] == item.area
                assert row["caption"] == item.caption
            ids = {row["id"]: item.phrase for row, item in zip(rows, scene.objects, strict=True)}
            found = [(ids[s], p, ids[o]) for s, p, o in entry["relations"]]
            phrases = [item.phrase for item in scene.objects]
            assert found == [(phrases[r.subject], r.predicate, phrases[r.object]) for r in scene.relations]


def test_written_folder_opens(folder: Path) -> None:
    from sightline.data.formats import open_dataset

    data = open_dataset(folder)
    assert set(data.splits) == {"train", "val", "test"}
    assert tuple(data.classes) == CLASSES
    val = data["val"].with_fields("masks", "keypoints", "cuboids", "captions")
    scene = render(scene_seeds(2, 3, "val")[1], (64, 80))
    image, target = val[1]
    assert np.array_equal(image.numpy().transpose(1, 2, 0), scene.image)
    assert np.array_equal(target.boxes.numpy(), scene.boxes)
    assert np.array_equal(target.labels.numpy(), scene.labels)
    assert np.array_equal(target.masks.numpy(), scene.masks)
    assert target.keypoints.numpy() == pytest.approx(scene.keypoints, abs=0.01)
    assert target.cuboids.numpy() == pytest.approx(scene.cuboids, abs=1e-4)
    assert target.captions == [item.caption for item in scene.objects]


def test_jpeg_and_missing_splits(tmp_path: Path) -> None:
    out = write_scenes(tmp_path, 1, 0, 0, 32, suffix=".jpg", progress=False)
    assert sorted(p.name for p in out.iterdir()) == ["annotations", "train"]
    table = json.loads((out / "annotations" / "instances_train.json").read_text("utf-8"))
    with Image.open(out / "train" / table["images"][0]["file_name"]) as image:
        assert image.format == "JPEG"


def test_wrong_arguments(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty, and nothing is overwritten"):
        write_scenes(tmp_path, 1, 0, 0)
    with pytest.raises(InputError, match="is a file, but scenes are written into a folder"):
        write_scenes(tmp_path / "note.txt", 1, 0, 0)
    with pytest.raises(InputError, match=r"written as \.png or \.jpg, not '\.bmp'"):
        write_scenes(tmp_path / "a", 1, 0, 0, suffix=".bmp")
    with pytest.raises(InputError, match="train, val and test are all 0"):
        write_scenes(tmp_path / "a", 0, 0, 0)
    with pytest.raises(InputError, match="is -1, but must be between 0 and a million"):
        scenes(-1)
    with pytest.raises(InputError, match="is -3, but must be between 0 and 2⁴⁰ − 1"):
        scenes(1, seed=-3)
    with pytest.raises(InputError, match="no field 'mask'"):
        scenes(1, fields=("mask",))
    with pytest.raises(InputError, match="kind is 'boxes', but must be one of"):
        scenes(1, kind="boxes")
    with pytest.raises(InputError, match="at least 16 pixels"):
        write_scenes(tmp_path / "b", 1, 0, 0, size=4, progress=False)
    assert not (tmp_path / "b").exists()
