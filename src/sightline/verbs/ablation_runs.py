"""Train and evaluate the runs of a planned ablation, and compare those that are finished."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sightline.evaluation.ablation import Compared, compare
from sightline.report.ablation import ablation_page, difference_figure, markdown, text_table
from sightline.report.files import EVALUATION_FILE
from sightline.runtime.locking import held_lock
from sightline.runtime.reading import read_json
from sightline.training.guard import NonFiniteLoss
from sightline.training.metrics_log import atomic_write
from sightline.verbs.ablation_plan import PLAN_FILE, PlannedAblation, write_plan
from sightline.verbs.continued import FAILED_FILE, LOCK_FILE, as_json, budget_of, make_folder, write_text
from sightline.verbs.evaluate import measure
from sightline.verbs.prepare import prepare
from sightline.verbs.switches import BASE, Variant
from sightline.verbs.train import train_prepared
from sightline.words import counted


@dataclass(frozen=True)
class Ablation:
    """The result of an ablation; `print` shows its table.

    Attributes:
        folder: holds table.md, table.json, differences.png, report.html and a folder for each run.
        metric: the compared metric.
        rows: one row per variant, the base first.
        failed: for each run that ended without a model, the reason, by "variant, seed n".
        interrupted: whether it was stopped by Ctrl-C. The same call continues it.
    """

    folder: Path
    metric: str
    rows: list[Compared]
    failed: dict[str, str]
    interrupted: bool = False

    def __str__(self) -> str:
        failures = [f"{run}: {reason}" for run, reason in self.failed.items()]
        return "\n".join([f"{self.folder}: {self.metric}", text_table(self.rows), *failures])


def run_ablation(
    planned: PlannedAblation,
    *,
    device: str | None = None,
    progress: bool = True,
    on_run: Callable[[str], object] | None = None,
) -> Ablation:
    """Train and evaluate the unfinished runs, and write the tables after each run.

    Only one process at a time works in the folder: another one would start its unfinished run again.

    Args:
        planned: as `plan_ablation` returned it.
        device, progress: as for `sightline.train`.
        on_run: called with a sentence before each run; by default it is printed to stderr if `progress`.

    Returns:
        The comparison; `interrupted` if Ctrl-C was pressed.

    Raises:
        InputError: another process works in the folder, or the folder cannot be written to.
    """
    make_folder(planned.folder, PLAN_FILE)
    taken = f"another ablation is running in {planned.folder}; wait for it, or give another folder (--out, in Python "
    with held_lock(planned.folder / LOCK_FILE, taken + "out=…)"):
        return _run_all(planned, device, progress, on_run)


def _run_all(
    planned: PlannedAblation, device: str | None, progress: bool, on_run: Callable[[str], object] | None
) -> Ablation:
    write_plan(planned)
    say = on_run or (lambda text: print(text, file=sys.stderr) if progress else None)
    todo = [run for run in planned.runs if planned.state_of(*run) != "finished"]
    for position, (variant, seed) in enumerate(todo, 1):
        state = planned.state_of(variant, seed)
        say(f"run {position} of {len(todo)}: {variant.name}, seed {seed}" + (" (resumed)" if state else ""))
        if not _finish(planned, variant, seed, bool(state), device, progress):
            return collect(planned, interrupted=True)
        write_tables(planned, collect(planned))
    result = collect(planned)
    write_tables(planned, result)
    return result


def collect(planned: PlannedAblation, interrupted: bool = False) -> Ablation:
    """Compare the runs that are finished."""
    scores: dict[str, dict[int, float]] = {variant.name: {} for variant in planned.variants}
    failed = {}
    for variant, seed in planned.runs:
        folder = planned.run_folder(variant, seed)
        if (folder / FAILED_FILE).is_file():
            failed[f"{variant.name}, seed {seed}"] = (folder / FAILED_FILE).read_text(encoding="utf-8").strip()
        elif (folder / EVALUATION_FILE).is_file():
            metrics = read_json(folder / EVALUATION_FILE, dict).get("metrics", {})
            value = metrics.get(planned.metric)
            if isinstance(value, int | float):
                scores[variant.name][seed] = float(value)
            else:
                failed[f"{variant.name}, seed {seed}"] = f"{planned.metric} is not available"
    parts = {variant.name: variant.parts for variant in planned.variants if variant.parts}
    rows = compare(scores, BASE, parts, lower_is_better=planned.lower_is_better)
    return Ablation(planned.folder, planned.metric, rows, failed, interrupted)


def write_tables(planned: PlannedAblation, result: Ablation) -> None:
    """Write table.md, table.json, differences.png and report.html."""
    lines = [
        f"{planned.model}, weights {planned.weights}",
        f"data {planned.given['data'] or 'in memory'}, {_measured_on(planned)}",
        f"{counted(len(planned.variants), 'variant')}, {counted(len(planned.seeds), 'seed')}, "
        f"{budget_of(planned.base)} each",
        *(f"{run} is missing: {reason}" for run, reason in result.failed.items()),
    ]
    title = f"Ablation: {planned.folder.resolve().name}"
    metric = f"{planned.metric}, {'lower' if planned.lower_is_better else 'higher'} is better"
    write_text(planned.folder / "table.md", markdown(result.rows, title, metric, lines))
    values = {
        "metric": planned.metric,
        "lower_is_better": planned.lower_is_better,
        "facts": lines,
        "variants": [
            row.to_dict() | {"settings": dict(variant.settings), "arguments": dict(variant.arguments)}
            for row, variant in zip(result.rows, planned.variants, strict=True)
        ],
        "failed": result.failed,
    }
    write_text(planned.folder / "table.json", json.dumps(as_json(values), indent=1))
    base = {"model": planned.model, "arguments": planned.arguments} | planned.base.to_dict()
    write_text(planned.folder / "report.html", ablation_page(result.rows, title, metric, lines, base))
    figure = difference_figure(result.rows, planned.metric)
    figure.set_facecolor("white")
    with atomic_write(planned.folder / "differences.png") as path:
        figure.savefig(path, dpi=110)


def _finish(
    planned: PlannedAblation, variant: Variant, seed: int, resume: bool, device: str | None, progress: bool
) -> bool:
    """Train or resume a run and evaluate it; False if Ctrl-C was pressed."""
    folder = planned.run_folder(variant, seed)
    if not resume and folder.exists():
        shutil.rmtree(folder)  # stopped before its first checkpoint
    prepared = prepare(
        planned.model,
        planned.data,
        weights=planned.weights,
        arguments=variant.arguments_of(planned.arguments),
        recipe=variant.recipe(planned.base).changed(seed=seed),
        name=folder.name,
        runs=folder.parent,
        resume=resume,
        checked=True,
        device=device,
        division_seed=planned.base.seed,
        choose=False,
    )
    try:
        run = train_prepared(
            prepared, name=folder.name, runs=folder.parent, report=False, progress=progress, device=device
        )
    except NonFiniteLoss as error:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FAILED_FILE, str(error))
        return True
    if run.interrupted:
        return False
    result = measure(
        run.model, planned.data, planned.split, device=device, progress=progress, keep_predictions=False
    ).result
    write_text(folder / EVALUATION_FILE, json.dumps(result.to_dict(), indent=1))
    return True


def _measured_on(planned: PlannedAblation) -> str:
    """What the finished runs were measured on."""
    for run in planned.runs:
        file = planned.run_folder(*run) / EVALUATION_FILE
        if file.is_file():
            found = read_json(file, dict)
            split = (found.get("measured") or {}).get("split")
            notes = "".join(f"; {note}" for note in found.get("notes") or ())
            return f"compared on {counted(found.get('images', 0))} of {split}{notes}"
    return "nothing compared yet"
