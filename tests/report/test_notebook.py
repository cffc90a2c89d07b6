"""The HTML of notebooks: tables, pictures, and nothing that could break out of them."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import torch
from PIL import Image

import sightline as sl
from sightline.data.scenes import write_scenes
from sightline.deploy.predict import Predictions


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def objects(count: int, source: str | None = None, name: str = "cat") -> sl.Instances:
    boxes = torch.tensor([[1.0, 1, 9, 9]]).repeat(count, 1)
    labels = torch.zeros(count, dtype=torch.int64)
    scores = torch.linspace(0.9, 0.1, count)
    return sl.Instances((20, 30), classes=sl.Classes([name]), source=source, boxes=boxes, labels=labels, scores=scores)


def test_results(tmp_path: Path) -> None:
    html = objects(10)._repr_html_()
    assert html.count("<tr>") == 9  # a head and eight of the rows
    assert "… 2 more" in html
    assert pictures(html) == []
    assert "<script>" not in objects(1, name="<script>")._repr_html_()
    Image.new("RGB", (30, 20), (255, 255, 255)).save(tmp_path / "a.png")
    (shown,) = pictures(objects(1, str(tmp_path / "a.png"))._repr_html_())
    assert shown.size == (480, 320)
    assert len(shown.getcolors(10**6)) > 1  # the box is drawn
    Image.new("RGB", (31, 20)).save(tmp_path / "b.png")  # no longer the image of the result
    assert pictures(objects(1, str(tmp_path / "b.png"))._repr_html_()) == []
    assert "50" in sl.ClassMap(torch.tensor([[0, 1]]), sl.Classes(["a", "b"]))._repr_html_()
    scores = sl.ClassScores((2, 2), scores=torch.tensor([0.2, 0.8]), classes=sl.Classes(["a", "b"]))
    assert ">0.8<" in scores._repr_html_()


def test_lists_datasets_and_evaluations(tmp_path: Path) -> None:
    data = sl.open_dataset(write_scenes(tmp_path / "scenes", 5, 2, 0, size=48, progress=False))
    html = data._repr_html_()
    assert all(name in html for name in data.classes)
    assert re.search(r"train</td><td[^>]*>5<", html)
    assert len(pictures(html)) == 1
    found = Predictions()
    found += [objects(2, str(data.path(0))), objects(1)]
    found.errors["x.png"] = "x.png is <empty>"
    html = found._repr_html_()
    assert "2 results" in html
    assert "x.png is &lt;empty&gt;" in html
    from sightline.evaluation import evaluate_detection

    targets = [target for _, target in data]
    result = evaluate_detection(targets, [t.replace(scores=torch.ones(len(t))) for t in targets], data.classes)
    html = result._repr_html_()
    assert "1.000" in html
    assert all(name in html for name in data.classes)


def test_models() -> None:
    """One line and a table of parts; its modules, hundreds of lines, are left to `print`."""
    model = sl.create_model("ssdlite320_mobilenet_v2", [f"<{i}>" for i in range(9)], image_size=96)
    html = model._repr_html_()
    assert "<p><b>ssdlite320_mobilenet_v2</b>, detection; 9 classes: &lt;0&gt;, &lt;1&gt;" in html
    assert "it sees images of 96×96 pixels" in html
    every, trained = (sum(p.numel() for p in model.parameters() if p.requires_grad >= least) for least in (0, 1))
    assert re.search(rf">all</td>.*>{every:,}</td>.*>{trained:,}</td>", html)
    rows = dict(re.findall(r"<tr><td[^>]*>(\w+)</td><td[^>]*>\w+</td><td[^>]*>([\d,]+)</td>", html))
    assert {*rows} == {name for name, part in model.named_children() if any(True for _ in part.parameters())}
    assert sum(int(count.replace(",", "")) for count in rows.values()) == every
    assert len(html) < 4000


def test_a_model_that_wraps_one_network_shows_the_parts_of_the_network() -> None:
    html = sl.create_model("mobilenet_v2", ["a", "b"], image_size=64)._repr_html_()
    assert "classification; 2 classes: a, b" in html
    assert ">classifier<" in html
