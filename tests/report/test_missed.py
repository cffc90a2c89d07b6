"""Pictures and the page of missed objects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.explain.missed import Missed, MissedObjects
from sightline.report.canvas import Canvas
from sightline.report.html import write_report
from sightline.report.missed import INSTEAD, MISSED, missed_page, missed_picture, missed_walls, spread
from sightline.structures import Instances


@pytest.fixture(scope="module")
def data() -> sl.Dataset:
    target = Instances((100, 100), boxes=[[40.0, 40, 60, 60]], labels=[0])
    images = [torch.full((3, 100, 100), 90, dtype=torch.uint8)]
    return sl.Dataset.from_instances(images, [target], ["cat<b>", "dog"])


def record(cause: str, instead: tuple[float, float, float, float] | None = None) -> Missed:
    return Missed(
        image=0,
        name="a.png",
        object=0,
        class_name="cat<b>",
        box=(40, 40, 60, 60),
        cause=cause,
        text="because",
        figures={},
        row=0,
        class_id=0,
        instead=instead,
        instead_class="" if instead is None else "dog",
    )


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.asarray(picture).reshape(-1, 3).tolist()}


def test_a_picture_shows_the_object_and_what_was_found_instead(data: sl.Dataset) -> None:
    alone = missed_picture(record("no origin"), data.image(0), 240)
    assert alone.size == (240, 240)  # 60 × 60 pixels, four times as large
    assert np.asarray(alone)[120, 80].tolist() == list(MISSED)  # the left side at x = 40 of 20 … 80
    assert INSTEAD not in colours(alone)
    corner = missed_picture(replace(record("no origin"), box=(90, 0, 100, 20)), data.image(0), 240)
    assert corner.size == (240, 240)  # of the same pixels, moved into the image: x from 40, y to 60
    assert np.asarray(corner)[20, 200].tolist() == list(MISSED)
    both = missed_picture(record("wrong class", (50, 40, 90, 60)), data.image(0), 240)
    assert {MISSED, INSTEAD} <= colours(both)


def test_labels_hold_the_scores(data: sl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = []
    monkeypatch.setattr(Canvas, "label", lambda self, box, text, colour: labels.append((text, colour)))
    both = record("wrong class", (50, 40, 90, 60))
    missed_picture(both, data.image(0))
    missed_picture(replace(both, figures={"score": 0.123}, instead_score=0.9), data.image(0))
    expected = ["cat<b>", "dog", "cat<b> 0.12", "dog 0.90"]
    assert labels == list(zip(expected, [MISSED, INSTEAD] * 2, strict=True))


def test_objects_of_many_images_are_shown() -> None:
    records = [replace(record("no origin"), image=i) for i in range(10)]
    assert [missed.image for missed in spread(records, 4)] == [0, 2, 5, 7]
    assert spread(records[:3], 4) == records[:3]
    assert spread([], 4) == []


def test_walls_and_page_have_a_part_per_cause(data: sl.Dataset) -> None:
    records = [record("no origin"), record("wrong class", (50, 40, 90, 60)), record("no origin")]
    found = MissedObjects(records, objects=4, images=1, threshold=0.5, iou=0.5)
    asked = []

    def heat(missed: Missed, image: Any) -> Image.Image | None:
        asked.append(missed.cause)
        return Image.new("RGB", (100, 100), (0, 255, 0)) if missed.instead else None

    walls = missed_walls(found, data, heat, size=60)
    assert list(walls) == ["no origin", "wrong class"]
    assert (0, 255, 0) in colours(walls["wrong class"])
    assert (0, 255, 0) not in colours(walls["no origin"])
    for wall in walls.values():  # below the tiles, in the legend
        assert {MISSED, INSTEAD} <= colours(wall.crop((0, wall.height - 40, wall.width, wall.height)))
    assert asked == ["no origin", "no origin", "wrong class"]
    text = missed_page(found, data, heat, count=1)
    assert "3 of 4 objects in 1 image are missed" in text
    assert text.count("<figure>") == 2
    assert "2 objects, 1 of them shown." in text
    assert "cat&lt;b&gt;" in text
    assert "cat<b>" not in text
    assert "</i>dashed: what was found instead, its score" in text
    assert text.count("what the model looked at</small>") == 1
    assert "<td>50.0 %</td>" in text
    assert "http" not in text


def test_a_page_without_missed_objects_says_so(data: sl.Dataset) -> None:
    assert "Every object is found." in missed_page(MissedObjects([], 4, 1, 0.5, 0.5), data)


def test_the_report_of_a_run_shows_the_causes_that_its_folder_holds(tmp_path: Path) -> None:
    assert 'id="missed"' not in write_report(tmp_path).read_text(encoding="utf-8")
    found = MissedObjects([record("no origin")], objects=4, images=1, threshold=0.5, iou=0.5)
    (tmp_path / "missed").mkdir()
    file = tmp_path / "missed" / "missed.json"
    file.write_text(json.dumps(found.to_dict()), encoding="utf-8")
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert '<section id="missed">' in text
    assert 'href="missed/missed.html"' in text
    assert "1 of 4 objects in 1 image are missed." in text
    assert "cat&lt;b&gt; (1)" in text
    file.write_text('{"objects": 4}', encoding="utf-8")
    with pytest.raises(sl.InputError, match="ask again"):
        write_report(tmp_path)
