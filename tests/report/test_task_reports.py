"""What tasks give to the report: classification, proposals, and what stands in where a task gives nothing."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sightline import write_report
from sightline.errors import InputError
from sightline.evaluation.classification import evaluate_classification
from sightline.evaluation.proposals import evaluate_proposals
from sightline.ops.boxes import box_iou
from sightline.report import classification, html, plots, proposals, sections, segmentation
from sightline.report.base import TaskReport
from sightline.report.detection import DetectionReport
from sightline.report.files import read_evaluation
from sightline.structures import Classes, ClassScores, Instances
from tests.report.test_html import Page, section

DATA_CLASSES = Classes(["cat", "dog", "<cow>"])
MODEL_CLASSES = Classes(["dog", "yak", "cat", "<cow>"])
LABELS = (0, 0, 1, 1, 2, 0)
ANSWERS = (("cat", 0.9), ("dog", 0.95), ("dog", 0.6), ("yak", 0.7), ("<cow>", 0.5), ("<cow>", 0.55))
SIZE = (40, 60)


class Images:
    """Grey images, as many as there are labels."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def image(self, i: int) -> torch.Tensor:
        return torch.full((3, *SIZE), 30 * i, dtype=torch.uint8)


def scores(name: str, score: float) -> torch.Tensor:
    values = torch.full((4,), (1 - score) / 3)
    values[MODEL_CLASSES.id(name)] = score
    return values


def classified():
    targets = [ClassScores(SIZE, label, None, DATA_CLASSES) for label in LABELS]
    answers = [ClassScores(SIZE, None, scores(*answer), MODEL_CLASSES) for answer in ANSWERS]
    return evaluate_classification(targets, answers, DATA_CLASSES, [f"{i}.png" for i in range(6)])


def cells(text: str) -> list[list[str]]:
    """The rows of a section's tables, without markup."""
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", text)
    ]


def test_a_classifier_s_report(tmp_path):
    text = write_report(tmp_path, classified(), data=Images(6)).read_text()
    page = Page(text)
    assert [i for i in page.ids if i in ("metrics", "classes", "confusion", "calibration", "gallery")] == [
        *("metrics", "classes", "confusion", "calibration", "gallery")
    ]
    numbers = section(text, "metrics")
    right, z = 3, 1.959964  # Wilson's interval, by hand
    middle = (right / 6 + z * z / 12) / (1 + z * z / 6)
    reach = z / (1 + z * z / 6) * (right / 6 * (1 - right / 6) / 6 + z * z / 144) ** 0.5
    assert f"<b>0.500</b><small>95 % interval {middle - reach:.3f} to {middle + reach:.3f}</small>" in numbers
    assert f"50.0 % (95 % interval {100 * (middle - reach):.1f} to {100 * (middle + reach):.1f} %)" in numbers
    assert "Images were predicted as classes that the data does not have (1 &#x27;yak&#x27;)" in numbers
    assert ["cat", "", "0.500", "1.000", "0.333", "3", "1"] in cells(section(text, "classes"))
    matrix = cells(section(text, "confusion"))
    assert ["cat", "1", "1", "1"] in matrix
    assert ["dog", "0", "1", "0"] in matrix
    assert 'title="50%">1</td>' in section(text, "confusion")  # of two dogs one was a yak
    assert ["cat", "dog", "1"] in matrix
    assert section(text, "calibration").count("<svg") == 2


def test_a_classifier_s_gallery_begins_with_the_surest_mistake(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        classification,
        "draw",
        lambda image, scores, **how: drawn.append(scores) or html_picture(),
    )
    text = section(write_report(tmp_path, classified(), data=Images(6)).read_text(), "gallery")
    captions = re.findall("<figcaption><b>(.*?)</b> · (.*?)</figcaption>", text)
    assert captions == [
        ("1.png", "labelled cat, predicted dog 0.95"),
        ("3.png", "labelled dog, predicted yak 0.70"),
        ("5.png", "labelled cat, predicted &lt;cow&gt; 0.55"),
        ("4.png", "correct: &lt;cow&gt; 0.50"),
        ("2.png", "correct: dog 0.60"),
        ("0.png", "correct: cat 0.90"),
    ]
    marked = [MODEL_CLASSES[scores.label] for scores in drawn]  # by the model's ids
    assert marked == ["cat", "dog", "cat", "<cow>", "dog", "cat"]


