"""Train and evaluate the models of a comparison, and write what it found."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sightline.deploy.timing import seconds_in_turn
from sightline.errors import InputError
from sightline.evaluation.comparison import ComparedModel, Cost, compare_results
from sightline.evaluation.result import Result
from sightline.models.model import Model
from sightline.models.saving import load
from sightline.models.summary import summary
from sightline.report.comparison import comparison_page, front_figure, markdown, text_table
from sightline.report.files import EVALUATION_FILE
from sightline.runtime.reading import read_json
from sightline.tasks import Task
from sightline.training.guard import NonFiniteLoss
from sightline.training.metrics_log import atomic_write
from sightline.training.recipe import Recipe
from sightline.verbs.continued import FAILED_FILE, as_json, budget_of, earlier_call, state_of, write_text
from sightline.verbs.evaluate import EvaluationOutput, measure
from sightline.verbs.prepare import prepare
from sightline.verbs.train import train_prepared
from sightline.words import counted

PLAN_FILE = "comparison.json"
"""What was given to a comparison, in its folder."""
TIMED_IMAGES = 8
"""Number of images that each model is timed on."""


@dataclass(frozen=True)
class Asked:
    """What the caller gave for one model: where its weights start, and arguments of its builder."""

    weights: str | Path | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`; `print` shows its table.

    Attributes:
        folder: holds table.md, table.json, front.png, report.html and a folder for each model's run.
        metric: the compared metric.
        rows: one row per model, the best first.
        failed: for each model whose training failed, the reason.
        interrupted: whether it was stopped by Ctrl-C. The same call continues it.
    """

    folder: Path
    metric: str
    rows: list[ComparedModel]
    failed: dict[str, str]
    interrupted: bool = False

    def __str__(self) -> str:
        failures = [f"{name} is missing: {reason}" for name, reason in self.failed.items()]
        return "\n".join([text_table(self.rows, self.metric), *failures])


def run_comparison(
    data: Any,
    asked: Mapping[str, Asked],
    given: Mapping[str, Any],
    task: Task,
    metric: str,
    split: str | None,
    folder: Path,
    *,
    device: str | None,
    progress: bool,
) -> Comparison:
    """Finish the training of all models, evaluate them on the same images, and write the tables.

    Args:
        data: the opened data.
        asked: what was given for each model.
        given: what was given for all, by which the folder is recognised.
        task: the task of the models.
        metric: the metric to compare.
        split: the split to compare on; None for the images that `evaluate` uses.
        folder: the folder for everything, which exists.
        device, progress: as for `sightline.train`.
    """
    _write_plan(folder, given, asked)
    found: dict[str, EvaluationOutput] = {}
    failed: dict[str, str] = {}
    interrupted = False
    for position, (name, own) in enumerate(asked.items(), 1):
        run = folder / "runs" / name
        if progress:
            print(f"model {position} of {len(asked)}: {name}", file=sys.stderr)
        model = _trained(run, name, own, data, given["settings"], device, progress)
        if model is None and not (run / FAILED_FILE).is_file():
            interrupted = True
            break
        if model is None:
            failed[name] = (run / FAILED_FILE).read_text(encoding="utf-8").strip()
            continue
        found[name] = measure(model, data, split, device=device, progress=progress, keep_predictions=False)
        write_text(run / EVALUATION_FILE, json.dumps(found[name].result.to_dict(), indent=1))
    results = {name: output.result for name, output in found.items()}
    lower = metric in task.lower_is_better
    rows = compare_results(results, _costs(found, folder), metric, lower_is_better=lower) if found else []
    comparison = Comparison(folder, metric, rows, failed, interrupted)
    _write(comparison, results, given)
    return comparison


def _write_plan(folder: Path, given: Mapping[str, Any], asked: Mapping[str, Asked]) -> None:
    """Write the plan, or add the new models to it.

    Raises:
        InputError: another comparison was begun in the folder, or a model had other weights or arguments before.
    """
    saved = earlier_call(folder, PLAN_FILE, given, "comparison") or {}
    models = dict(saved.get("models") or {})
    for name, own in as_json({name: asdict(own) for name, own in asked.items()}).items():
        if models.setdefault(name, own) != own:
            raise InputError(
                f"{folder} holds a comparison with {name} of {json.dumps(models[name])}, but now it is "
                f"{json.dumps(own)}; repeat that call to continue it, or give another folder (--out, in Python out=…)"
            )
    write_text(folder / PLAN_FILE, json.dumps({"given": given, "models": models}, indent=1))


