"""Hugging Face: metadata beside images, and Parquet files that hold them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.data.formats import open_dataset
from sightline.errors import InputError

from .helpers import everything, picture, rows, text


def lines(path: Path, *entries: dict[str, Any]) -> None:
    text(path, "".join(json.dumps(entry) + "\n" for entry in entries))


def test_metadata_with_lists_of_boxes(tmp_path: Path):
    for name in ("train/0001.png", "train/deep/2.png", "validation/3.png", "train/unlisted.png"):
        picture(tmp_path / name)
    objects = {"bbox": [[30, 10, 20, 8], [0, 0, 5.5, 4]], "categories": [1, 0], "iscrowd": [0, 1]}
    lines(tmp_path / "train/metadata.jsonl",
          {"file_name": "0001.png", "objects": objects, "text": "two things"},
          {"file_name": "deep/2.png", "objects": {"bbox": [], "categories": []}})  # fmt: skip
    lines(tmp_path / "validation/metadata.jsonl",
          {"file_name": "3.png", "objects": [{"bbox": [1, 2, 3, 4], "category": 2}]})  # fmt: skip
    data = open_dataset(tmp_path)
    assert data.format == "huggingface"
    assert everything(data) == {
        ("train", "0001.png"): [("1", 30, 10, 50, 18), ("0", 0, 0, 5.5, 4)],
        ("train", "deep/2.png"): [],
        ("val", "3.png"): [("2", 1, 2, 4, 6)],
    }
    assert data.columns.crowd.tolist() == [False, True, False]
    assert data.captions(0) == ["two things"]
    assert any("train/unlisted.png" in note for note in data.notes)
    named = open_dataset(tmp_path, classes=["cat", "dog", "fox"])
    assert rows(named, 0)[0][0] == "dog"
    with pytest.raises(InputError, match="class id 2, which is not among the classes"):
        open_dataset(tmp_path, classes=["cat", "dog"])


def test_names_of_categories_and_csv(tmp_path: Path):
    picture(tmp_path / "a.png")
    cell = json.dumps({"bbox": [[1, 2, 3, 4]], "category": ["dog"]}).replace('"', '""')
    text(tmp_path / "metadata.csv", f'file_name,objects\na.png,"{cell}"\n')
    assert everything(open_dataset(tmp_path)) == {("all", "a.png"): [("dog", 1, 2, 4, 6)]}


def test_parquet_holds_its_images(tmp_path: Path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for split, value in (("train", 40), ("test", 90)):
        content = io.BytesIO()
        Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(content, "PNG")
        table = arrow.table({
            "image": [{"bytes": content.getvalue(), "path": "my.png"}, {"bytes": content.getvalue(), "path": None}],
            "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [1]}, {"bbox": [], "category": []}],
        })  # fmt: skip
        names = {"category": {"feature": {"names": ["ant", "bee"], "_type": "ClassLabel"}, "_type": "Sequence"}}
        info = json.dumps({"info": {"features": {"objects": names}}})
        path = tmp_path / "data" / f"{split}-00000-of-00001-abc.parquet"
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(table.replace_schema_metadata({"huggingface": info}), path)
    data = open_dataset(tmp_path)
    assert everything(data) == {
        (split, name): drawn
        for split in ("train", "test")
        for name, drawn in (("000000_my.png", [("bee", 1, 2, 4, 6)]), ("000001_image.png", []))
    }
    assert tuple(data.classes) == ("ant", "bee")
    assert [int(data.image(i)[0, 0, 0]) for i in range(4)] == [40, 40, 90, 90]


def test_parquet_that_is_none(tmp_path: Path):
    pytest.importorskip("pyarrow")
    (tmp_path / "train.parquet").write_bytes(b"PAR1" + b"x" * 50)
    with pytest.raises(InputError, match=r"train\.parquet cannot be read as Parquet"):
        open_dataset(tmp_path)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("sightline.runtime.optional.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs pyarrow, which is not installed: pip install 'sightline\[parquet\]'"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        ({"bbox": [[1, 2, 3]], "category": [0]}, r"row 1: object 0 has the bbox \[1, 2, 3\], but a box is"),
        ({"bbox": [[1, 2, 3, 4]], "category": [0, 1]}, "objects of different lengths"),
        ({"bbox": [[1, 2, 3, 4]]}, "object 0 has no category"),
        ("boxes", "neither a dict of lists nor a list"),
    ],
)
def test_mistakes(tmp_path: Path, objects: Any, sentence: str):
    picture(tmp_path / "a.png")
    lines(tmp_path / "metadata.jsonl", {"file_name": "a.png", "objects": objects})
    with pytest.raises(InputError, match=sentence):
        open_dataset(tmp_path)
