"""Labels that cannot be read: all are listed, training is refused, and a repaired copy lacks just those."""

from __future__ import annotations

from pathlib import Path

import pytest

import sightline as sl
from sightline.data.check import fix
from sightline.data.formats import open_dataset
from sightline.errors import InputError

from .formats.helpers import coco, coco_image, coco_object, picture, rows, text, voc, write_json


def found(data: sl.Dataset | Path) -> list[tuple[str, str, int | None]]:
    """Rule, file and line of each label that cannot be read."""
    report = sl.check(data, progress=False)
    return [(p.rule, p.file, p.annotation) for p in report.problems if p.rule in ("label-malformed", "unknown-class")]


def yolo(root: Path) -> Path:
    picture(root / "images/a.png")
    picture(root / "images/b.png")
    good = "0 0.5 0.5 0.25 0.5\n"
    text(root / "labels/a.txt", f"{good}0 0.5 x 0.25 0.5\n\n7 0.5 0.5 0.25 0.5\n0 0.5 0.5 0.25\n")
    text(root / "labels/b.txt", f"-1 0.5 0.5 0.25 0.5\n{good}")
    text(root / "classes.txt", "cup\n")
    return root


def test_of_yolo_all_lines_are_listed(tmp_path: Path):
    yolo(tmp_path)
    assert found(tmp_path) == [
        ("label-malformed", "labels/a.txt", 2),
        ("label-malformed", "labels/a.txt", 5),
        ("label-malformed", "labels/b.txt", 1),
        ("unknown-class", "labels/a.txt", 4),
    ]
    report = sl.check(tmp_path, progress=False)
    assert not report.ok
    assert "line 2 is '0 0.5 x 0.25 0.5', but a line must be" in report.of_rule("label-malformed")[0].value


def test_opening_refuses_with_the_first_and_the_count(tmp_path: Path):
    yolo(tmp_path)
    words = r"a\.txt: line 2 is .*; 3 more labels cannot be read: `sightline check .*` lists them all, --fix leaves"
    with pytest.raises(InputError, match=words):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, lenient=True)
    assert len(data.malformed) == 4
    assert [rows(data, i) for i in range(2)] == [[("cup", 24, 12, 40, 36)]] * 2


def test_a_repaired_copy_lacks_just_those_lines(tmp_path: Path):
    data = open_dataset(yolo(tmp_path / "in"), lenient=True)
    summary = fix(data, tmp_path / "out", progress=False)
    assert summary.counts == {"label-malformed": 3, "unknown-class": 1}
    fixed = open_dataset(tmp_path / "out")
    assert [rows(fixed, i) for i in range(2)] == [[("cup", 24, 12, 40, 36)]] * 2
    assert found(fixed) == []


def test_of_yolo_odd_lines_and_damaged_files(tmp_path: Path):
    for name in "abc":
        picture(tmp_path / f"images/{name}.png")
    odd = [
        "0 .5 .5 .2 .2 1.9",
        "99999999999 .1 .1 .1 .1",
        "-1 0 0 0 0",
        "0.5 .5 .5 .5 .5",
        "0 1_0 .5 .5 .5",
        "\x00\x00\x00",
    ]
    text(tmp_path / "labels/a.txt", "\n".join(["0 .5 .5 .25 .5", *odd]))
    (tmp_path / "labels/b.txt").write_bytes(b"\xff\xfe\x00junk")
    text(tmp_path / "labels/c.txt", "0 .5 .5 .25 .5\n")
    text(tmp_path / "classes.txt", "cup\n")
    expected = [("label-malformed", "labels/a.txt", k) for k in (2, 4, 5, 6, 7)]
    expected += [("label-malformed", "labels/b.txt", None), ("unknown-class", "labels/a.txt", 3)]
    assert found(tmp_path) == expected
    data = open_dataset(tmp_path, lenient=True)  # an image whose label cannot be read is none without objects
    assert [data.image_name(i) for i in range(len(data))] == ["a.png", "c.png"]
    assert [rows(data, i) for i in range(2)] == [[("cup", 24, 12, 40, 36)]] * 2


def labelme(root: Path) -> None:
    def rectangle(label: object, points: object) -> dict[str, object]:
        return {"label": label, "points": points, "shape_type": "rectangle"}

    for name, objects in (
        ("a", [rectangle("cup", [[1, 2], [3, 4]]), rectangle("", [[1, 2], [3, 4]]), rectangle("cup", "x")]),
        ("b", [rectangle("cup", [[1, "y"], [3, 4]])]),
    ):
        picture(root / f"{name}.png")
        content = {"imagePath": f"{name}.png", "imageHeight": 48, "imageWidth": 64, "shapes": objects}
        write_json(root / f"{name}.json", content)
    picture(root / "c.png")
    text(root / "c.json", '{"imagePath": "c.png", "shapes": [')


