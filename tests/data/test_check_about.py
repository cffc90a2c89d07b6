"""Labels about cuboids, meshes or captions that cannot be used are named by `check`."""

from __future__ import annotations

import json

import pytest

import sightline as sl
from sightline.data.check import check
from sightline.data.scenes import write_scenes


def found(folder, **more):
    report = check(sl.open_dataset(folder), progress=False, **more)
    return [(problem.file, problem.value) for problem in report.problems if problem.rule == "label-invalid"], report.ok


@pytest.fixture(params=["cuboids", "meshes"])
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, tmp_path):
    return write_scenes(tmp_path / "data", 2, 1, 0, 32, kind=kind, progress=False)


def test_right_labels_have_none(folder):
    assert found(folder)[0] == []


@pytest.mark.parametrize("kind", ["cuboids"])
def test_a_cuboid_with_a_negative_side(kind, folder):
    file = folder / "annotations" / "instances_train.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    table["annotations"][0]["cuboids"][3] = -1
    file.write_text(json.dumps(table), encoding="utf-8")
    for full in (True, False):
        problems, ok = found(folder, full=full)
        assert [name for name, _ in problems] == ["train/000001.png"]
        assert problems[0][1].startswith("cuboid 0 has the sides -1, ")
        assert not ok


@pytest.mark.parametrize("kind", ["cuboids"])
def test_a_cuboid_is_known_or_unknown_as_a_whole(kind, folder):
    file = folder / "annotations" / "instances_train.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    table["annotations"][0]["cuboids"][8] = float("nan")
    file.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(sl.InputError, match=r"annotation 1's cuboids are .* but must be 9 finite numbers"):
        sl.open_dataset(folder)


@pytest.mark.parametrize("kind", ["meshes"])
def test_an_annotation_without_a_mesh_is_named(kind, folder):
    file = folder / "annotations" / "instances_train.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    del table["annotations"][0]["mesh"]
    file.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(sl.InputError, match=r"train/000001\.png: annotation 1 has no mesh, although others have one"):
        sl.open_dataset(folder).with_fields("meshes").target(0)


def test_a_camera_that_belongs_to_an_image_of_another_size(folder):
    file = folder / "annotations" / "instances_train.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    first, second = (image["camera"]["matrix"] for image in table["images"])
    first[0][2] = 33  # of 32
    second[0][0] = second[1][1] = 0
    file.write_text(json.dumps(table), encoding="utf-8")
    report = check(sl.open_dataset(folder), progress=False)
    problems = [p for p in report.problems if p.rule == "camera-elsewhere"]
    assert [(p.file, p.level) for p in problems] == [("train/000001.png", "warning")]
    assert problems[0].value.startswith("the principal point (33, ")
    [invalid], ok = found(folder)
    assert invalid[0].endswith("000002.png")
    assert "is singular" in invalid[1]
    assert not ok


@pytest.mark.parametrize("kind", ["meshes"])
def test_a_mesh_that_is_not_there(kind, folder):
    gone = next((folder / "meshes" / "train").iterdir())
    gone.unlink()
    problems, ok = found(folder)
    assert len(problems) == 1
    assert gone.name in problems[0][1]
    assert not ok
    assert found(folder, full=False)[0] == []  # meshes are not opened


def values(report, rule):
    return [(p.file, p.value) for p in report.problems if p.rule == rule]


def edited(folder, change):
    """Change the labels of the training images, and check them."""
    file = folder / "annotations" / "instances_train.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    change(table)
    file.write_text(json.dumps(table), encoding="utf-8")
    return check(sl.open_dataset(folder), progress=False)


@pytest.mark.parametrize("kind", ["captions"])
def test_captions_without_words_are_named_and_the_others_counted(kind, folder):
    whole = check(sl.open_dataset(folder), progress=False)
    assert values(whole, "caption-without-words") == []
    objects = sum(sum(row.values()) for row in whole.counts.values())
    assert whole.about.startswith(f"captions: {objects} captions, ")
    assert f"The labels are about captions: {objects} captions, " in str(whole)

    def change(table):
        table["annotations"][0]["caption"] = "?!"

    report = edited(folder, change)
    ((name, value),) = values(report, "caption-without-words")
    assert name == "train/000001.png"
    assert value.startswith("1 of its ")
    assert value.endswith("has a caption without words, '?!'")
    assert report.ok


@pytest.mark.parametrize("kind", ["cuboids"])
def test_images_without_a_camera_and_depth_maps_that_are_gone(kind, folder):
    report = check(sl.open_dataset(folder), progress=False)
    assert not values(report, "camera-unknown") + values(report, "depth-invalid")
    assert report.about.startswith("cuboids: ")
    (folder / "depth" / "train" / "000002.png").unlink()
    report = edited(folder, lambda table: table["images"][0].pop("camera"))
    assert values(report, "camera-unknown") == [("", "1 image of 3, such as train/000001.png")]
    ((name, value),) = values(report, "depth-invalid")
    assert name == "train/000002.png"
    assert value.startswith("its depth map ")
    assert value.endswith("000002.png does not exist")
    assert not report.ok


@pytest.mark.parametrize("kind", ["meshes"])
def test_a_mesh_with_a_hole_is_noted(kind, folder):
    assert values(check(sl.open_dataset(folder), progress=False), "mesh-open") == []
    file = folder / "meshes" / "train" / "000001.obj"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    report = check(sl.open_dataset(folder), progress=False)
    ((name, value),) = values(report, "mesh-open")
    assert name == "train/000001.png"
    assert value.startswith("the surfaces of 1 of its ")
    assert report.ok


@pytest.mark.parametrize("kind", ["relations"])
def test_relations_and_predicates_are_counted(kind, folder):
    data = sl.open_dataset(folder)
    relations = sum(len(data.table("relations", i)) for i in range(len(data)))
    about = check(data, progress=False).about
    assert about == f"relations: {relations} relations, {len(data.predicates)} predicates"


@pytest.mark.parametrize("kind", ["cuboids"])
def test_an_inverted_box_is_one_problem(kind, folder):
    def change(table):
        table["annotations"][0]["bbox"][2] = -5

    assert [p.rule for p in edited(folder, change).problems if p.level == "error"] == ["box-inverted"]
