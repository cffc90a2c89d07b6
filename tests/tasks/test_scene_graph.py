"""Scene graphs from labels to a report, by the command line and in Python; what is written, drawn and explained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.deploy.writers.base import PredictedImage
from sightline.deploy.writers.scene_graph import SceneGraphWriter
from sightline.errors import InputError
from sightline.explain.box_targets import detected_box
from sightline.explain.relation_targets import relation, relation_cases
from sightline.models.plan import Budget, Facts
from sightline.models.scene import graph_plan
from sightline.structures import Classes, Instances
from sightline.structures.relations import Triplet, likely, ranked, with_triplets
from sightline.tasks import TASKS
from sightline.verbs.explained import default_target, parse_target
from tests.test_cli import done

SMALL = ("min_size=64", "max_size=96", "channels=16", "hidden=32", "relation_width=16")
OPTIONS = [*(part for value in SMALL for part in ("--arg", value)), "--batch-size", "4", "--set", "workers=0", "-q"]
QUIET = ("-q", "--device", "cpu")
CLASSES = Classes(["cup", "table", "cat"])


def objects(*triplets: Triplet, scores: tuple[float, ...] | None = None) -> Instances:
    boxes = [[5, 5, 25, 30], [5, 30, 60, 60], [35, 5, 60, 25]]
    more = {} if scores is None else {"scores": scores}
    return with_triplets(Instances((64, 64), classes=CLASSES, boxes=boxes, labels=[0, 1, 2], **more), triplets)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "data"
    counts = ("--train", "4", "--val", "2", "--test", "0", "--size", "64", "--objects", "2", "3")
    done("scenes", out, "--kind", "relations", *counts, "-q")
    return out


def test_the_command_line_from_scenes_to_a_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Training can start" in done("check", folder).out
    done("look", folder, "-n", "2", "-o", "look.png")
    done("train", folder, "--epochs", "1", "--name", "a", *OPTIONS, "--device", "cpu", "--weights", "none")
    row = json.loads(Path("runs/a/metrics.jsonl").read_text())
    assert {"val/SGDet/ngR@50", "val/PredCls/ngR@50", "train/loss_relation"} <= row.keys()
    recipe = sl.Recipe.from_yaml("runs/a/recipe.yaml")
    assert (recipe.augmentation, recipe.mirror) == ("light", False)

    model, data = sl.load("runs/a"), sl.open_dataset(folder)
    assert model.name == "scene_graph_lite0_fpn"
    assert model.predicates == data["train"].predicates
    done("evaluate", "runs/a", "--json", "found.json", *QUIET)
    measured = json.loads(Path("found.json").read_text())
    assert measured["metrics"]["PredCls/ngR@100"] > 0
    assert measured["relations"] == data["val"].columns.tables["relations"].rows

    done("predict", "runs/a", folder / "val", "--out", "out", "--save", "json,csv", "--threshold", "0.01", *QUIET)
    written = json.loads(Path("out/predictions.json").read_text())
    ids = {entry["id"] for entry in written["annotations"]}
    assert ids
    assert all({s, o} <= ids for image in written["images"] for s, _, o in image["relations"])

    Path("runs/a/report.html").unlink()
    done("report", "runs/a")
    page = Path("runs/a/report.html").read_text()
    assert all(words in page for words in ("Protocols", "Predicates", "PredCls: boxes and classes", "ngmR"))
    image = next((folder / "val").rglob("*.png"))
    done("explain", "runs/a", image, "--for", "relation:0", "--out", "relation", *QUIET)
    assert list(Path("relation").rglob("*.png"))


def test_relations_are_written_in_the_layout_of_scenes(tmp_path: Path) -> None:
    """Only those that hold rather than not: the score of the first is 0.8 × 0.9 × 0.5, that of the second lower."""
    found = objects(Triplet(0, "on", 1, 0.36), Triplet(0, "near", 1, 0.35), scores=(0.9, 0.8, 0.7))
    assert [t.predicate for t in likely(found)] == ["on"]
    files = SceneGraphWriter().begin(tmp_path, [Path("a.png"), Path("b.png")], CLASSES, ("json",))
    for number, result in enumerate((found, objects(Triplet(2, "near", 0, 1.0), scores=(1.0, 1.0, 1.0)))):
        files.add(PredictedImage(number + 1, number, Path("a.png"), (64, 64)), result, None)
    assert files.finish(0.5, True).summary == "6 objects and 2 relations in 2 images"
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert [image["relations"] for image in written["images"]] == [[[1, "on", 2]], [[6, "near", 4]]]
    assert [image["relation_scores"] for image in written["images"]] == [[0.36], [1.0]]
    with pytest.raises(InputError, match="objects with relations"):
        files.add(PredictedImage(3, 1, Path("b.png"), (64, 64)), "nothing", None)
    boxes = SceneGraphWriter().begin(tmp_path, [Path("a.png")], CLASSES, ("csv",))
    boxes.add(PredictedImage(1, 0, Path("a.png"), (64, 64)), found, None)
    left_out = "3 objects in 1 image (1 relation left out, because only the format json holds them)"
    assert boxes.finish(0.5, True).summary == left_out


def test_the_graph_is_drawn_beside_the_image() -> None:
    image = torch.full((3, 64, 64), 90, dtype=torch.uint8)
    plain = Instances((64, 64), classes=CLASSES, boxes=objects().boxes, labels=[0, 1, 2])
    assert sl.draw(image, plain).size == (64, 64)
    empty, one, two = (
        sl.draw(image, objects(*own), size=200) for own in ((), (Triplet(0, "on", 1),), (Triplet(1, "on", 0),))
    )
    assert empty.size == one.size == (200 + 360, 360)
    graphs = [np.asarray(picture)[:, 200:] for picture in (empty, one, two)]
    assert (graphs[0] != graphs[1]).any()
    assert (graphs[1] != graphs[2]).any()  # the arrow has a direction
    assert sl.draw(image, with_triplets(Instances((64, 64)), [])).size == (64 + 360, 360)
    many = [Triplet(s, f"predicate {p}", o, 1 - p / 9) for p in range(3) for s in range(3) for o in range(3) if s != o]
    assert sl.draw(image, objects(*many)).size == (64 + 360, 360)


@pytest.fixture(scope="module")
def model() -> sl.Model:
    torch.manual_seed(0)
    arguments = dict(value.split("=") for value in SMALL)
    boxes = sl.nn.heads.box.BoxSettings(min_score=0.01, max_detections=4)
    return sl.create_model(
        "scene_graph_lite0_fpn", CLASSES, predicates=["on", "near"], boxes=boxes,
        **{name: int(value) for name, value in arguments.items()},
    ).eval()  # fmt: skip


def test_a_relation_is_explained(model: sl.Model) -> None:
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    result = model([image])[0]
    best = ranked(result)[0]
    target = default_target(model, image)
    assert target == relation(model, image, 0)
    names = result.names()
    words = f"relation 0: {names[best.subject]} {best.predicate} {names[best.object]} ({best.score:.2f})"
    assert target.describe(model) == words
    batch, _ = model.prepare([image], None)
    score = float(target.score(model, batch)[0].detach().sigmoid())
    parts = result.scores[best.subject] * result.scores[best.object]
    assert score * float(parts) == pytest.approx(best.score, rel=1e-3)  # no pair was counted: the bias is 0
    copies = batch.with_copies(torch.cat([batch.tensor, torch.zeros_like(batch.tensor)]))
    assert target.score(model, copies).shape == (2,)
    label = result[[best.subject, best.object]].replace(crowd=torch.zeros(2, dtype=torch.bool))
    label = with_triplets(label, [Triplet(0, best.predicate, 1)])
    (case,) = relation_cases(model, "a", image, label)
    assert case.target.number == 0
    assert case.inside is not None
    assert 0 < case.inside.float().mean() <= 1
    assert not list(relation_cases(model, "a", image, with_triplets(label, [])))
    with pytest.raises(InputError, match="relation 999"):
        parse_target("relation:999", model, image)


def test_what_has_no_relations_explains_none() -> None:
    small = {"min_size": 64, "max_size": 96, "channels": 8, "hidden": 8}
    boxes = sl.nn.heads.box.BoxSettings(min_score=0.01, max_detections=4)
    baseline = sl.create_model(
        "scene_graph_frequency_lite0_fpn", CLASSES, predicates=["on"], boxes=boxes, **small
    ).eval()  # fmt: skip
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="from the classes of two objects alone, so that no pixel changes"):
        relation(baseline, image)
    target = default_target(baseline, image)  # the best box instead
    assert target == detected_box(baseline, image, 0)
    baseline.metadata["threshold"] = 0.0
    (case,) = relation_cases(baseline, "a", image, baseline([image])[0][[0]])
    assert case.target == target
    with pytest.raises(InputError, match="predicts no relations"):
        relation(sl.create_model("unet", CLASSES, width=4), torch.rand(3, 48, 64))


def test_the_task_takes_data_with_relations() -> None:
    task = TASKS["scene_graph"]
    data = sl.scenes(2, 48, kind="relations")
    assert {"keys", "relations"} <= set(task.labels.prepare(data).fields)
    assert task.labels.prepare(task.labels.prepare(data)).fields.count("keys") == 1
    assert task.labels.arguments(data) == {"predicates": list(data.predicates)}
    plain = data.with_columns(data.columns.replace(tables={}))
    assert task.labels.arguments(plain) == {}
    with pytest.raises(InputError, match="the data has no relations between objects"):
        task.labels.prepare(plain)


def test_the_plan() -> None:
    facts = Facts(images=400, validation=40, image_size=(160, 200))
    found = {choice.name: choice.value for choice in graph_plan.plan(facts, Budget(pretrained=True))}
    assert found == {"min_size": 224, "epochs": 20}
    few = {choice.name: choice.value for choice in graph_plan.plan(facts, Budget(epochs=5))}
    assert few == {"min_size": 224, "batch_size": 4}
    large = Facts(images=10**5, validation=40, image_size=(600, 800))
    assert {c.name: c.value for c in graph_plan.plan(large, Budget(minutes=9))} == {"min_size": 480}
