"""Datasets and their columns: views against plain lists, in memory, and shared between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.errors import InputError
from sightline.structures import IGNORE, ClassMap, ClassScores, Instances

COUNTS = [2, 0, 1, 3, 0, 4]


def make(**more) -> Dataset:
    """Six images of 20×30, image i with COUNTS[i] boxes whose x1 is 0, 1, … counted over all."""
    images, targets, x = [], [], 0
    for i, count in enumerate(COUNTS):
        images.append(torch.full((3, 20, 30), i, dtype=torch.uint8))
        boxes = [[x + k, 1.0, x + k + 2.5, 4.0] for k in range(count)]
        targets.append(Instances((20, 30), boxes=boxes, labels=[k % 2 for k in range(count)], crowd=[False] * count))
        x += count
    return Dataset.from_instances(images, targets, ["ant", "bee"], **more)


def firsts(dataset: Dataset) -> list[list[float]]:
    return [dataset.target(i).boxes[:, 0].tolist() for i in range(len(dataset))]


class TestBlob:
    @given(st.lists(st.binary(max_size=8), max_size=12), st.data())
    def test_is_a_list_of_bytes(self, entries: list[bytes], data: st.DataObject):
        blob = Blob.of(entries)
        assert list(blob) == entries
        rows = data.draw(st.lists(st.integers(0, len(entries) - 1), max_size=15)) if entries else []
        assert list(blob.take(np.array(rows, np.int64))) == [entries[r] for r in rows]
        mask = np.array([len(entry) % 2 == 0 for entry in entries], bool)
        assert list(blob.take(mask)) == [entry for entry in entries if len(entry) % 2 == 0]
        start, stop = data.draw(st.integers(-13, 13)), data.draw(st.integers(-13, 13))
        assert list(blob[start:stop]) == entries[start:stop]
        assert list(blob[start:stop].take(np.arange(len(entries[start:stop])))) == entries[start:stop]
        assert list(Blob.concatenate([blob[start:stop], blob])) == entries[start:stop] + entries
        assert blob == Blob.of(entries)
        assert pickle.loads(pickle.dumps(blob)) == blob

    def test_pieces(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("sightline.data.blob._PIECE", 5)
        entries = [b"ab", b"", b"cdefghij", b"k", b"lm", b"", b"n"]
        rows = np.array([6, 2, 2, 0, 1, 5, 3, 4])
        assert list(Blob.of(entries).take(rows)) == [entries[r] for r in rows]

    def test_text_and_positions(self):
        blob = Blob.of(["grün", "", "x"])
        assert blob.text(0) == "grün"
        assert blob.texts() == ["grün", "", "x"]
        assert blob[-1] == b"x"
        assert blob.lengths.tolist() == [5, 0, 1]
        with pytest.raises(IndexError):
            blob[3]


class TestColumns:
    def test_taking_images_and_objects(self):
        columns = make().columns
        taken = columns.take_images(np.array([5, 0, 1, 3]))
        assert np.diff(taken.offsets).tolist() == [4, 2, 0, 3]
        assert taken.boxes[:, 0].tolist() == [6, 7, 8, 9, 0, 1, 3, 4, 5]
        assert taken.names.texts() == ["000005.png", "000000.png", "000001.png", "000003.png"]
        assert taken.image_of.tolist() == [0] * 4 + [1] * 2 + [3] * 3
        kept = columns.take_objects(columns.boxes[:, 0] % 2 == 0)
        assert kept.boxes[:, 0].tolist() == [0, 2, 4, 6, 8]
        assert np.diff(kept.offsets).tolist() == [1, 0, 1, 1, 0, 2]
        assert kept.images == 6

    def test_concatenate(self):
        columns = make().columns
        more = columns.replace(keypoints=np.ones((columns.objects, 2, 3), np.float32), extra={"z": columns.labels})
        joined = Columns.concatenate([columns, more, more.replace(keypoints=np.full((10, 4, 3), 2, np.float32))])
        assert joined.images == 18
        assert joined.objects == 30
        assert joined.keypoints is not None
        assert joined.keypoints[:, :, 0].sum(1).tolist() == [0] * 10 + [2] * 10 + [8] * 10
        assert joined.extra["z"].tolist() == [0] * 10 + columns.labels.tolist() * 2
        assert np.array_equal(joined.take_images(np.arange(6, 12)).boxes, columns.boxes)

    def test_lengths_must_agree(self):
        columns = make().columns
        with pytest.raises(InputError, match="column boxes has 3 rows, but there are 10"):
            columns.replace(boxes=columns.boxes[:3])


class TestViews:
    @settings(max_examples=50)
    @given(st.lists(st.integers(-6, 5), max_size=10), st.lists(st.integers(0, 9), max_size=5))
    def test_views_of_views_are_as_lists(self, first: list[int], second: list[int]):
        whole = make()
        names, boxes = [whole.name(i) for i in range(6)], firsts(whole)
        view = whole[first]
        assert [view.name(i) for i in range(len(view))] == [names[i] for i in first]
        assert firsts(view) == [boxes[i] for i in first]
        second = [i for i in second if i < len(first)]
        assert firsts(view[np.array(second, int)]) == [boxes[first[i]] for i in second]
        assert view[second].columns.boxes[:, 0].tolist() == [x for i in second for x in boxes[first[i]]]

    def test_every_way_to_choose(self):
        whole = make()
        boxes = firsts(whole)
        assert firsts(whole[1:4]) == boxes[1:4]
        assert firsts(whole[::-2]) == boxes[::-2]
        assert firsts(whole[np.array([True, False, False, True, False, False])]) == [boxes[0], boxes[3]]
        assert firsts(whole[[True, False, False, True, False, False]]) == [boxes[0], boxes[3]]
        assert firsts(whole[torch.tensor([3, 3])]) == [boxes[3], boxes[3]]
        assert len(whole[[]]) == 0
        image, target = whole[-1]
        assert image.unique().tolist() == [5]
        assert len(target) == 4
        assert [len(target) for _, target in whole] == COUNTS
        assert whole[np.int64(3)][1].source == "000003.png"
        with pytest.raises(IndexError, match="image 6 of 6"):
            whole[6]
        with pytest.raises(IndexError, match="image 7 of 6"):
            whole[[0, 7]]
        with pytest.raises(InputError, match="a mask with 2 entries cannot select from 6 images"):
            whole[[True, False]]

    def test_splits_by_name(self):
        data = make(splits=["train", "val", "train", "test", "train", "val"])
        assert data.splits == ("train", "val", "test")
        assert data["train"].columns.names.texts() == ["000000.png", "000002.png", "000004.png"]
        assert data["val"].splits == ("val",)
        assert data["val"].split_of(1) == "val"
        assert len(data["val"]["val"]) == 2
        with pytest.raises(InputError, match=r"there is no split 'dev'; there are: train, val, test .*\.split\(0\.8"):
            data["dev"]
        with pytest.raises(InputError, match="there is no split 'train'"):
            data["val"]["train"]

    def test_views_share_columns(self):
        data = make()
        assert data[2:].source.columns is data.source.columns
        assert data.columns is data.source.columns
        target = data.target(0)
        target.boxes.zero_()
        target.labels.fill_(7)
        target.crowd.fill_(True)
        assert data.target(0).boxes[1, 0] == 1
        assert not data.target(0).crowd.any()

    def test_pickles(self):
        copy = pickle.loads(pickle.dumps(make()[[3, 0]]))
        assert firsts(copy) == [[3, 4, 5], [0, 1]]
        assert copy.image(0).unique().tolist() == [3]

    def test_repr_says_what_there_is(self):
        data = make(splits=["a", "a", "a", "b", "b", "b"])
        assert repr(data) == "Dataset(memory, 6 images (a 3, b 3), 10 objects, Classes(2: ant, bee))"
        assert "3 objects" in repr(data["a"])


class TestRatioSplit:
    def test_is_a_partition_and_seeded(self):
        images = [torch.zeros(3, 2, 2, dtype=torch.uint8)] * 100
        data = Dataset.from_labels(images, [k % 3 for k in range(100)], ["a", "b", "c"])
        divided = data.split(0.7, 0.2, 0.1, seed=3)
        parts = {name: divided[name].columns.names.texts() for name in ("train", "val", "test")}
        assert {name: len(part) for name, part in parts.items()} == {"train": 70, "val": 20, "test": 10}
        assert sorted(name for part in parts.values() for name in part) == data.columns.names.texts()
        assert parts["train"] != data.columns.names.texts()[:70]
        again = data.split(0.7, 0.2, 0.1, seed=3)
        assert again["val"].columns.names.texts() == parts["val"]
        assert data.split(0.7, 0.2, 0.1, seed=4)["val"].columns.names.texts() != parts["val"]

    def test_few_images(self):
        divided = make()[:3].split(0.9, 0.05, 0.05)
        assert [len(divided[name]) for name in ("train", "val", "test")] == [1, 1, 1]
        assert len(make().split(0.5, 0.5, 0)["train"]) == 3
        part = make().split(0.5, 0, 0)
        assert part.splits == ("train",)
        assert len(part) == 3

    def test_of_a_view(self):
        divided = make()[[5, 3, 0]].split(0.4, 0.6, 0)
        kept = {divided.name(i): firsts(divided)[i] for i in range(3)}
        assert kept == {"000005.png": [6, 7, 8, 9], "000003.png": [3, 4, 5], "000000.png": [0, 1]}
        assert [int(divided.image(i)[0, 0, 0]) for i in range(3)] == [5, 3, 0]

    def test_wrong_shares(self):
        for shares in ((0.9, 0.2, 0.1), (0, 0, 0), (-0.1, 0.5, 0.5)):
            with pytest.raises(InputError, match=r"shares .* cannot divide a dataset; give fractions such as"):
                make().split(*shares)
        with pytest.raises(InputError, match="2 images cannot be divided into 3 splits"):
            make()[:2].split()


class TestInMemory:
    def test_every_field_comes_back(self):
        masks = torch.rand(2, 8, 9) > 0.5
        first = Instances(
            (8, 9),
            boxes=[[1, 2, 3, 4], [0.5, 0.25, 8.75, 7.5]],
            labels=[1, 0],
            masks=masks,
            keypoints=torch.rand(2, 4, 3),
            cuboids=torch.rand(2, 9),
            captions=["a bee", ""],
            meshes=[{"v": 1}, None],
            areas=[5.0, 6.0],
            difficult=[True, False],
        )
        none = Instances((8, 9))
        images = [np.zeros((3, 8, 9), np.uint8)] * 2
        data = Dataset.from_instances(images, [first, none], ["ant", "bee"], image_extra=[{"captions": ["two"]}, {}])
        full = data.with_fields("masks", "keypoints", "cuboids", "captions", "meshes")
        target = full.target(0)
        for name, value in first.fields.items():
            have = target.fields[name]
            assert torch.allclose(have, value) if isinstance(value, torch.Tensor) else have == value, name
        assert len(full.target(1)) == 0
        assert full.target(1).masks.shape == (0, 8, 9)
        assert "masks" not in data.target(0)
        assert data.captions(0) == ["two"]
        assert data.captions(1) == []
        with pytest.raises(InputError, match="has no field 'depth'; it has boxes, labels"):
            data.with_fields("depth")

    def test_target_without_areas_gets_the_boxes(self):
        assert make().target(0).areas.tolist() == [7.5, 7.5]

    def test_class_maps(self, tmp_path: Path):
        image = np.zeros((3, 2, 3), np.uint8)
        labels = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
        data = Dataset.from_class_maps([image], [labels], ["ground", "sky"])
        target = data.target(0)
        assert isinstance(target, ClassMap)
        assert target.labels.tolist() == [[0, 1, IGNORE], [1, 1, 0]]
        assert data.kind == "class_map"
        Image.fromarray(labels).save(tmp_path / "mask.png")
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "photo.png")
        from_files = Dataset.from_class_maps([tmp_path / "photo.png"], [tmp_path / "mask.png"], ["ground", "sky"])
        assert torch.equal(from_files.target(0).labels, target.labels)
        assert from_files.name(0) == "photo.png"
        assert torch.equal(from_files.image(0), torch.from_numpy(image))
        with pytest.raises(
            InputError, match=r"map 0 is \[3, 2\] of torch.uint8, but must be integers of size \(2, 3\)"
        ):
            Dataset.from_class_maps([image], [labels.T.copy()], ["ground", "sky"])
        with pytest.raises(InputError, match=r"000000\.png: the map holds id 9"):
            Dataset.from_class_maps([image], [labels * 0 + 9], ["ground", "sky"]).target(0)

    def test_labels(self):
        images = [np.zeros((3, 2, 3), np.uint8)] * 2
        data = Dataset.from_labels(images, ["rose", 0], ["tulip", "rose"])
        target = data.target(0)
        assert isinstance(target, ClassScores)
        assert target.label == 1
        assert target.image_size == (2, 3)
        assert data.target(1).label == 0
        with pytest.raises(InputError, match="unknown class 'ros'; did you mean 'rose'"):
            Dataset.from_labels(images, ["ros", 0], ["tulip", "rose"])
        with pytest.raises(InputError, match="image 1 has label 2, but there are 2 classes"):
            Dataset.from_labels(images, [0, 2], ["tulip", "rose"])

    def test_mistakes(self):
        image = np.zeros((3, 20, 30), np.uint8)
        target = Instances((20, 30), boxes=[[0, 0, 1, 1]], labels=[3])
        with pytest.raises(InputError, match="there are 1 images, but 2 targets"):
            Dataset.from_instances([image], [target, target], ["a"])
        with pytest.raises(InputError, match="image 0 has label 3, but there are 1 classes"):
            Dataset.from_instances([image], [target], ["a"])
        with pytest.raises(InputError, match=r"image 0 has size \(20, 30\), but its target is for size \(30, 20\)"):
            Dataset.from_instances([image], [Instances((30, 20))], ["a"])
        with pytest.raises(InputError, match="two images have the name 'x'"):
            Dataset.from_instances([image] * 2, [Instances((20, 30))] * 2, ["a"], names=["x", "x"])
        with pytest.raises(InputError, match=r"image 0 has size \(30, 3\), but its target is for size \(20, 30\)"):
            Dataset.from_instances([np.zeros((20, 30, 3), int)], [Instances((20, 30))], ["a"])

    def test_changed_columns(self):
        data = make()[[3, 0]]
        columns = data.columns
        moved = data.with_columns(columns.replace(boxes=columns.boxes + 1))
        assert firsts(moved) == [[4, 5, 6], [1, 2]]
        assert moved.image(0).unique().tolist() == [3]
        assert firsts(data) == [[3, 4, 5], [0, 1]]
        with pytest.raises(InputError, match="columns of 2 images do not fit a dataset of 6"):
            make().with_columns(columns)

    def test_channels(self, tmp_path: Path):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
        data = Dataset.from_labels([tmp_path / "a.png"], [0], ["x"])
        assert data.image(0).shape == (3, 4, 5)
        assert data.with_channels(1)[:1].image(0).shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([5, 5, 2, 9], r"000000\.png: box 1 is \[5.0, 5.0, 2.0, 9.0\], but a box must be finite with x1 ≤ x2"),
        ([5, float("nan"), 7, 9], r"000000\.png: box 1 is \[5.0, nan, 7.0, 9.0\]"),
    ],
)
def test_a_broken_box_is_kept_and_named_when_used(box: list[float], words: str):
    data = make()
    boxes = data.columns.boxes.copy()
    boxes[1] = box
    broken = data.with_columns(data.columns.replace(boxes=boxes))
    assert np.array_equal(broken.columns.boxes[1], box, equal_nan=True)
    with pytest.raises(InputError, match=words):
        broken.target(0)
    assert len(broken.target(2)) == 1


def test_zero_area_is_no_error():
    data = make()
    boxes = data.columns.boxes.copy()
    boxes[1] = [3, 3, 3, 3]
    assert data.with_columns(data.columns.replace(boxes=boxes)).target(0).boxes[1].tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_the_same(method: str):
    from torch.utils.data import DataLoader

    data = make()
    loader = DataLoader(data, batch_size=2, num_workers=1, collate_fn=list, multiprocessing_context=method)
    items = [item for batch in loader for item in batch]
    assert [target.boxes[:, 0].tolist() for _, target in items] == firsts(data)
    assert [int(image[0, 0, 0]) for image, _ in items] == list(range(6))


def test_packed_texts_take_their_bytes_and_their_offsets() -> None:
    assert Blob.of(["ab", "", "cde"]).nbytes == 5 + 8 * 4
