"""Scene graphs of Visual Genome and Open Images, in small files of their layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.data.formats import visual_genome_graphs
from sightline.errors import InputError
from tests.data.formats.helpers import picture, text, write_json

Sentence = tuple[str, str, str]


def sentences(data: Any, i: int) -> list[Sentence]:
    names = [data.classes[k] for k in data.target(i).labels.tolist()]
    return [(names[r["subject"]], r["predicate"], names[r["object"]]) for r in data.table("relations", i)]


def box(id: int, name: str, x: int = 1, y: int = 2, w: int = 10, h: int = 20, **more: Any) -> dict[str, Any]:
    return {"object_id": id, "names": [name], "x": x, "y": y, "w": w, "h": h, "synsets": [], **more}


def relation(id: int, predicate: str, subject: int, other: int) -> dict[str, Any]:
    own = {"relationship_id": id, "predicate": predicate, "synsets": []}
    return {**own, "subject_id": subject, "object_id": other}


FIRST = {
    "image_id": 1,
    "objects": [box(11, "Man "), box(12, "hat", 3, 2, 4, 5), box(13, "dog", 20, 10)],
    "relationships": [relation(1, "WEARS", 11, 12), relation(2, "next to", 13, 11), relation(3, "near ", 13, 11)],
}
SECOND = {"image_id": 2, "objects": [box(21, "man")], "relationships": []}
SIZES = [{"image_id": 1, "width": 64, "height": 48}, {"image_id": 2, "width": 40, "height": 30}]


def genome(root: Path, content: Any, name: str = "scene_graphs.json", **others: Any) -> Path:
    picture(root / "VG_100K" / "1.jpg")
    picture(root / "VG_100K_2" / "2.jpg", (30, 40))
    for other, values in others.items():
        write_json(root / f"{other}.json", values)
    write_json(root / name, content)
    return root


class TestVisualGenome:
    def test_ids_that_occur_twice_are_named(self, tmp_path: Path) -> None:
        twice = FIRST | {"objects": [*FIRST["objects"], box(12, "cat")]}
        with pytest.raises(InputError, match="object 3 has the object_id 12 of another object of this image, 'h"):
            sl.open_dataset(genome(tmp_path, [twice]))
        with pytest.raises(InputError, match="entry 1 has the image_id 1 of entry 0, but each image has one entry"):
            sl.open_dataset(genome(tmp_path, [FIRST, SECOND | {"image_id": 1}]))

    def test_scene_graphs(self, tmp_path: Path) -> None:
        data = sl.open_dataset(genome(tmp_path, [FIRST, SECOND], image_data=SIZES))
        assert (data.format, data.about) == ("visual-genome-graphs", "relations")
        assert list(data.classes) == ["dog", "hat", "man"]
        assert [data.name(i) for i in range(2)] == ["VG_100K/1.jpg", "VG_100K_2/2.jpg"]
        assert sentences(data, 0) == [("man", "wears", "hat"), ("dog", "next to", "man"), ("dog", "near", "man")]
        assert sentences(data, 1) == []
        assert data.target(0).boxes.tolist()[1] == [3, 2, 7, 7]
        assert data.source.columns.ids.tolist() == [11, 12, 13, 21]
        assert data.predicates == ("near", "next to", "wears")
        target = data.with_fields("keys", "relations").target(0)
        assert [len(own) for own in target.relations] == [1, 0, 2]

    def test_relations_of_an_object_with_itself_are_left_out(self, tmp_path: Path) -> None:
        loop = {**FIRST, "relationships": [relation(1, "near", 11, 11), relation(2, "wears", 11, 12)]}
        data = sl.open_dataset(genome(tmp_path, [loop, SECOND], image_data=SIZES))
        assert sentences(data, 0) == [("man", "wears", "hat")]
        assert "1 relation of an object with itself left out" in data.notes

    def test_relationships_with_and_without_objects(self, tmp_path: Path) -> None:
        named = {"object_id": 12, "name": "hat", "x": 3, "y": 2, "w": 4, "h": 5}
        own = {"predicate": "wears", "subject": box(11, "man"), "object": named, "relationship_id": 1}
        content = [{"image_id": 1, "relationships": [own]}, {"image_id": 2, "relationships": []}]
        data = sl.open_dataset(genome(tmp_path / "a", content, "relationships.json"))
        assert sentences(data, 0) == [("man", "wears", "hat")]
        assert data.image_size(1) == (30, 40)
        objects = [{"image_id": 1, "objects": [box(13, "dog"), box(11, "man")]}, {"image_id": 2, "objects": []}]
        more = sl.open_dataset(genome(tmp_path / "b", content, "relationships.json", objects=objects))
        assert sentences(more, 0) == [("man", "wears", "hat")]
        assert sorted(more.classes) == ["dog", "hat", "man"]
        assert len(more.target(0)) == 3

    def test_given_classes(self, tmp_path: Path) -> None:
        folder = genome(tmp_path, [FIRST, SECOND])
        data = sl.open_dataset(folder / "scene_graphs.json", classes=["man", "dog"])
        assert sentences(data, 0) == [("dog", "next to", "man"), ("dog", "near", "man")]
        assert list(data.classes) == ["man", "dog"]

    def test_the_most_frequent_are_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(visual_genome_graphs, "_CLASSES", 2)
        monkeypatch.setattr(visual_genome_graphs, "_PREDICATES", 1)
        again = {**SECOND, "objects": [box(21, "dog"), box(22, "man")], "relationships": [relation(4, "near", 21, 22)]}
        data = sl.open_dataset(genome(tmp_path, [FIRST, again]))
        assert sorted(data.classes) == ["dog", "man"]
        assert sentences(data, 0) + sentences(data, 1) == [("dog", "near", "man")] * 2
        assert "of 3 classes the 2 most frequent are read, without 1 object of others; name those" in data.notes[0]
        assert data.notes[1] == "of 3 predicates the 1 most frequent are read, without 2 relations of others"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                {"relationships": [relation(1, "on", 11, 99)]},
                "image 1: relationship 0 is of object 99, which is not among the image's objects",
            ),
            ({"relationships": [{"subject_id": 11, "object_id": 12}]}, 'relationship 0 has no "predicate"'),
            ({"relationships": [{"predicate": "on", "subject_id": 11}]}, 'has no "subject_id" and "object_id"'),
            ({"relationships": [relation(1, " ", 11, 12)]}, "relationship 0 has no predicate; write one"),
            ({"objects": [box(11, "")], "relationships": []}, 'image 1: object 0 has no "names"'),
            ({"objects": [{"object_id": 3, "names": ["a"]}], "relationships": []}, 'has no box with "x", "y"'),
            ({"objects": [{"names": ["a"]}], "relationships": []}, 'object 0 has no "object_id"'),
            ({"objects": [box(11, "man", x="left")], "relationships": []}, "must be numbers"),  # type: ignore[arg-type]
        ],
    )
    def test_a_broken_entry_is_named(self, tmp_path: Path, change: dict[str, Any], words: str) -> None:
        folder = genome(tmp_path, [{**FIRST, **change}, SECOND])
        with pytest.raises(InputError) as error:
            sl.open_dataset(folder)
        assert str(error.value).startswith(str(folder / "scene_graphs.json"))
        assert words in str(error.value)
        assert len(sl.open_dataset(folder, lenient=True).malformed) == 1

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        for number, (content, words) in enumerate(
            [
                ([{"objects": [], "relationships": []}], 'entry 0 has no "image_id"'),
                ([{"image_id": 1, "objects": [], "relationships": None}], 'image 1 has no list "relationships"'),
            ]
        ):
            with pytest.raises(InputError, match=words):
                sl.open_dataset(genome(tmp_path / str(number), content))
        sizes = [{"image_id": 1, "width": 64, "height": -1}]
        with pytest.raises(InputError, match=r"image_data\.json: image 1 has the size 64 × -1"):
            sl.open_dataset(genome(tmp_path / "sizes", [FIRST], image_data=sizes))


HEAD = "ImageID,LabelName1,LabelName2,XMin1,XMax1,YMin1,YMax1,XMin2,XMax2,YMin2,YMax2,RelationshipLabel\n"
ROWS = (
    "aa,/m/01,/m/02,0.1,0.3,0.2,0.4,0.5,0.9,0.25,0.75,on\n"
    "aa,/m/01,/m/02,0.1,0.3,0.2,0.4,0.5,0.9,0.25,0.75,inside_of\n"
    "aa,/m/02,/m/09,0.5,0.9,0.25,0.75,0.5,0.9,0.25,0.75,is\n"
    "bb,/m/01,/m/01,0,0.5,0,0.5,0.5,1,0.5,1,at\n"
)


def open_images(root: Path, rows: str = ROWS, head: str = HEAD, name: str = "oidv6-validation-annotations-vrd") -> Path:
    picture(root / "images" / "aa.jpg", (40, 100))
    picture(root / "images" / "bb.jpg", (40, 100))
    text(root / "class-descriptions-boxable.csv", "/m/01,Cup\n/m/02,Table\n")
    text(root / f"{name}.csv", head + rows)
    return root


class TestOpenImages:
    def test_relationships(self, tmp_path: Path) -> None:
        data = sl.open_dataset(open_images(tmp_path))
        assert (data.format, data.about, data.splits) == ("open-images-relations", "relations", ("val",))
        assert sentences(data, 0) == [("Cup", "on", "Table"), ("Cup", "inside_of", "Table")]
        assert sentences(data, 1) == [("Cup", "at", "Cup")]
        assert data.target(0).boxes.tolist() == [
            pytest.approx([10, 8, 30, 16]),
            pytest.approx([50, 10, 90, 30]),
        ]
        assert "1 attribute of single objects left out" in data.notes

    def test_the_layout_of_the_challenge(self, tmp_path: Path) -> None:
        head = HEAD.replace("RelationshipLabel", "RelationLabel")
        folder = open_images(tmp_path, head=head, name="challenge-2019-train-vrd")
        (folder / "class-descriptions-boxable.csv").rename(folder / "challenge-2019-classes-description-500.csv")
        data = sl.open_dataset(folder)
        assert data.splits == ("train",)
        assert list(data.classes) == ["Cup", "Table"]
        assert len(sentences(data, 0)) == 2

    @pytest.mark.parametrize(
        ("row", "words"),
        [
            ("aa,/m/01,/m/02,0.1,0.3,0.2,0.4,0.5,0.9,0.25,0.75\n", "row 6 has 11 fields, but there are 12 columns"),
            ("aa,/m/01,/m/02,0.1,0.3,0.2,0.4,0.5,0.9,0.25,75,on\n", "row 6 has the box [0.5, 0.25, 0.9, 75.0], but"),
            (
                "aa,/m/01,/m/02,0.1,0.3,x,0.4,0.5,0.9,0.25,0.75,on\n",
                "row 6 has the coordinates ['0.1', 'x', '0.3'",
            ),
            ("aa,,/m/02,0.1,0.3,0.2,0.4,0.5,0.9,0.25,0.75,on\n", "row 6 has no LabelName1"),
            (",/m/01,/m/02,0.1,0.3,0.2,0.4,0.5,0.9,0.25,0.75,on\n", "row 6 has no ImageID"),
            ("aa,/m/01,/m/02,0.1,0.3,0.2,0.4,0.5,0.9,0.25,0.75,\n", "row 6 has no predicate"),
        ],
    )
    def test_a_broken_row_is_named(self, tmp_path: Path, row: str, words: str) -> None:
        folder = open_images(tmp_path, ROWS + row)
        with pytest.raises(InputError) as error:
            sl.open_dataset(folder)
        assert str(error.value).startswith(str(folder / "oidv6-validation-annotations-vrd.csv"))
        assert words in str(error.value)
        data = sl.open_dataset(folder, lenient=True)
        assert [bad.line for bad in data.malformed] == [6]
        assert len(sentences(data, 0)) == 2

    def test_without_a_column_of_relations(self, tmp_path: Path) -> None:
        folder = open_images(tmp_path, head=HEAD.replace("RelationshipLabel", "Word"))
        with pytest.raises(InputError, match="has no column RelationshipLabel or RelationLabel"):
            sl.open_dataset(folder)
