"""Train variants of a recipe under one budget, and tell which differences are real: `ablate`."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.evaluation.ablation import Compared, compare
from sightline.keywords import require_known
from sightline.models.catalog import NO_WEIGHTS, find
from sightline.models.saving import plain_arguments
from sightline.report.ablation import ablation_page, difference_figure, markdown, text_table
from sightline.report.files import EVALUATION_FILE
from sightline.runtime.locking import held_lock
from sightline.runtime.reading import read_json
from sightline.tasks import TASKS
from sightline.training.checkpoint import STATE_FILE
from sightline.training.guard import NonFiniteLoss
from sightline.training.metrics_log import atomic_write
from sightline.training.recipe import Recipe
from sightline.training.run import new_folder, require_writable
from sightline.verbs.evaluate import measure
from sightline.verbs.opening import ClassesGiven, open_data
from sightline.verbs.prepare import prepare
from sightline.verbs.switches import BASE, Variant, seeds_of, variants_of
from sightline.verbs.train import train_prepared
from sightline.words import counted, did_you_mean

PLAN_FILE = "ablation.json"
"""Describes an ablation in its folder: what was given, the base, the variants and the seeds."""
LOCK_FILE = ".lock"
"""Locked by the process that works in the folder."""
FAILED_FILE = "failed.txt"
"""The reason why a run ended without a model, in the run's folder."""