def html_picture():
    from PIL import Image

    return Image.new("RGB", (8, 8))


def test_what_a_stored_classification_lacks_is_said(tmp_path):
    live = write_report(tmp_path, classified()).read_text()
    again = write_report(tmp_path).read_text()
    for key in ("metrics", "classes", "confusion", "calibration"):
        assert section(again, key) == section(live, key)
    file = tmp_path / "evaluation.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "confusion": None, "confusions": None, "calibration": None}))
    with pytest.raises(InputError, match="confusions"):
        write_report(tmp_path)
    file.write_text(json.dumps({k: v for k, v in values.items() if not k.startswith(("conf", "cal"))}))
    text = write_report(tmp_path).read_text()
    assert "no confusion matrix: the evaluation was saved without its details" in section(text, "confusion")
    assert "no reliability diagram: the evaluation was saved without" in section(text, "calibration")
    (tmp_path / "empty").mkdir()
    for make in (classification.classes, classification.confusion, classification.calibration):
        assert "has not been evaluated" in make(None)


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("confusion", [[1, 2], [3, 4]], "as many rows and columns as classes has names"),
        ("other", [0], "'other' of .* must have one number per class"),
        ("intervals", {"top1": [0.1]}, r"'intervals\.top1' of .* must hold a lower and an upper bound, not 1"),
        ("calibration", [{"from": 0}], r"lacks the entry 'calibration\[0\]\.to'"),
        ("per_class", {"cat": {"F1": 1}}, r"lacks the entry 'per_class\.cat\.precision'"),
    ],
)
def test_entries_that_do_not_fit_are_refused(tmp_path, entry, value, words):
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({**classified().to_dict(), entry: value}))
    with pytest.raises(InputError, match=words):
        read_evaluation(file, classification.ClassificationReport())


def test_calibration_needs_scores_and_large_matrices_are_pictures(tmp_path):
    targets = [ClassScores(SIZE, label, None, DATA_CLASSES) for label in LABELS]
    text = write_report(tmp_path, evaluate_classification(targets, targets, DATA_CLASSES)).read_text()
    assert "no reliability diagram: the predictions have no scores" in section(text, "calibration")
    assert "No image was predicted as another class" in section(text, "confusion")
    many = Classes([f"kind {i}" for i in range(20)])
    labels = [ClassScores(SIZE, i, None, many) for i in range(20)]
    text = write_report(tmp_path / "many", evaluate_classification(labels, labels, many)).read_text()
    assert section(text, "confusion").count("<svg") == 1
    more = Classes([f"kind {i}" for i in range(101)])
    turned = [ClassScores(SIZE, i % 101, None, more) for i in range(1, 102)]
    labels = [ClassScores(SIZE, i, None, more) for i in range(101)]
    text = write_report(tmp_path / "more", evaluate_classification(labels, turned, more)).read_text()
    assert "<svg" not in section(text, "confusion")
    assert ["kind 0", "kind 1", "1"] in cells(section(text, "confusion"))


def test_the_reliability_diagram_s_bars_are_the_accuracies():
    bins = classified().calibration()
    axes = plots.reliability_diagram(bins).axes[0]
    filled = [row for row in bins if row["images"]]
    assert [bar.get_height() for bar in axes.patches] == [row["accuracy"] for row in filled]
    assert [bar.get_height() for bar in plots.confidence_histogram(bins).axes[0].patches] == [b["images"] for b in bins]


OBJECTS = [[4.0, 4, 20, 20], [30.0, 5, 50, 35]]


