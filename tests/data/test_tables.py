"""Ragged tables: references follow the objects, checked against lists of plain dictionaries."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sightline as sl
from sightline.data.check import fix
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import convert
from sightline.data.scenes import write_scenes
from sightline.data.tables import Table
from sightline.errors import InputError

Rows = list[list[dict[str, Any]]]
WORDS = ("left of", "on", "behind", "")


def columns_of(counts: list[int], rows: Rows, label: int = 0) -> Columns:
    """Columns of images with so many objects, whose `ids` tell them apart, and a table of rows about two of them."""
    data = dataset_of(counts, rows)
    return data.columns.replace(ids=np.arange(sum(counts)) + 1000 * label)


def dataset_of(counts: list[int], rows: Rows) -> Dataset:
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8) for _ in counts]
    targets = []
    for count in counts:
        x = torch.arange(count, dtype=torch.float32) % 4
        boxes = torch.stack([x, x, x + 1 + torch.arange(count), x + 2], 1)
        labels = torch.arange(count) % 2
        targets.append(sl.Instances((8, 64), boxes=boxes, labels=labels))
        targets[-1].image_size = (8, 8)
    table = Table.from_rows(rows, ("subject", "object"), columns=("subject", "predicate", "object"))
    return Dataset.from_instances(images, targets, ["a", "b"], tables={"relations": table})


@st.composite
def ragged(draw: st.DrawFn) -> tuple[list[int], Rows]:
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    rows: Rows = []
    for count in counts:
        reference = st.integers(-1, count - 1)
        row = st.fixed_dictionaries({"subject": reference, "predicate": st.sampled_from(WORDS), "object": reference})
        rows.append(draw(st.lists(row, max_size=5)))
    return counts, rows


def named(columns: Columns) -> list[list[tuple[Any, str, Any]]]:
    """The rows of each image with their objects' ids, which no renumbering changes."""
    found = []
    for i in range(columns.images):
        own = [*columns.ids[columns.offsets[i] : columns.offsets[i + 1]].tolist(), None]  # −1 is the None
        found.append([(own[r["subject"]], r["predicate"], own[r["object"]]) for r in columns.tables["relations"].of(i)])
    return found


@given(ragged(), st.data())
def test_images_are_taken(drawn: tuple[list[int], Rows], data: st.DataObject) -> None:
    columns = columns_of(*drawn)
    chosen = data.draw(st.lists(st.integers(0, len(drawn[0]) - 1), max_size=6))
    assert named(columns.take_images(np.array(chosen, np.int64))) == [named(columns)[i] for i in chosen]


@given(ragged(), st.data())
def test_objects_are_taken(drawn: tuple[list[int], Rows], data: st.DataObject) -> None:
    columns = columns_of(*drawn)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=columns.objects, max_size=columns.objects)), bool)
    left = set(columns.ids[keep].tolist()) | {None}
    expected = [[row for row in rows if row[0] in left and row[2] in left] for rows in named(columns)]
    assert named(columns.take_objects(keep)) == expected
    assert named(columns.take_objects(np.flatnonzero(keep))) == expected


@given(st.lists(ragged(), min_size=1, max_size=3), st.booleans())
def test_readings_are_joined(drawn: list[tuple[list[int], Rows]], one_without: bool) -> None:
    parts = [columns_of(*one, label=k) for k, one in enumerate(drawn)]
    expected = [rows for part in parts for rows in named(part)]
    if one_without:
        parts.insert(1, columns_of([3, 0], [[], []]).replace(tables={}))
        expected[parts[0].images : parts[0].images] = [[], []]
    assert named(Columns.concatenate(parts)) == expected


@given(ragged())
def test_all_objects_are_left_out(drawn: tuple[list[int], Rows]) -> None:
    alone = columns_of(*drawn).without_objects()
    expected = [[r for r in rows if r["subject"] == r["object"] == -1] for rows in drawn[1]]
    assert [alone.tables["relations"].of(i) for i in range(alone.images)] == expected


