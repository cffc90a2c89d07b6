"""What an ablation runs: the base, its variants and seeds, and the plan that is kept in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.models.catalog import find
from sightline.models.creation import NO_WEIGHTS
from sightline.models.saving import plain_arguments
from sightline.tasks import TASKS
from sightline.training.recipe import Recipe
from sightline.verbs.continued import as_json, budget_of, earlier_call, state_of, write_text
from sightline.verbs.opening import ClassesGiven, open_data
from sightline.verbs.prepare import prepare
from sightline.verbs.switches import Variant, seeds_of, variants_of
from sightline.words import counted, did_you_mean

PLAN_FILE = "ablation.json"
"""Describes an ablation in its folder: what was given, the base, the variants and the seeds."""


@dataclass(frozen=True)
class PlannedAblation:
    """An ablation that is ready to start; `print` shows its runs and how long they take.

    Attributes:
        folder: the folder for everything, which may hold finished and stopped runs of the same ablation.
        data: the opened data.
        base: the recipe of the base, complete.
        model: name of the model in the catalog.
        weights: the weights that every run starts from; "none" for random weights.
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
        return state_of(self.run_folder(variant, seed))

    def __str__(self) -> str:
        states = [self.state_of(*run) for run in self.runs]
        finished = states.count("finished")
        each = budget_of(self.base)
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
    recipe: Recipe | str | Path | None = None,
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
    recipe = Recipe.given(recipe)
    settings = dict(settings or {})
    budget = {name: value for name, value in (("minutes", minutes), ("epochs", epochs)) if value is not None}
    if not budget:
        raise InputError(
            "an ablation needs the budget of each run; give --minutes, or --epochs (in Python minutes=… or epochs=…)"
        )
    settings |= budget
    own_seeds = seeds_of(seeds, settings.get("seed", recipe.seed if recipe else 0))
    folder = Path(out)
    given = as_json(
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


def write_plan(planned: PlannedAblation) -> None:
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
    write_text(file, json.dumps(as_json(values), indent=1))


def _saved(folder: Path, given: Mapping[str, Any]) -> dict[str, Any] | None:
    return earlier_call(folder, PLAN_FILE, given, "ablation", ("model", "weights", "arguments", "recipe"))


def _duration(minutes: float) -> str:
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest:02} min" if hours else f"{minutes:g} min"
