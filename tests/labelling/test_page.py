"""The labelling page: one file, whose geometry keeps shapes inside the image."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import sightline.labelling
from sightline.labelling.page import labelling_page

SCRIPT = Path(sightline.labelling.__file__).parent / "page.js"
BOX = {"label": "a", "box": [10, 20, 30, 50], "outline": None}
TRIANGLE = {"label": "a", "box": [0, 0, 10, 10], "outline": [[0, 0], [10, 0], [0, 10]]}


def test_the_page_is_one_file() -> None:
    page = labelling_page()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "innerHTML" not in page  # names of classes and files are text
    ids = set(re.findall(r'id="(\w+)"', page))
    assert set(re.findall(r'at\("(\w+)"\)', page)) <= ids
    buttons = re.search(r"const buttons = {(.*?)};", page, re.DOTALL)
    assert buttons is not None
    assert {"previous", "next", "box", "outline"} <= set(re.findall(r"(\w+): \(\)", buttons[1])) <= ids


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's script")
def test_the_geometry() -> None:
    view = {"scale": 2, "x": 5, "y": -3}
    cases: list[tuple[list[Any], Any]] = [
        (["toImage", view, 25, 17], [10, 10]),
        (["toCanvas", view, 10, 10], [25, 17]),
        (["fitted", 100, 50, 200, 200], {"scale": 1.94, "x": 3, "y": 51.5}),
        (["zoomed", view, 2, 25, 17], {"scale": 4, "x": -15, "y": -23}),  # (10, 10) stays where it is
        (["boxOf", [[3, 9], [1, 2], [7, 4]]], [1, 2, 7, 9]),
        (["handleAt", BOX, 29, 51, 3], 2),
        (["handleAt", BOX, 20, 35, 3], -1),
        (["handleAt", BOX | {"fixed": True}, 30, 50, 3], -1),
        (["isInside", TRIANGLE, 3, 3], True),
        (["isInside", TRIANGLE, 8, 8], False),
        (["shapeAt", [BOX, BOX | {"box": [12, 22, 15, 25]}], 13, 23], 1),  # the smallest
        (["shapeAt", [BOX], 5, 5], -1),
        (["moved", BOX, 100, -100, 60, 60], BOX | {"box": [40, 0, 60, 30]}),  # to the border, at its size
        (["moved", TRIANGLE, 2, 3, 60, 60], TRIANGLE | {"outline": [[2, 3], [12, 3], [2, 13]], "box": [2, 3, 12, 13]}),
        (["dragged", BOX, 0, -5, 25, 60, 60], BOX | {"box": [0, 25, 30, 50]}),
        (["dragged", BOX, 1, 99, 1, 60, 60], BOX | {"box": [10, 1, 60, 50]}),
        (["dragged", BOX, 2, 5, 70, 60, 60], BOX | {"box": [10, 20, 5, 60]}),
        (["dragged", BOX, 3, 4, 30, 60, 60], BOX | {"box": [4, 20, 30, 30]}),
        (
            ["dragged", TRIANGLE, 1, 20, 5, 60, 60],
            TRIANGLE | {"outline": [[0, 0], [20, 5], [0, 10]], "box": [0, 0, 20, 10]},
        ),
        (["upright", BOX | {"box": [10, 60, 5, 20]}], BOX | {"box": [5, 20, 10, 60]}),
        (["isTiny", BOX | {"box": [1, 1, 1.5, 40]}], True),
        (["isTiny", BOX], False),
    ]
    check = Path(__file__).with_name("page_check.js")
    done = subprocess.run(
        ["node", str(check), str(SCRIPT)],
        input=json.dumps([case for case, _ in cases]),
        capture_output=True,
        text=True,
        check=True,
    )
    for (case, expected), found in zip(cases, json.loads(done.stdout), strict=True):
        assert found == pytest.approx(expected) if isinstance(expected, list) else found == expected, case


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's script")
def test_a_person_labels_two_images() -> None:
    use = Path(__file__).with_name("page_use.js")
    done = subprocess.run(["node", str(use), str(SCRIPT)], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    requests = answer["requests"]
    box = {"label": "cat", "box": [10, 20, 40, 60], "outline": None, "id": None, "fixed": False}
    triangle = {
        "label": "dog",
        "box": [70, 70, 90, 90],
        "outline": [[70, 70], [90, 70], [70, 90]],
        "id": None,
        "fixed": False,
    }
    suggested = {"label": "cat", "box": [50, 50, 60, 60], "outline": None, "id": None, "fixed": False}
    smaller = box | {"id": 1, "box": [10, 20, 30, 50]}
    moved = smaller | {"box": [15, 20, 35, 50]}
    assert requests[0] == ["PUT", "shapes/0", {"shapes": [box], "labelled": True}]
    assert requests[1] == ["PUT", "shapes/0", {"shapes": [smaller], "labelled": True}]
    assert requests[2] == ["PUT", "shapes/0", {"shapes": [moved], "labelled": True}]
    assert requests[3] == ["POST", "classes", {"name": "dog"}]
    assert requests[4][2]["shapes"] == [moved, triangle]
    assert requests[5][2]["shapes"] == [moved, triangle | {"label": "cat", "id": 2}]
    assert requests[6][2]["shapes"] == [moved]
    assert [shape["box"] for shape in requests[7][2]["shapes"]] == [moved["box"], triangle["box"]]
    assert requests[8][2]["shapes"][2] == suggested
    assert requests[9] == ["PUT", "shapes/1", {"shapes": [], "labelled": True}]
    assert len(requests) == 10