@given(st.data())
def test_parts_of_time(data: st.DataObject) -> None:
    moment = st.integers(0, 8).map(float)
    event = st.tuples(moment, moment).map(sorted)
    given_events = data.draw(st.lists(st.lists(event, max_size=4), min_size=1, max_size=4))
    rows = [[{"start": s, "end": e, "caption": f"{s}"} for s, e in own] for own in given_events]
    table = Table.from_rows(rows, times=("start", "end"), columns=("start", "end", "caption"))
    parts = [sorted(data.draw(st.tuples(moment, moment))) for _ in rows]
    cut = table.clipped(np.array([a for a, _ in parts]), np.array([b for _, b in parts]))
    for i, (own, (a, b)) in enumerate(zip(given_events, parts, strict=True)):
        overlapping = [(s, e) for s, e in own if (s < b and e > a) or s == e == a]
        assert cut.of(i) == [{"start": max(s, a) - a, "end": min(e, b) - a, "caption": f"{s}"} for s, e in overlapping]


class TestDatasets:
    ROWS: Rows = [
        [{"subject": 0, "predicate": "on", "object": 1}, {"subject": 2, "predicate": "left of", "object": 0}],
        [],
        [{"subject": 1, "predicate": "behind", "object": -1}, {"subject": 0, "predicate": "on", "object": 1}],
    ]

    def data(self) -> Dataset:
        return dataset_of([3, 0, 2], self.ROWS)

    def test_rows_of_an_image(self) -> None:
        data = self.data()
        assert [data.table("relations", i) for i in range(3)] == self.ROWS
        assert data[[2, 0]].table("relations", 0) == self.ROWS[2]
        assert data[1:].columns.tables["relations"].of(1) == self.ROWS[2]
        with pytest.raises(InputError, match="no table 'events'; it has relations"):
            data.table("events", 0)

    def test_classes_are_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "sightline"):
            rest = self.data().with_class_mapping({"b": None})  # objects 1 of both images
        assert rest.table("relations", 0) == [{"subject": 1, "predicate": "left of", "object": 0}]
        assert rest.table("relations", 2) == []
        assert "3 rows of relations removed: an object that they refer to was removed" in caplog.text

    def test_nothing_is_said_where_no_row_is_lost(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "sightline"):
            renamed = self.data().with_class_mapping({"b": "c"})
            small = self.data()[[1]].filter(min_area=2)
        assert [renamed.table("relations", i) for i in range(3)] == self.ROWS
        assert len(small) == 1
        assert caplog.text == ""

    def test_small_objects_are_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        rest = self.data().filter(min_area=3)  # areas are 2, 4, 6
        assert rest.table("relations", 0) == []
        assert rest.table("relations", 2) == [{"subject": 0, "predicate": "behind", "object": -1}]
        assert "3 rows of relations" in caplog.text

    def test_sums_and_splits(self) -> None:
        first, second = self.data(), self.data().with_class_mapping({"a": "x"})
        whole = first + second
        assert [whole.table("relations", i) for i in range(6)] == self.ROWS * 2
        shares = whole.split(0.5, 0.5, 0)
        names = [whole.name(i) for i in range(6)]
        for i in range(6):
            assert shares.table("relations", i) == whole.table("relations", names.index(shares.name(i)))

    def test_repaired(self, tmp_path: Path) -> None:
        data = self.data()
        boxes = data.columns.boxes.copy()
        boxes[1] = boxes[1, [0, 1, 0, 1]]  # without area
        summary = fix(data.with_columns(data.columns.replace(boxes=boxes)), tmp_path / "fixed", progress=False)
        assert dict(summary.rows) == {"relations": 1}
        assert "1 of the relations removed (an object they refer to was removed)" in str(summary)
        fixed = sl.open_dataset(tmp_path / "fixed")
        assert fixed.table("relations", 0) == [{"subject": 1, "predicate": "left of", "object": 0}]

    def test_coco_and_others(self, tmp_path: Path) -> None:
        rows = [self.ROWS[0], [], self.ROWS[2][1:]]
        done = convert(self.data(), tmp_path / "coco", "coco")
        assert done.lost == {"relations": 1}  # the one of a single object
        again = sl.open_dataset(tmp_path / "coco")
        assert [again.table("relations", i) for i in range(3)] == rows
        assert again.image_extra(0) == {}
        assert convert(again, tmp_path / "voc", "voc").lost["relations"] == 3
        assert "cannot store 3 relations" in str(convert(again, tmp_path / "v", "voc"))


