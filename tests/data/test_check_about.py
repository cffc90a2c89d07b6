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
