"""Labelling images: the file, the server on this machine, and what training reads."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightline as sl
from sightline.labelling.label_file import LabelFile, Shape
from sightline.labelling.server import LabellingServer
from sightline.verbs.annotate import labelling_server

BOX = {"label": "cat", "box": [2, 3, 12, 9]}
TRIANGLE = {"label": "dog", "outline": [[0, 0], [10, 0], [0, 10]]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "more/c.tif"):
        pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def server(folder: Path) -> Iterator[LabellingServer]:
    own = labelling_server(folder, classes=["cat"])
    thread = threading.Thread(target=own.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield own
    own.shutdown()
    own.server_close()
    thread.join()


def ask(server: LabellingServer, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    known = {"Content-Type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
    request = urllib.request.Request(server.url + path, data, known, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            content = answer.read()
            return answer.status, json.loads(content) if answer.headers[
                "Content-Type"
            ] == "application/json" else content
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["detail"]


def test_labels_drawn_on_the_page_are_read_for_training(server: LabellingServer, folder: Path) -> None:
    status, about = ask(server, "overview")
    assert (status, about["classes"], about["suggests"]) == (200, ["cat"], False)
    assert [image["name"] for image in about["images"]] == ["a.png", "b.jpg", "more/c.tif"]
    status, stored = ask(server, "shapes/0", "PUT", {"shapes": [BOX, TRIANGLE], "labelled": True})
    assert status == 200
    assert [shape["id"] for shape in stored["shapes"]] == [1, 2]
    assert stored["classes"] == ["cat", "dog"]
    assert ask(server, "shapes/2", "PUT", {"shapes": [], "labelled": True})[0] == 200

    data: Any = sl.open_dataset(folder)
    assert list(data.classes) == ["cat", "dog"]
    names = [Path(data.target(i).source).name for i in range(len(data))]
    assert names == ["a.png", "c.tif"]  # the other has not been labelled yet
    assert data.target(0).boxes.tolist() == [[2, 3, 12, 9], [0, 0, 10, 10]]
    assert len(data.target(1)) == 0
    masks = data.with_fields("masks").target(0).masks
    assert int(masks[1].sum()) == pytest.approx(50, abs=6)  # the triangle is half of its box


def test_the_page_and_the_images(server: LabellingServer, folder: Path) -> None:
    assert b"<canvas" in ask(server, "")[1]
    assert ask(server, "image/1") == (200, (folder / "b.jpg").read_bytes())
    status, picture = ask(server, "image/2")  # browsers do not show TIFF
    assert (status, picture[:4]) == (200, b"\x89PNG")
    turned = Image.open(folder / "b.jpg")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "b.jpg", exif=exif)
    assert ask(server, "shapes/1")[1] == {"labelled": False, "width": 20, "height": 30, "shapes": []}
    assert ask(server, "image/1")[1][:4] == b"\x89PNG"  # upright


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "words"),
    [
        ("nothing", "GET", None, 404, "there is nothing at /nothing"),
        ("image/3", "GET", None, 404, "there is no image 3; there are 3"),
        ("suggest/0", "GET", None, 422, "there is no model"),
        ("image/0", "PUT", {}, 404, "cannot be changed"),
        ("shapes/0", "PUT", {"shapes": 5, "labelled": True}, 422, "shapes, a list"),
        ("shapes/0", "PUT", {"shapes": [{"box": [0, 0, 1, 1]}], "labelled": True}, 422, "has no label"),
        ("shapes/0", "PUT", {"shapes": [BOX | {"box": [1, 2, 3]}], "labelled": True}, 422, "4 numbers"),
        ("shapes/0", "PUT", {"shapes": [BOX | {"box": [1, 2, 3, True]}], "labelled": True}, 422, "finite numbers"),
        ("shapes/0", "PUT", {"shapes": [BOX | {"box": [40, 2, 50, 9]}], "labelled": True}, 422, "no area inside"),
        ("shapes/0", "PUT", {"shapes": [TRIANGLE | {"outline": [[1, 1]]}], "labelled": True}, 422, "3 points or more"),
        ("shapes/0", "PUT", {"shapes": [BOX | {"id": [1]}], "labelled": True}, 422, "the id of a cat"),
        ("classes", "POST", {"name": "cat"}, 422, "already a class 'cat'"),
        ("classes", "POST", {"name": " "}, 422, "is empty"),
        ("classes", "POST", [], 422, "not a JSON object"),
    ],
)
def test_wrong_requests_change_nothing(
    server: LabellingServer, folder: Path, path: str, method: str, body: Any, status: int, words: str
) -> None:
    found, detail = ask(server, path, method, body)
    assert (found, words in detail) == (status, True), detail
    assert not (folder / "annotations.json").exists()


def test_pages_of_other_sites_can_neither_read_nor_change(server: LabellingServer) -> None:
    assert "answers requests to" in ask(server, "overview", Host="evil.example:80")[1]
    body = {"shapes": [BOX], "labelled": True}
    assert "must be JSON" in ask(server, "shapes/0", "PUT", body, Content_Type="text/plain")[1]
    assert ask(server, "shapes/0")[1]["shapes"] == []


def test_an_existing_file_is_continued(folder: Path) -> None:
    kept = {"id": "k", "image_id": 7, "category_id": 5, "bbox": [1, 1, 5, 5], "keypoints": [1, 1, 2], "track": 3}
    box = {"id": 4, "image_id": 7, "category_id": 5, "bbox": [2, 2, 6, 6], "score": 0.5}
    elsewhere = {"id": 5, "image_id": 8, "category_id": 5, "bbox": [0, 0, 1, 1]}
    content = {
        "info": {"by": "me"},
        "images": [
            {"id": 7, "file_name": "a.png", "width": 30, "height": 20, "flickr": "x"},
            {"id": 8, "file_name": "z.png"},
        ],
        "annotations": [kept, box, elsewhere],
        "categories": [{"id": 5, "name": "cow", "supercategory": "animal"}],
    }
    file = folder / "labels.json"
    file.write_text(json.dumps(content))
    with labelling_server(folder, out=file, classes=["cow", "hen"]) as server:
        labels = server.labels
    first, second = labels.shapes(0)
    assert (first.fixed, second.fixed, second.box) == (True, False, (2, 2, 8, 8))
    moved = Shape.of(second.to_dict() | {"box": [3, 2, 9, 8], "label": "hen"}, (20, 30))
    labels.replace(0, [first, moved, Shape.of(BOX, (20, 30))])
    after = json.loads(file.read_text())
    assert after["info"] == content["info"]
    assert after["images"] == content["images"]
    assert [c["name"] for c in after["categories"]] == ["cow", "hen", "cat"]
    assert after["annotations"][:2] == [elsewhere, kept]
    assert after["annotations"][2] == box | {"category_id": 6, "bbox": [3, 2, 6, 6], "area": 36}
    assert after["annotations"][3]["id"] == 6
    labels.replace(0, [moved, moved])  # an id that is given twice is used once
    assert [a["id"] for a in json.loads(file.read_text())["annotations"]] == [5, 4, 7]
    labels.replace(0, [], labelled=False)
    after = json.loads(file.read_text())
    assert (after["annotations"], [image["id"] for image in after["images"]]) == ([elsewhere], [8])


def test_what_the_page_does_not_show_or_change_is_kept(folder: Path) -> None:
    common = {"image_id": 1, "category_id": 1}
    broken = [
        common | {"id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]},  # no box
        {"id": 2, "image_id": 1, "category_id": 8, "bbox": [1, 1, 2, 2]},  # an unknown class
        common | {"id": 3, "bbox": [1, 1, "x", 2]},
    ]
    shown = [
        common | {"id": 4, "bbox": [1, 1, 4, 4], "segmentation": [["a", 1, 2, 3, 4, 5]]},
        common | {"id": 5, "bbox": [1, 1, 4, 4], "segmentation": [7]},
        common | {"id": 6, "bbox": [1.23456, 1, 4, 4], "area": 9},  # not rounded, and its area is not computed again
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [*broken, *shown],
        "categories": [{"id": 1, "name": "cow"}],
    }
    file = folder / "labels.json"
    file.write_text(json.dumps(content))
    with labelling_server(folder, out=file) as server:
        shapes = server.labels.shapes(0)
        assert [(shape.id, shape.fixed) for shape in shapes] == [(4, True), (5, True), (6, False)]
        server.labels.replace(0, [Shape.of(shape.to_dict(), (20, 30)) for shape in shapes])
        assert json.loads(file.read_text())["annotations"] == [*broken, *shown]
        server.labels.replace(0, [])
        assert json.loads(file.read_text())["annotations"] == broken


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is not a COCO file"),
        ('{"a": 1}', "is not a COCO file"),
        ('{"images": {}}', '"images" is not a list'),
        ('{"images": [{"id": 1}]}', 'entry 0 of "images" has no "id" and "file_name"'),
        ('{"images": [], "annotations": [{"image_id": 1}]}', 'entry 0 of "annotations" has no "id" and "image_id"'),
        ('{"images": [{"id": 1.5, "file_name": "a"}]}', "is 1.5, not a number"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "the id 1 occurs 2 times"),
        ('{"images": [', "labels.json"),
    ],
)
def test_a_file_of_another_kind_is_refused(folder: Path, text: str, words: str) -> None:
    file = folder / "labels.json"
    file.write_text(text)
    with pytest.raises(sl.InputError, match=r"labels\.json") as error:
        labelling_server(folder, out=file)
    assert words in str(error.value)
    assert file.read_text() == text


def test_mistakes_are_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(sl.InputError, match="there are no images to label"):
        labelling_server(tmp_path / "empty")
    with pytest.raises(sl.InputError, match="is not an image file"):
        labelling_server([folder / "nothing.png"])
    with pytest.raises(sl.InputError, match=r"one \.json file in a folder that exists"):
        labelling_server(folder, out=tmp_path / "nowhere" / "labels.json")
    with labelling_server(folder) as first, pytest.raises(sl.InputError, match="cannot be used"):
        labelling_server(folder, port=first.server_address[1])


def test_the_command_line_says_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sightline.cli.app import app

    with pytest.raises(SystemExit) as stopped:
        app(["annotate", str(folder / "nothing"), "--no-browser"])
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err
        == f"error: {folder / 'nothing'} is not an image file; give a folder of images, or image files\n"
    )


def test_a_model_suggests(folder: Path) -> None:
    model = sl.create_model("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=64)
    with labelling_server(folder / "a.png", model=model, threshold=0.0) as server:
        assert server.suggest is not None
        found = server.suggest(folder / "a.png")
    own = sl.predict(model, folder / "a.png", threshold=0.0)
    assert [shape.box for shape in found] == [tuple(box) for box in own.boxes.tolist()]
    assert [shape.label for shape in found] == [("cat", "dog")[k] for k in own.labels.tolist()]
    with pytest.raises(sl.InputError, match="does not predict boxes"):
        labelling_server(folder, model=sl.create_model("mobilenet_v2", ["cat", "dog"]))


def test_labels_of_an_image_that_is_given_by_its_file(folder: Path) -> None:
    labels = LabelFile(folder.parent / "labels.json", [folder / "a.png"], folder)
    labels.replace(0, [Shape.of(BOX, (20, 30))])
    again = LabelFile(folder.parent / "labels.json", [folder / "a.png", folder / "b.jpg"], folder)
    assert (again.is_labelled(0), again.is_labelled(1), again.count(0)) == (True, False, 1)