class TestCoco:
    def test_scenes_in_a_folder_are_those_in_memory(self, tmp_path: Path) -> None:
        folder = write_scenes(tmp_path / "scenes", 3, 2, 0, size=48, seed=4, progress=False)
        data = sl.open_dataset(folder)
        text = json.loads((folder / "annotations" / "instances_val.json").read_text(encoding="utf-8"))
        val = data["val"]
        for i, entry in enumerate(text["images"]):
            ids = val[[i]].columns.ids.tolist()
            found = [[ids[r["subject"]], r["predicate"], ids[r["object"]]] for r in val.table("relations", i)]
            assert found == entry["relations"]
        assert val.columns.tables["relations"].rows > 0
        assert "relations" not in val.image_extra(0)

    @pytest.mark.parametrize("stated", [5, [[1, 2]], [["a", "on", 2]], [[1, 3, 2]], [[1, "on", None]]])
    def test_other_relations_stay_facts_of_the_image(self, tmp_path: Path, stated: Any) -> None:
        data = sl.open_dataset(self.folder(tmp_path, stated))
        assert data.image_extra(0) == {"relations": stated}
        assert data.table("relations", 0) == []

    def test_another_value_among_relations_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"a.png has the relation \[7\], but it must be \[subject, predicate, object"
        ):
            sl.open_dataset(self.folder(tmp_path, [[7, "on", 8], [7]]))

    def test_relations_of_annotations_that_are_not_there(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, [[7, "on", 9], [7, "on", 8]])
        with pytest.raises(InputError, match=r'a.png has the relation \[7, "on", 9\], but no object 9; correct'):
            sl.open_dataset(folder)
        data = sl.open_dataset(folder, lenient=True)
        assert len(data.malformed) == 1
        assert data.table("relations", 0) == [{"subject": 0, "predicate": "on", "object": 1}]

    def folder(self, root: Path, relations: Any) -> Path:
        from PIL import Image

        (root / "images").mkdir()
        Image.new("RGB", (8, 8)).save(root / "images" / "a.png")
        box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": 0}
        table = {
            "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8, "relations": relations}],
            "annotations": [{"id": 7, **box}, {"id": 8, **box}],
            "categories": [{"id": 1, "name": "thing"}],
        }
        (root / "annotations.json").write_text(json.dumps(table), encoding="utf-8")
        return root


class TestErrors:
    def test_references_beyond_the_objects(self) -> None:
        with pytest.raises(InputError, match="table relations: row 0 has object 3, but its image has 3 objects"):
            dataset_of([1, 3], [[], [{"subject": 0, "predicate": "on", "object": 3}]])
        with pytest.raises(InputError, match="row 0 has subject -2"):
            dataset_of([2], [[{"subject": -2, "predicate": "", "object": 1}]])

    def test_other_images(self) -> None:
        with pytest.raises(InputError, match="table relations has 1 images, but there are 2"):
            dataset_of([1, 3], [[]])

    def test_rows_of_other_columns(self) -> None:
        with pytest.raises(InputError, match="a row has a, but all rows of a table have a, b"):
            Table.from_rows([[{"a": 1, "b": 2}, {"a": 1}]])

    def test_joining_other_references(self) -> None:
        one, other = Table.from_rows([[{"a": 0}]], ("a",)), Table.from_rows([[{"a": 0}]])
        with pytest.raises(InputError, match="tables with references a and to nothing cannot be concatenated"):
            Table.concatenate([one, other], [1, 1])

    def test_columns_that_are_not_there(self) -> None:
        with pytest.raises(InputError, match="no numeric column 'b'; available: a"):
            Table(np.array([0, 1]), {"a": np.zeros(1)}, ("b",))
        with pytest.raises(InputError, match="column a of a table has 2 rows, but its offsets end at 1"):
            Table(np.array([0, 1]), {"a": np.zeros(2)})
        with pytest.raises(InputError, match="must increase from 0"):
            Table(np.array([0, 2, 1]), {})