def voc_xml(root: Path) -> None:
    for name, boxes in (("a", ["1", "x", "nothing"]), ("b", ["y"])):
        picture(root / f"{name}.png")
        voc(root / f"{name}.xml", f"{name}.png", [("cup", box, 2, 3, 4) for box in boxes])  # type: ignore[misc]
    (root / "b.xml").write_text((root / "b.xml").read_text().replace("<name>cup</name>", ""))
    picture(root / "c.png")
    text(root / "c.xml", "<annotation><size><width>1")


def cvat(root: Path) -> None:
    def box(label: str, x: object) -> str:
        return f'<box label="{label}" xtl="{x}" ytl="2" xbr="3" ybr="4"/>'

    for name in "ab":
        picture(root / f"images/{name}.png")
    text(
        root / "annotations.xml",
        "<annotations><meta><task><labels><label><name>cup</name></label></labels></task></meta>"
        f'<image name="a.png" width="64" height="48">{box("cup", 1)}{box("", 1)}{box("cat", 1)}{box("cup", "x")}'
        "</image>"
        f'<image name="b.png" width="64" height="48">{box("cup", "y")}</image></annotations>',
    )


def via(root: Path) -> None:
    def region(label: object, x: object) -> dict[str, object]:
        shape = {"name": "rect", "x": x, "y": 2, "width": 2, "height": 2}
        return {"shape_attributes": shape, "region_attributes": {"class": label}}

    for name in "ab":
        picture(root / f"{name}.png")
    entries = {
        "a": {"filename": "a.png", "regions": [region("cup", 1), region("", 1), region("cup", "x")]},
        "b": {"filename": "b.png", "regions": [region("cup", None), {"shape_attributes": 3}]},
    }
    write_json(root / "via.json", entries)


def via_csv(root: Path) -> None:
    head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    good = '"{""name"":""rect"",""x"":1,""y"":2,""width"":2,""height"":2}"'
    named = '"{""class"":""cup""}"'
    rows = [f"a.png,1,{{}},3,0,{good},{named}", f"a.png,1,{{}},3,1,{{oops,{named}", f"b.png,1,{{}},1,0,{good},"]
    for name in "ab":
        picture(root / f"{name}.png")
    text(root / "via.csv", "\n".join([head, *rows]) + "\n")


def coco_json(root: Path) -> None:
    for name in "ab":
        picture(root / f"{name}.png")
    objects = [coco_object(k, 1, 1, [1, 2, 2, 2]) for k in range(1, 6)]
    objects[1]["bbox"] = [1, "x", 2, 2]
    objects[2]["category_id"] = 9
    del objects[3]["category_id"]
    objects[4]["image_id"] = "no such"
    objects += [coco_object(6, 2, 1, [1, 2, 2])]
    write_json(root / "x.json", coco([coco_image(1, "a.png"), coco_image(2, "b.png")], objects, {1: "cup"}))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (labelme, [("label-malformed", "a.json")] * 2 + [("label-malformed", f"{n}.json") for n in "bc"]),
        (voc_xml, [("label-malformed", "a.xml")] * 2 + [("label-malformed", f"{n}.xml") for n in "bc"]),
        (cvat, [("label-malformed", "annotations.xml")] * 3 + [("unknown-class", "annotations.xml")]),
        (via, [("label-malformed", "via.json")] * 4),
        (via_csv, [("label-malformed", "via.csv")] * 2),
        (coco_json, [("label-malformed", "x.json")] * 3 + [("unknown-class", "x.json")]),
    ],
)
def test_of_every_format_all_are_listed_and_left_out(tmp_path: Path, make, expected: list[tuple[str, str]]):
    make(tmp_path / "in")
    assert sorted(one[:2] for one in found(tmp_path / "in")) == sorted(expected)
    with pytest.raises(InputError, match=f"{len(expected) - 1} more label"):
        open_dataset(tmp_path / "in")
    data = open_dataset(tmp_path / "in", lenient=True)
    summary = fix(data, tmp_path / "out", progress=False)
    assert sum(summary.counts[rule] for rule in ("label-malformed", "unknown-class") if rule in summary.counts) == len(
        expected
    )
    fixed = open_dataset(tmp_path / "out")
    assert {fixed.image_name(i): rows(fixed, i) for i in range(len(fixed))} == {
        "a.png": [("cup", 1, 2, 3, 4)],
        "b.png": [],
    }
