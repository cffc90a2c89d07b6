"""Train several models on the same data under one budget, and report which is best and at what cost: `compare`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.keywords import require_known
from sightline.models.catalog import find
from sightline.runtime.locking import held_lock
from sightline.tasks import TASKS
from sightline.training.recipe import Recipe
from sightline.verbs.comparison_runs import PLAN_FILE, Asked, Comparison, run_comparison
from sightline.verbs.continued import LOCK_FILE, as_json, earlier_call, make_folder
from sightline.verbs.opening import ClassesGiven, open_data
from sightline.words import did_you_mean


def compare(
    data: Any,
    models: Sequence[str],
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    weights: str | Path | Mapping[str, str | Path] | None = None,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    metric: str | None = None,
    split: str | None = None,
    out: str | Path = "comparison",
    device: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Comparison:
    """Train models of one task on the same images under the same budget, and compare them on images that none was
    trained on.

    The best model is compared with each other one by a paired bootstrap over the images. Parameters, FLOPs and the time
    of one image are measured as well. Repeating the call skips finished runs and resumes an interrupted one;
    additional models only add runs.

    Args:
        data: a dataset or its path, with images for validation and for the comparison.
        models: names from the catalog, two or more.
        minutes, epochs: the budget of each run; one of them must be given.
        weights: as for `sightline.train`, for all models; or by the model's name.
        arguments: arguments of a model's builder by the model's name, such as {"resnet18": {"crop": 160}}.
        classes, open_args, device: as for `sightline.train`.
        metric: the metric to compare, one of the task's headline; by default its first.
        split: the split to compare on; by default as for `sightline.evaluate`: "test", else "val".
        out: the folder for everything.
        progress: show progress on stderr.
        settings: settings of the recipe, the same for all; what is not given, each model chooses.

    Returns:
        The comparison, also written as table.md, table.json, front.png and report.html.

    Raises:
        InputError: a model, a setting or the data cannot be used, or the folder holds something else; the message says
            why and what to do.
    """
    own = [name for name in inspect.signature(compare).parameters if name != "settings"]
    require_known("compare", settings, [*own, *Recipe.__dataclass_fields__])
    settings |= {name: value for name, value in (("minutes", minutes), ("epochs", epochs)) if value is not None}
    if not {"minutes", "epochs"} & {*settings}:
        raise InputError(
            "a comparison needs the budget of each training; give --minutes, or --epochs (in Python minutes=… or "
            "epochs=…)"
        )
    Recipe.from_dict(settings, "compare(…)")  # what is wrong is said before the data is read
    names = _names(models)
    _require_compared("weights", weights if isinstance(weights, Mapping) else {}, names)
    _require_compared("arguments", arguments or {}, names)
    asked = {
        name: Asked(
            weights.get(name) if isinstance(weights, Mapping) else weights, dict((arguments or {}).get(name, {}))
        )
        for name in names
    }
    task = TASKS[find(names[0]).task]
    if metric is not None and metric not in task.headline:
        hint = did_you_mean(metric, task.headline, f"{task.name} has {', '.join(task.headline)}")
        raise InputError(f"metric is {metric!r}, but no metric of this task has that name; {hint}")
    channels = {one.arguments.get("in_channels", 3) for one in asked.values()}
    if len(channels) > 1:
        raise InputError("in_channels differs between the models, but all see the same images; give all the same")
    folder = Path(out)
    given = as_json(
        {
            "data": str(data) if isinstance(data, str | Path) else None,
            "classes": classes,
            "opened": {name: value for name, value in (open_args or {}).items() if value is not None},
            "settings": settings,
        }
    )
    earlier_call(folder, PLAN_FILE, given, "comparison")
    opened = open_data(data, open_args=open_args, classes=classes, channels=channels.pop())
    make_folder(folder, PLAN_FILE)
    taken = f"another comparison is running in {folder}; wait for it, or give another folder (--out, in Python out=…)"
    with held_lock(folder / LOCK_FILE, taken):
        return run_comparison(
            opened, asked, given, task, metric or task.headline[0], split, folder, device=device, progress=progress
        )


def _names(models: Sequence[str]) -> list[str]:
    """The catalog's names of two or more models of one task.

    Raises:
        InputError: they are too few, repeated, unknown or of different tasks.
    """
    if isinstance(models, str) or len(models) < 2:
        raise InputError("compare needs two models or more; give --model for each (in Python a list of names)")
    entries = [find(name) for name in models]
    for i, entry in enumerate(entries):
        if entry.name in [other.name for other in entries[:i]]:
            raise InputError(
                f"{entry.name} is given twice; settings and arguments of one model are compared by `sightline ablate`"
            )
        if entry.task != entries[0].task:
            raise InputError(
                f"{entries[0].name} and {entry.name} are of different tasks, {entries[0].task} and {entry.task}, and "
                "have no metric in common; give models of one task"
            )
    return [entry.name for entry in entries]


def _require_compared(what: str, by_name: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in by_name:
        if name not in names:
            hint = did_you_mean(name, names, f"the models are {', '.join(names)}")
            raise InputError(f"{what} are given for {name!r}, which is not compared; {hint}")