def _trained(
    run: Path, name: str, own: Asked, data: Any, settings: Mapping[str, Any], device: str | None, progress: bool
) -> Model | None:
    """The trained model of a run, which is begun, resumed or only loaded; None if it failed or Ctrl-C was pressed."""
    state = state_of(run)
    if state == "finished":
        return None if (run / FAILED_FILE).is_file() else load(run)
    if not state and run.exists():
        shutil.rmtree(run)  # stopped before its first checkpoint
    prepared = prepare(
        name,
        data,
        weights=own.weights,
        arguments=own.arguments,
        settings=settings,
        name=run.name,
        runs=run.parent,
        resume=bool(state),
        device=device,
        source="compare(…)",
    )
    if prepared.validation is None or not len(prepared.validation):
        raise InputError(
            "a comparison is made on images that no model was trained on, but the data has only training images; add a "
            "split val or test, or give the path of a folder, which is divided"
        )
    for sentence in prepared.messages if progress else ():
        print(sentence, file=sys.stderr)
    try:
        done = train_prepared(prepared, name=run.name, runs=run.parent, report=False, progress=progress, device=device)
    except NonFiniteLoss as error:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / FAILED_FILE, str(error))
        return None
    return None if done.interrupted else done.model


def _costs(found: Mapping[str, EvaluationOutput], folder: Path) -> dict[str, Cost]:
    """Size, operations and times of each model; the models take turns on the processor, one image at a time."""
    models = {name: output.model.to("cpu").eval() for name, output in found.items()}
    part = next(iter(found.values())).part
    images = [part[i][0] for i in range(min(TIMED_IMAGES, len(part)))]

    def all_images(model: Model) -> None:
        with torch.inference_mode():
            for image in images:
                model([image])

    seconds = seconds_in_turn([partial(all_images, model) for model in models.values()], repeats=3)
    costs = {}
    for (name, model), duration in zip(models.items(), seconds, strict=True):
        rows = [json.loads(line) for line in _lines(folder / "runs" / name / "metrics.jsonl")]
        counts = summary(model, tuple(images[0].shape))
        costs[name] = Cost(
            counts.parameters,
            counts.flops,
            1000 * duration / len(images),
            len(rows),
            sum(row["seconds"] for row in rows) / 60,
        )
    return costs


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def _write(comparison: Comparison, results: Mapping[str, Result], given: Mapping[str, Any]) -> None:
    """Write table.md, table.json, front.png and report.html."""
    folder, rows, metric = comparison.folder, comparison.rows, comparison.metric
    recipes = {row.name: Recipe.from_yaml(folder / "runs" / row.name / "recipe.yaml") for row in rows}
    first = next(iter(results.values()), None)
    lines = [
        f"data {given['data'] or 'in memory'}",
        "nothing compared yet"
        if first is None
        else f"compared on {counted(first.images)} of {first.measured['split']}",
        *({note: None for result in results.values() for note in result.notes}),
        *({f"{budget_of(recipe)} each": None for recipe in recipes.values()}),
        *(f"{name} is missing: {reason}" for name, reason in comparison.failed.items()),
    ]
    title = f"Comparison: {folder.resolve().name}"
    write_text(folder / "table.md", markdown(rows, title, metric, lines))
    values = {
        "metric": metric,
        "facts": lines,
        "models": [row.to_dict() for row in rows],
        "failed": comparison.failed,
    }
    write_text(folder / "table.json", json.dumps(as_json(values), indent=1))
    if first is None:
        return
    settings = {
        name: read_json(folder / PLAN_FILE, dict)["models"][name] | recipe.to_dict() for name, recipe in recipes.items()
    }
    page = comparison_page(rows, title, metric, lines, *_per_class(results, metric), settings)
    write_text(folder / "report.html", page)
    figure = front_figure(rows, metric)
    figure.set_facecolor("white")
    with atomic_write(folder / "front.png") as path:
        figure.savefig(path, dpi=110)


def _per_class(results: Mapping[str, Result], metric: str) -> tuple[str, dict[str, dict[str, float | None]]]:
    """The metric of each class, else the first one that classes have: its name, and class → model → value."""
    rows = [(model, name, row) for model, result in results.items() for name, row in result.per_class.items()]
    key = metric if any(metric in row for *_, row in rows) else next((key for *_, row in rows for key in row), metric)
    table: dict[str, dict[str, float | None]] = {}
    for model, name, row in rows:
        table.setdefault(name, {})[model] = row.get(key)
    return key, table
