"""The report: every section, from what is given or from the folder, on its own, escaped, and without links."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.evaluation import evaluate_detection
from sightline.report import html
from sightline.report.page import table
from sightline.structures import Classes, ClassMap, Instances
from sightline.verbs.report import report_of

EVIL = "<b>cat</b> & 'co\""
CLASSES = Classes([EVIL, "dog", "never there"])
SECTIONS = (
    "metrics",
    "classes",
    "precision-recall",
    "confusion",
    "errors",
    "training",
    "gallery",
    "recipe",
    "environment",
)


class Page(HTMLParser):
    """Which elements are there, that all are closed, and what is pointed at."""

    VOID = ("meta", "img", "br", "path", "use", "rect", "image")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.tags, self.text = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[key] for key in ("href", "src", "xlink:href", "action") if key in values]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


class Data:
    """Six grey images with an object each; the last one cannot be read."""

    classes = CLASSES

    def __len__(self):
        return 6

    def image(self, i):
        if i == 5:
            raise InputError("five.png is <cut> off")
        return torch.full((3, 60, 80), 40 * i, dtype=torch.uint8)

    def target(self, i):
        return Instances((60, 80), classes=CLASSES, boxes=[[5.0, 5, 30, 30]], labels=[i % 2], source=f"<{i}>.png")


def evaluated():
    data = Data()
    targets = [data.target(i) for i in range(6)]
    predictions = [
        Instances((60, 80), classes=CLASSES, boxes=[[5.0, 5 + i, 30, 30 + i]], labels=[i // 3], scores=[0.9 - i / 10])
        for i in range(6)
    ]
    return evaluate_detection(targets, predictions, CLASSES), data


ROWS = [
    {"epoch": e, "lr": 0.1 / e, "seconds": 3.5, "train/box": 1 / e, "train/class": 2 / e, "train/loss": 3 / e,
     "val/loss": 3.3 / e, "val/AP": None if e == 1 else e / 10, "val/AP50": e / 8}
    for e in (1, 2, 3)
]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    epochs: int = 3
    milestones: tuple[float, ...] = (0.7, 0.9)
    ema: float | None = None


def write_report(folder, *given, task="detection", **named):
    """As `sightline.write_report`, with what that reads from the folder given."""
    return html.write_report(folder, *given, task_report=report_of(task), **named)


def section(text, key):
    return re.search(rf'<section id="{key}">.*?</section>', text, re.S).group()


def test_everything_is_there_and_nothing_is_fetched(tmp_path, capfd):
    result, data = evaluated()
    environment = {"started": "2031-01-02T03:04:05", "versions": {"torch": "2.9 <x>"}, "command": ["a", "b c"]}
    environment |= {"commands": [["a", "b c"], ["a", "--resume"]]}
    environment |= {"resumed": [{"started": "2031-01-03", "command": ["a", "--resume"]}]}
    model = nn.Linear(4, 2)
    path = write_report(tmp_path, result, data, Recipe(), environment, ROWS, model, title="First <run>")
    assert path == tmp_path / "report.html"
    text = path.read_text()
    page = Page(text)
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)
    assert len(set(page.ids)) == len(page.ids)
    assert "http:" not in text
    assert "https:" not in text
    assert not {"script", "link", "iframe", "b>cat"} & set(page.tags)
    for link in page.links:
        assert link.startswith(("#", "data:image/")), link
        if link.startswith("#"):
            assert link[1:] in page.ids
    assert EVIL not in text
    assert EVIL in "".join(page.text)
    assert "First &lt;run&gt;" in text
    assert "COCO 2017 bbox" in section(text, "metrics")
    assert "VOC 2007 11-point" in section(text, "metrics")
    assert "no object smaller than" not in section(text, "metrics")
    assert "no object larger than 96² pixels in these labels" in section(text, "metrics")
    assert "no object of &#x27;never there&#x27; in these labels" in section(text, "classes")
    assert section(text, "precision-recall").count("<svg") == 1
    assert section(text, "training").count("<svg") == 3
    assert "best val/AP 0.300 in epoch 3" in section(text, "training")
    assert section(text, "confusion").count("<tr>") >= 5
    assert all(kind in section(text, "errors") for kind in ("duplicate", "background", "missed"))
    gallery = section(text, "gallery")
    assert gallery.count("<figure>") == 6
    assert gallery.count("data:image/jpeg") == 10
    assert "five.png is &lt;cut&gt; off" in gallery
    assert gallery.index("F1 0.00") < gallery.index("F1 1.00")
    assert "0.7, 0.9" in section(text, "recipe")
    assert "2.9 &lt;x&gt;" in section(text, "environment")
    assert "<dd>a &#x27;b c&#x27; ; a --resume</dd>" in section(text, "environment")
    assert "<dt>resumed.1.started</dt><dd>2031-01-03</dd>" in section(text, "environment")
    assert "{" not in section(text, "environment")
    assert "10 parameters" in text
    assert capfd.readouterr() == ("", "")


def test_reads_the_folder_of_a_run(tmp_path):
    result, _ = evaluated()
    (tmp_path / "evaluation.json").write_text(json.dumps(result.to_dict()))
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n")
    (tmp_path / "recipe.yaml").write_text("epochs: 3\nschedule: cosine\n")
    (tmp_path / "environment.json").write_text('{"python": "3.12"}')
    text = write_report(tmp_path).read_text()
    for key, word in (
        ("metrics", "COCO 2017 bbox"),
        ("classes", "dog"),
        ("precision-recall", "<svg"),
        ("confusion", "background"),
        ("errors", "duplicate"),
        ("training", "<svg"),
        ("gallery", "predictions were not kept"),
        ("recipe", "cosine"),
        ("environment", "3.12"),
    ):
        assert word in section(text, key), key
    Page(text)


def test_every_section_says_what_is_missing(tmp_path):
    text = write_report(tmp_path / "new").read_text()
    page = Page(text)
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)
    for key in SECTIONS:
        assert 'class="none"' in section(text, key), key
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluated()[0].to_dict(details=False)))
    text = write_report(tmp_path).read_text()
    assert "saved without its details" in section(text, "errors")
    assert "COCO 2017 bbox" in section(text, "metrics")
    nothing = evaluate_detection([Instances((9, 9))], [Instances((9, 9))], ["cat"])
    text = write_report(tmp_path, nothing, metrics=[{"epoch": 1, "train/loss": None}]).read_text()
    assert "n/a" in section(text, "metrics")
    Page(text)


def test_error_types_of_earlier_files(tmp_path):
    values = evaluated()[0].to_dict()
    (tmp_path / "evaluation.json").write_text(json.dumps(values))
    now = section(write_report(tmp_path).read_text(), "errors")
    for entry in (values["errors"]["counts"], values["errors"]["AP50_gains"]):
        entry["place"] = entry.pop("localization")
    (tmp_path / "evaluation.json").write_text(json.dumps(values))
    assert section(write_report(tmp_path).read_text(), "errors") == now
    assert "<b>localization</b>" in now


def test_the_gallery_needs_the_same_images(tmp_path):
    result, data = evaluated()
    assert "Give the dataset" not in section(write_report(tmp_path, result, data).read_text(), "gallery")
    assert "images are not available" in section(write_report(tmp_path, result).read_text(), "gallery")

    class Fewer(Data):
        def __len__(self):
            return 4

    assert "4 images, but 6 were evaluated" in section(write_report(tmp_path, result, Fewer()).read_text(), "gallery")


def test_many_classes(tmp_path):
    classes = Classes(["猫", "$a_1$ <b>", "_hidden", *(f"class {i}" for i in range(57))])
    target = Instances((300, 300), boxes=[[i, i, i + 50.0, i + 50.0] for i in range(60)], labels=list(range(60)))
    shifted = target.replace(labels=(target.labels + (target.labels % 7 == 0)) % 60, scores=torch.linspace(0.1, 1, 60))
    result = evaluate_detection([target], [shifted], classes)
    text = write_report(tmp_path, result).read_text()
    page = Page(text)
    assert "30 more classes" in text
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    assert "<svg" in section(text, "confusion")
    assert "$a_1$ &lt;b&gt;" in section(text, "precision-recall")
    assert "猫" in section(text, "confusion")


def test_other_tasks_show_their_metrics_and_their_gallery(tmp_path):
    class Maps:
        """What the evaluation of class maps may look like."""

        task = "segmentation"
        names = ("a.png", "b.png")
        targets = predictions = [ClassMap(torch.zeros(60, 80, dtype=torch.int64), CLASSES)] * 2
        image_iou = (1.0, 1.0)

        def worst_first(self):
            return torch.tensor([1, 0]).numpy()

        def to_dict(self):
            return {"task": self.task, "protocol": "mean IoU", "metrics": {"mIoU": 0.5, "x": None}} | {
                "classes": ["a"],
                "per_class": {},
            }

    class Two(Data):
        def __len__(self):
            return 2

    text = write_report(tmp_path, Maps(), Two(), task="segmentation").read_text()
    page = Page(text)
    assert "mIoU" in section(text, "metrics")
    assert "mean IoU" in section(text, "metrics")
    assert "errors" not in page.ids
    assert section(text, "gallery").count("<figure>") == 2


def test_wrong_input_is_refused_with_one_sentence(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2 is not valid JSON: it ends too early"):
        write_report(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "recipe.yaml").write_text("a: [1\n: b")
    with pytest.raises(InputError, match=r"recipe.yaml is not valid YAML"):
        write_report(tmp_path)
    (tmp_path / "recipe.yaml").unlink()
    with pytest.raises(InputError, match="the recipe is a int"):
        write_report(tmp_path, recipe=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written|cannot read"):
        write_report(tmp_path / "file")


def test_markup_in_names_is_text(tmp_path):
    name = "<script>alert(1)</script>"
    row = {"AP": 0.5, "objects": 1, "detections": 1}
    stored = {"task": "detection", "classes": [name], "metrics": {"AP": 0.5}, "per_class": {name: row}, "notes": [name]}
    stored["curves"] = {name: {"recall": [0, 1], "precision": [1, 0.5]}}
    text = write_report(tmp_path, stored, metrics=[{"epoch": 1, f"val/{name}": 1.0}], title=name).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_table_that_ends_in_text_aligns_it_left() -> None:
    head = "<thead><tr><th class=l>metric</th><th>value</th><th class=l>meaning</th></tr></thead>"
    body = "<tbody><tr><td class=l>AP</td><td>0.5</td><td class=l>words</td></tr></tbody>"
    rows = [("AP", "0.5", "words")]
    assert head + body in table(("metric", "value", "meaning"), rows, ends_in_text=True)
    assert "<td>words</td>" in table(("metric", "value", "meaning"), rows)
