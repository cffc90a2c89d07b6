"""Train variants of a recipe under one budget, and report which differences are significant: `ablate`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.keywords import require_known
from sightline.training.recipe import Recipe
from sightline.verbs.ablation_plan import plan_ablation
from sightline.verbs.ablation_runs import Ablation, collect, run_ablation
from sightline.verbs.opening import ClassesGiven


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
    recipe: Recipe | str | Path | None = None,
    metric: str | None = None,
    split: str | None = None,
    out: str | Path = "ablation",
    device: str | None = None,
    progress: bool = True,
    dry_run: bool = False,
    **settings: Any,
) -> Ablation:
    """Train the base recipe, each switch alone and each pair of switches with several seeds, and compare them.

    Every run has the same data, division, budget and starting weights. The base is planned once, like a training run of
    `sightline.train`; a switch changes one setting of it. The folder keeps every run: repeating the call skips finished
    runs and resumes an interrupted one, and additional switches or seeds only add runs.

    Args:
        data: a dataset or its path, with images for validation and for the comparison.
        switches: what to change. Texts as on the command line: a setting with values ("lr=1e-3,3e-3"), an argument of
            the model ("arg:image_size=320,480"), the name of an augmentation recipe ("mosaic"), or a setting that is
            turned off if the base has it and on otherwise ("ema", "mirror", "warmup", "clip"). Or a mapping from these
            names to lists of values, None for on and off.
        minutes, epochs: the budget of each run; one of them must be given.
        seeds: number of seeds, or the seeds. With one seed there are no intervals; use at least three.
        model, weights, arguments, classes, open_args, recipe, device, settings: as for `sightline.train`, for the base.
        metric: the metric to compare, one of the task's headline; by default its first.
        split: the split to compare on; by default as for `sightline.evaluate`: "test", else "val".
        out: the folder for everything.
        progress: show progress on stderr.
        dry_run: return without training; nothing is written. The table contains the runs finished so far.

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