@dataclass(frozen=True)
class PlannedAblation:
    """An ablation that is ready to start; `print` shows its runs and how long they take.

    Attributes:
        folder: the folder for everything, which may hold finished and stopped runs of the same ablation.
        data: the opened data.
        base: the recipe of the base, complete.
        model: name of the model in the catalog.
        weights: the weights that every run starts from; "none" for random numbers.
        arguments: arguments of the base's model.
        variants: the base, each switch alone, each pair.
        seeds: the seeds of each variant.
        metric: the metric to compare.
        lower_is_better: whether a lower metric is better.
        split: the split to compare on; None for the images that `evaluate` uses.
        given: what the caller gave, by which the folder is recognised.
        messages: how the data was divided and what the base chose, one sentence each.
    """

    folder: Path
    data: Any
    base: Recipe
    model: str
    weights: str
    arguments: dict[str, Any]
    variants: list[Variant]
    seeds: tuple[int, ...]
    metric: str
    lower_is_better: bool
    split: str | None
    given: dict[str, Any]
    messages: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[tuple[Variant, int]]:
        """All runs in their order. Seed by seed, so that variants can be compared before the last seed."""
        return [(variant, seed) for seed in self.seeds for variant in self.variants]

    def run_folder(self, variant: Variant, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / f"{variant.slug}-seed{seed}"

    def state_of(self, variant: Variant, seed: int) -> str:
        """ "finished", "stopped" (training can be resumed) or "" for a run that has not begun."""
        folder = self.run_folder(variant, seed)
        if (folder / EVALUATION_FILE).is_file() or (folder / FAILED_FILE).is_file():
            return "finished"
        return "stopped" if (folder / STATE_FILE).is_file() else ""

    def __str__(self) -> str:
        states = [self.state_of(*run) for run in self.runs]
        finished = states.count("finished")
        each = _budget(self.base)
        lines = [
            f"{counted(len(self.variants), 'variant')} × {counted(len(self.seeds), 'seed')} = "
            f"{counted(len(states), 'run')} of {each}, compared by {self.metric}"
        ]
        if finished or "stopped" in states:
            lines[0] += f"; {finished} finished, {states.count('stopped')} to resume"
        if self.base.minutes is not None and self.base.epochs is None:
            left = (len(states) - finished) * self.base.minutes
            lines.append(f"this takes at most {_duration(left)}, and the time to evaluate each run")
        return "\n".join(lines)

    def listing(self) -> str:
        """All runs with their folder and state, one per line."""
        return "\n".join(
            f"{self.run_folder(variant, seed)}  {variant.name}, seed {seed}"
            + (f"  ({state})" if (state := self.state_of(variant, seed)) else "")
            for variant, seed in self.runs
        )


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


def ablate(
    data: Any,
    switches: Iterable[str] | Mapping[str, Any],
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    seeds: int | Sequence[int] = 3,
    model: str | None = None,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    metric: str | None = None,
    split: str | None = None,
    out: str | Path = "ablation",
    device: str | None = None,
    progress: bool = True,
    dry_run: bool = False,
    **settings: Any,
) -> Ablation:
    """Train the base recipe, each switch alone and each pair of switches with several seeds, and compare them.

    Every run has the same data, division, budget and starting weights. The base is planned once, like a training of
    `sightline.train`; a switch changes one setting of it. The folder keeps every run: the same call again repeats no
    finished run and resumes a stopped one, and further switches or seeds only add runs.

    Args:
        data: a dataset or its path, with images to validate and to compare on.
        switches: what to change. Texts as on the command line: a setting with values ("lr=1e-3,3e-3"), an argument of
            the model ("arg:image_size=320,480"), the name of an augmentation recipe ("mosaic"), or a setting that is
            turned off if the base has it and on otherwise ("ema", "mirror", "warmup", "clip"). Or a mapping from these
            names to lists of values, None for on and off.
        minutes, epochs: the budget of each run; one of them must be given.
        seeds: number of seeds, or the seeds. With one seed there are no intervals; three are the least that is useful.
        model, weights, arguments, classes, open_args, recipe, device, settings: as for `sightline.train`, for the base.
        metric: the metric to compare, one of the task's headline; by default its first.
        split: the split to compare on; by default as for `sightline.evaluate`: "test", else "val".
        out: the folder for everything.
        progress: show progress on stderr.
        dry_run: return without training; nothing is written. The table holds what has been finished before.

    Returns:
        The comparison with the base, also written as table.md, table.json, differences.png and report.html.

    Raises:
        InputError: a switch, a setting or the data cannot be used, or the folder holds something else; the message says
            why and what to do.
    """
    own = [name for name in inspect.signature(ablate).parameters if name != "settings"]
    require_known("ablate", settings, [*own, *Recipe.__dataclass_fields__])
    planned = plan_ablation(
        data,
        switches,
        minutes=minutes,
        epochs=epochs,
        seeds=seeds,
        model=model,
        weights=weights,
        arguments=arguments,
        classes=classes,
        open_args=open_args,
        recipe=recipe,
        settings=settings,
        metric=metric,
        split=split,
        out=out,
        device=device,
        source="ablate(…)",
    )
    if progress:
        print("\n".join([*planned.messages, str(planned)]), file=sys.stderr)
    return collect(planned) if dry_run else run_ablation(planned, device=device, progress=progress)


def plan_ablation(
    data: Any,
    switches: Iterable[str] | Mapping[str, Any],
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    seeds: int | Sequence[int] = 3,
    model: str | None = None,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    settings: Mapping[str, Any] | None = None,
    metric: str | None = None,
    split: str | None = None,
    out: str | Path = "ablation",
    device: str | None = None,
    source: str = "the command line",
) -> PlannedAblation:
    """Open the data, plan the base, and list the variants. Nothing is written.

    Args:
        data, switches, minutes, epochs, seeds, model, weights, arguments, classes, open_args, recipe, settings, metric,
            split, out, device: as for `ablate`.
        source: where the settings come from, for messages.

    Raises:
        InputError: as for `ablate`.
    """
    settings = dict(settings or {})
    budget = {name: value for name, value in (("minutes", minutes), ("epochs", epochs)) if value is not None}
    if not budget:
        raise InputError(
            "an ablation needs the budget of each run; give --minutes, or --epochs (in Python minutes=… or epochs=…)"
        )
    settings |= budget
    own_seeds = seeds_of(seeds, settings.get("seed", recipe.seed if recipe else 0))
    folder = Path(out)
    given = _plain(
        {
            "data": str(data) if isinstance(data, str | Path) else None,
            "model": model,
            "weights": None if weights is None else str(weights),
            "arguments": arguments or {},
            "classes": classes,
            "opened": {name: value for name, value in (open_args or {}).items() if value is not None},
            "recipe": None if recipe is None else recipe.to_dict(),
            "settings": settings,
            "metric": metric,
            "split": split,
        }
    )
    saved = _saved(folder, given)
    channels = (arguments or {}).get("in_channels", 3)
    opened = open_data(data, open_args=open_args, classes=classes, channels=channels)
    messages: list[str] = []
    if saved is None:
        prepared = prepare(
            model,
            opened,
            weights=weights,
            arguments=arguments,
            recipe=recipe,
            settings=settings,
            device=device,
            source=source,
        )
        if prepared.validation is None or not len(prepared.validation):
            raise InputError(
                "an ablation compares variants on images that none was trained on, but the data has only training "
                "images; add a split val or test, or give the path of a folder, which is divided"
            )
        base, task = prepared.recipe, prepared.task
        name, own_arguments = prepared.model.name, plain_arguments(prepared.model)
        start = prepared.model.weights_given or NO_WEIGHTS
        messages = prepared.messages
    else:
        name, start, own_arguments = saved["model"], saved["weights"], saved["arguments"]
        base = Recipe.from_dict(saved["recipe"], str(folder / PLAN_FILE))
        task = TASKS[find(name).task]
    if metric is not None and metric not in task.headline:
        hint = did_you_mean(metric, task.headline, f"{task.name} has {', '.join(task.headline)}")
        raise InputError(f"metric is {metric!r}, but no metric of this task has that name; {hint}")
    chosen = metric or task.headline[0]
    return PlannedAblation(
        folder,
        opened,
        base,
        name,
        str(start),
        own_arguments,
        variants_of(switches, base, name, own_arguments),
        own_seeds,
        chosen,
        chosen in task.lower_is_better,
        split,
        given,
        messages,
    )


def run_ablation(
    planned: PlannedAblation,
    *,
    device: str | None = None,
    progress: bool = True,
    on_run: Callable[[str], object] | None = None,
) -> Ablation:
    """Train and evaluate what is not finished, and write the tables after each run.

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
    _make_folder(planned)
    taken = f"another ablation is running in {planned.folder}; wait for it, or give another folder (--out, in Python "
    with held_lock(planned.folder / LOCK_FILE, taken + "out=…)"):
        return _run_all(planned, device, progress, on_run)


def _run_all(
    planned: PlannedAblation, device: str | None, progress: bool, on_run: Callable[[str], object] | None
) -> Ablation:
    _write_plan(planned)
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
        f"{counted(len(planned.variants), 'variant')}, {counted(len(planned.seeds), 'seed')}, {_budget(planned.base)} "
        "each",
        *(f"{run} is missing: {reason}" for run, reason in result.failed.items()),
    ]
    title = f"Ablation: {planned.folder.resolve().name}"
    metric = f"{planned.metric}, {'lower' if planned.lower_is_better else 'higher'} is better"
    _write(planned.folder / "table.md", markdown(result.rows, title, metric, lines))
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
    _write(planned.folder / "table.json", json.dumps(_plain(values), indent=1))
    base = {"model": planned.model, "arguments": planned.arguments} | planned.base.to_dict()
    _write(planned.folder / "report.html", ablation_page(result.rows, title, metric, lines, base))
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
        _write(folder / FAILED_FILE, str(error))
        return True
    if run.interrupted:
        return False
    result = measure(
        run.model, planned.data, planned.split, device=device, progress=progress, keep_predictions=False
    ).result
    _write(folder / EVALUATION_FILE, json.dumps(result.to_dict(), indent=1))
    return True


def _make_folder(planned: PlannedAblation) -> None:
    """Create the folder, if it is not one that an ablation has begun in."""
    if any((planned.folder / name).exists() for name in (PLAN_FILE, LOCK_FILE)):
        require_writable(planned.folder)
    else:
        new_folder(planned.folder, "give another folder (--out, in Python out=…)")


def _write_plan(planned: PlannedAblation) -> None:
    """Write the plan, or add the new variants and seeds to it.

    Raises:
        InputError: another ablation was begun in the folder since this one was planned.
    """
    file = planned.folder / PLAN_FILE
    _saved(planned.folder, planned.given)
    values = {
        "given": planned.given,
        "model": planned.model,
        "weights": planned.weights,
        "arguments": planned.arguments,
        "recipe": planned.base.to_dict(),
        "variants": [
            {"name": v.name, "settings": v.settings, "arguments": v.arguments, "folder": v.slug}
            for v in planned.variants
        ],
        "seeds": list(planned.seeds),
    }
    _write(file, json.dumps(_plain(values), indent=1))


def _saved(folder: Path, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The plan of an earlier call in this folder; None if the folder is new.

    Raises:
        InputError: the folder holds another ablation or other files.
    """
    file = folder / PLAN_FILE
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(path.name != LOCK_FILE for path in folder.iterdir())):
            raise InputError(
                f"{folder} exists and holds no ablation, and nothing is overwritten; give another folder (--out, in "
                "Python out=…)"
            )
        return None
    saved: dict[str, Any] = read_json(file, dict)
    before = saved.get("given")
    needed = ("model", "weights", "arguments", "recipe")
    if not isinstance(before, dict) or any(name not in saved for name in needed):
        raise InputError(f"{file} is not the plan of an ablation; give another folder (--out, in Python out=…)")
    for name, value in given.items():
        if before.get(name) != value:
            raise InputError(
                f"{folder} holds an ablation with {name} {json.dumps(before.get(name))}, but now it is "
                f"{json.dumps(value)}; repeat that call to continue it, or give another folder (--out, in Python out=…)"
            )
    return saved


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


def _budget(recipe: Recipe) -> str:
    parts = []
    if recipe.minutes is not None:
        parts.append(counted(float(recipe.minutes), "minute"))
    if recipe.epochs is not None:
        parts.append(counted(recipe.epochs, "epoch"))
    return " or ".join(parts)


def _duration(minutes: float) -> str:
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest:02} min" if hours else f"{minutes:g} min"


def _plain(values: Any) -> Any:
    """The values as JSON would return them."""
    return json.loads(json.dumps(values, default=str))


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