def proposed():
    """Three images: all found; one of two missed beside a crowd; no object."""
    crowd = torch.tensor([False, False, True])
    targets = [
        Instances(SIZE, classes=DATA_CLASSES, boxes=OBJECTS, labels=[0, 1]),
        Instances(SIZE, classes=DATA_CLASSES, boxes=[*OBJECTS, [0, 0, 60, 40.0]], labels=[0, 1, 2], crowd=crowd),
        Instances(SIZE, classes=DATA_CLASSES),
    ]
    far, near = [[40.0, 20, 60, 40]], [[5.0, 5, 21, 21]]
    answers = [
        Instances(SIZE, classes=DATA_CLASSES, boxes=boxes, scores=torch.linspace(0.9, 0.1, len(boxes)))
        for boxes in (far + OBJECTS, far + near, far)
    ]
    found = evaluate_proposals(targets, answers, (1, 2, 3), classes=DATA_CLASSES, names=["a", "b", "c"])
    found.targets, found.predictions = targets, answers
    return found


def test_the_report_of_proposals(tmp_path):
    found = proposed()
    text = write_report(tmp_path, found, data=Images(3)).read_text()
    Page(text)
    numbers = section(text, "metrics")
    assert "3 images, 4 objects, 6 proposals" in numbers
    assert "With 3 proposals per image 75 % of the objects are found at IoU 0.50." in numbers
    rows = cells(section(text, "recall-overlap"))
    assert ["1", "0.000", "0.000", "0.000", "0.000"] in rows
    expected = np.mean([(found.overlaps[2] >= iou - 1e-9).mean() for iou in np.linspace(0.5, 0.95, 10)])
    assert rows[-1][0] == "3"
    assert float(rows[-1][-1]) == pytest.approx(expected, abs=1e-3)
    assert section(text, "recall-overlap").count("<svg") == section(text, "recall-number").count("<svg") == 1
    best = cells(section(text, "classes"))[1]
    assert best[0] == "cat"  # both cats are found, one of the two dogs
    assert best[2:] == ["0.800", "1.000", "2"]  # a half by 0.50 to 0.75 alone
    assert write_report(tmp_path).read_text().count("<svg") == text.count("<svg") == 2
    for make in (proposals.by_overlap, proposals.by_number, proposals.classes):
        assert "has not been evaluated" in make(None)
        assert 'class="none"' in make({"metrics": {}})


def test_curves_of_recall():
    recall = proposed().to_dict()["recall"]
    lines = plots.recall_by_overlap(recall).axes[0].lines
    assert [line.get_ydata().tolist() for line in map(as_arrays, lines)] == [
        list(row.values()) for row in recall.values()
    ]
    lines = plots.recall_by_number(recall, ("0.50", "0.90")).axes[0].lines
    assert as_arrays(lines[0]).get_ydata().tolist() == [row["0.50"] for row in recall.values()]
    assert as_arrays(lines[0]).get_xdata().tolist() == [1, 2, 3]


