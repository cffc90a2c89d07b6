"""Visual Genome's region descriptions: the published layout, written by the tests in small, and broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sightline as sl
from sightline.errors import InputError

CLOCK = {
    "region_id": 1382,
    "width": 30,
    "height": 20,
    "image_id": 1,
    "phrase": " the clock\n is green ",
    "y": 5,
    "x": 4,
}
ENTRIES = [
    {"regions": [CLOCK, {**CLOCK, "region_id": 7, "x": 10, "phrase": "A shade tree."}], "id": 1},
    {"regions": [{**CLOCK, "image_id": 2, "phrase": ""}], "id": 2},
    {"regions": [], "id": 3},
    {"regions": [CLOCK], "id": 99},
]


def written(folder: Path, content: Any, place: str = "", name: str = "region_descriptions.json") -> Path:
    """The file, and images of 40×30 pixels in the two folders of the dataset; of the last entry there is none."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / place / name).write_text(text, encoding="utf-8")
    for id, parent in ((1, "VG_100K"), (2, "VG_100K_2"), (3, "VG_100K_2")):
        (folder / parent).mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (id, 0, 0)).save(folder / parent / f"{id}.png")
    return folder


@pytest.mark.parametrize("place", ["", "annotations"])
def test_the_published_layout(tmp_path, place):
    data = sl.open_dataset(written(tmp_path, ENTRIES, place))
    assert (data.format, data.kind, data.about, tuple(data.classes)) == (
        "visual-genome", "instances", "captions", ("region",)
    )  # fmt: skip
    assert data.splits == ("all",)
    assert [data.name(i) for i in range(3)] == ["VG_100K/1.png", "VG_100K_2/2.png", "VG_100K_2/3.png"]
    image, target = data.with_fields("captions")[0]
    assert tuple(image.shape) == (3, 30, 40)
    assert target.boxes.tolist() == [[4, 5, 34, 25], [10, 5, 40, 25]]
    assert target.captions == ["the clock is green", "A shade tree."]
    assert len(data[2][1]) == 0
    assert data.orphans == (f"{place}/region_descriptions.json: image 99".lstrip("/"),)
    assert any("1 image of the regions left out, because there is no file" in note for note in data.notes)


def test_sizes_and_splits_are_read_if_they_are_there(tmp_path):
    written(tmp_path, ENTRIES)
    written(tmp_path, [{"image_id": 1, "width": 41, "height": 31, "url": "…"}], name="image_data.json")
    written(tmp_path, {"train": [2], "val": [1], "test": []}, name="densecap_splits.json")
    data = sl.open_dataset(tmp_path)
    assert data.splits == ("train", "val")
    assert [data["train"].name(0), data["val"].name(0)] == ["VG_100K_2/2.png", "VG_100K/1.png"]
    assert data.columns.widths.tolist() == [40, 41]
    assert len(data) == 2  # image 3 is in no split


def test_one_file_and_files_of_splits(tmp_path):
    written(tmp_path, ENTRIES[:1], name="a.json")
    written(tmp_path, ENTRIES[1:2], name="b.json")
    assert len(sl.open_dataset(tmp_path / "a.json")) == 1
    data = sl.open_dataset(tmp_path / "a.json", train="a.json", val=tmp_path / "b.json", classes=["thing"])
    assert (data.splits, tuple(data.classes), len(data)) == (("train", "val"), ("thing",), 2)
    elsewhere = sl.open_dataset(tmp_path / "a.json", images=tmp_path / "VG_100K")
    assert elsewhere.name(0) == "VG_100K/1.png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            [{"regions": [{**CLOCK, "x": "4"}], "id": 1}],
            r"json: the entry 'x' of image 1, region 1382 is '4' \(a str",
        ),
        ([{"regions": [{"phrase": "a"}], "id": 1}], r"image 1, region 0 lacks the entry 'x'; correct or remove it"),
        ([{"regions": {}, "phrase": 1, "id": 1}], r"the entry 'regions' of .*json: entry 0 is \{\} \(an object\)"),
        (
            [{"regions": [CLOCK], "id": 1}, {"regions": [CLOCK], "id": 1}],
            "entry 1 has the image id 1 of entry 0, but each image has one entry; correct the id, or join the two",
        ),
        ([{"regions": [CLOCK]}], r'entry 0 has no whole number as "id" of its image'),
        ('[{"regions": [], "phrase": 1,\n "id": 1}, {"id": ]', r"is not valid JSON: .* at line 2, column \d+"),
        ('[{"regions": [], "phrase": 1, "id": 1}', "is not valid JSON: it ends too early"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        sl.open_dataset(written(tmp_path, content), format="visual-genome")


def test_broken_regions_can_be_left_out(tmp_path):
    content = [{"regions": [{**CLOCK, "phrase": 3}, CLOCK], "id": 1}, {"id": 2}]
    data = sl.open_dataset(written(tmp_path, content), lenient=True)
    assert len(data.malformed) == 2
    assert data.columns.objects == 1


def test_bad_arguments(tmp_path):
    written(tmp_path, ENTRIES)
    with pytest.raises(InputError, match=r"have no classes, so all have one; give one name, not \['a', 'b'\]"):
        sl.open_dataset(tmp_path, classes=["a", "b"])
    with pytest.raises(InputError, match=r"has no region_descriptions\.json; give the path"):
        sl.open_dataset(tmp_path / "VG_100K", format="visual-genome")
    only = tmp_path / "only"
    only.mkdir()
    (only / "region_descriptions.json").write_text(json.dumps(ENTRIES))
    with pytest.raises(InputError, match=r"contains 4 labels but none of their images: .*: image 1 has none"):
        sl.open_dataset(only)
    written(tmp_path, {"train": ["1"]}, name="densecap_splits.json")
    with pytest.raises(InputError, match=r"the entry 'train\[0\]' of .*densecap_splits\.json is '1' \(a string\)"):
        sl.open_dataset(tmp_path)