def as_arrays(line):
    line.set_data(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
    return line


def test_the_gallery_shows_the_proposal_nearest_to_each_object(tmp_path, monkeypatch):
    found, drawn = proposed(), []
    monkeypatch.setattr(
        proposals, "draw", lambda image, result, **how: drawn.append((result, how["remarks"])) or html_picture()
    )
    text = section(write_report(tmp_path, found, data=Images(3)).read_text(), "gallery")
    captions = re.findall("<figcaption><b>(.*?)</b> · (.*?)</figcaption>", text)
    assert [name for name, _ in captions] == ["b", "a", "c"]
    assert captions[0][1].startswith("1 of 2 objects found · mean IoU")
    assert captions[1][1].startswith("2 of 2 objects found · mean IoU 1.00")
    assert captions[2][1] == "no object counts"
    (_, missed), (nearest, dashed), (_, none), (both, _), *_ = drawn
    assert missed == [None, "missed", "ignored"]
    overlaps = box_iou(torch.tensor(OBJECTS), found.predictions[1].boxes)
    assert nearest.scores.tolist() == pytest.approx([max(row) for row in overlaps.tolist()])
    assert dashed == [None, "below 0.50"]
    assert nearest.names() == ["cat", "dog"]
    assert none == [None, None]
    assert both.boxes.tolist() == OBJECTS


class Plain(SimpleNamespace):
    """An evaluation of a task that gives nothing to the report."""

    task = "counting"

    def worst_first(self):
        return np.array([1, 0])

    def to_dict(self):
        row = {"error": 0.25, "images": 2, "why not": None}
        return {
            "task": self.task,
            "images": 2,
            "metrics": {"error": 0.25},
            "intervals": {"error": [0.125, 0.5]},
            "classes": ["cat", "<dog>"],
            "per_class": {"cat": row, "<dog>": row},
            "reasons": {"cat/why not": "none was asked for"},
        }


def test_a_task_that_gives_nothing_has_its_numbers(tmp_path):
    targets = [ClassScores(SIZE, label, None, DATA_CLASSES) for label in (0, 1)]
    found = Plain(names=None, targets=targets, predictions=[SimpleNamespace(image_size=SIZE), targets[1]])
    rows = [{"epoch": e, "train/loss": 1.0, "val/error": value} for e, value in ((1, 4.0), (2, 3.0), (3, 5.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = html.write_report(
        tmp_path, found, Images(2), task_report=TaskReport(("error",), lower_is_better=("error",))
    ).read_text()
    Page(text)
    assert "95 % interval 0.125 to 0.500" in section(text, "metrics")
    assert ["cat", "0.250", "2", "n/a"] in cells(section(text, "classes"))
    assert 'title="none was asked for"' in section(text, "classes")
    assert "&lt;dog&gt;" in section(text, "classes")
    assert "best val/error 3.000 in epoch 2" in section(text, "training")
    assert section(text, "gallery").count("<figure>") == 2
    assert section(write_report(tmp_path, found).read_text(), "metrics") == section(text, "metrics")
    axes = plots.training_curves(rows)["Validation"].axes[0]
    assert axes.get_ylim()[1] > 5  # not cut off at 1


def test_a_run_without_an_evaluation_shows_its_model_s_sections(tmp_path):
    (tmp_path / "environment.json").write_text(json.dumps({"run": {"model": "mobilenet_v2"}}))
    assert 'id="calibration"' in write_report(tmp_path).read_text()
    (tmp_path / "environment.json").write_text(json.dumps({"run": {"model": "of a user's own"}}))
    assert 'id="precision-recall"' in write_report(tmp_path).read_text()


def test_images_where_nothing_counts_are_not_the_best():
    recall = SimpleNamespace(image_recall=np.array([0.5, np.nan, 1.0]))
    assert proposals.ProposalReport().best_first(recall, [0, 2, 1]) == [2, 0]
    iou = SimpleNamespace(image_iou=np.array([0.5, np.nan, 1.0]))
    assert segmentation.SegmentationReport().best_first(iou, [0, 2, 1]) == [2, 0]
    assert TaskReport().best_first(iou, [0, 2, 1]) == [1, 2, 0]


def test_cards_are_the_task_s_or_the_headline():
    names = dict.fromkeys(("AP", "AP50", "AR1", "VOC2010_AP50"), 0.5)
    for report, cards in (
        (DetectionReport(("AP",)), ["AP", "AP50", "VOC2010 AP50"]),
        (TaskReport(("AR1", "not measured")), ["AR1"]),
        (TaskReport(), ["AP", "AP50", "AR1", "VOC2010 AP50"]),
    ):
        text = report.metrics.make({"metrics": names})
        assert re.findall('<div class="card"><span>(.*?)</span>', text) == cards


def test_the_best_epoch_is_the_one_that_training_kept():
    rows = [{"epoch": e, "train/loss": 1 / e, "val/AP": 0.5, "val/AP50": 1 / e} for e in (1, 2, 3)]
    assert "best val/AP 0.500 in epoch 3" in sections.training(rows)  # of equals the last, as training has it
    assert "best val/AP50 1.000 in epoch 1" in sections.training(rows, keep="AP50")
    assert "best train/loss 0.333 in epoch 3" in sections.training(rows, keep="train/loss")
    assert "best val/AP 0.500" in sections.training(rows, keep="mIoU")
    assert "the last epoch is kept, epoch 3" in sections.training(rows, keep="last")
