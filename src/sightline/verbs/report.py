"""Write the report of a run together with the metrics it shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.models.model import as_model
from sightline.runtime.files import written_whole

if TYPE_CHECKING:
    from PIL import Image

    from sightline.evaluation.result import Result
    from sightline.models.model import Model
    from sightline.report.base import TaskReport
    from sightline.report.gallery import Why


def write_report(
    folder: str | Path,
    result: Result | None = None,
    *,
    data: Any = None,
    model: nn.Module | None = None,
    title: str | None = None,
    explain: bool = False,
) -> Path:
    """Write report.html and, if there is a result, evaluation.json to a run's folder; see `sightline.report.html`.

    Args:
        folder: the run's folder.
        result: an evaluation; None for a report without one.
        data: the images that were evaluated, or the training images.
        model: the model that was evaluated.
        title: the title of the page; by default it is taken from the run.
        explain: draw beside each of the worst predictions which pixels it depends on: a heat map by the default method
            of `sightline.explain_images` for the best class or object. Needs the model.

    Returns:
        The path of report.html.

    Raises:
        InputError: explanations are asked for without a model, or an error of `sightline.report.html`.
    """
    from sightline.report.files import EVALUATION_FILE, stored_task
    from sightline.report.html import write_report as run

    folder = Path(folder)
    known = None if model is None else as_model(model)
    name = None if result is None else result.task
    name = name or stored_task(folder) or (None if known is None else known.task) or _task_of_run(folder)
    if explain and known is None:
        raise InputError("explanations need the model, not only its results; give model=…")
    why = _why(known) if explain and known is not None else None
    file = run(folder, result=result, data=data, model=known, title=title, task_report=report_of(name), why=why)
    if result is not None:
        with written_whole(file.with_name(EVALUATION_FILE), "the evaluation") as partial:
            partial.write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")
    return file


def _why(model: Model) -> Why:
    """Draws what the prediction of a model for an image depends on; nothing if that cannot be explained."""
    from sightline.explain.explanation import explain_image
    from sightline.report.drawing import draw
    from sightline.verbs.explained import default_method, default_target

    def why(image: Any, size: int) -> Image.Image | None:
        try:
            found = explain_image(model, image, default_method(model), default_target(model, image))
        except InputError:  # such as a model whose task has no explanations
            return None
        return draw(image, found, size=size, scale=1.5)

    return why


def shown_before(folder: Path) -> dict[str, Any] | None:
    """Return which images a run's report shows ("data", "split" and their number); None if there is no report.

    Raises:
        InputError: evaluation.json cannot be read, or lacks an entry that the report of its task needs.
    """
    from sightline.report.files import stored_task
    from sightline.report.html import shown_before as run

    return run(folder, report_of(stored_task(folder)))


@dataclass(frozen=True)
class UpdatedReport:
    """A report that was written again.

    Attributes:
        file: the path of report.html.
        before: which images it showed before ("data", "split", "images"); None if it showed none.
        now: which images it shows now, in the same form; None if it shows none.
        notes: remarks on the choice of the images, one sentence each.
    """

    file: Path
    before: dict[str, Any] | None = None
    now: dict[str, Any] | None = None
    notes: Sequence[str] = ()


def update_report(
    run: str | Path,
    data: Any = None,
    split: str | None = None,
    *,
    open_args: Mapping[str, Any] | None = None,
    explain: bool = False,
    progress: bool = True,
) -> UpdatedReport:
    """Write a run's report again, by default for the validation images of its data.

    Args:
        run: the run's folder.
        data: other images and labels; by default the data that the model was trained on.
        split: the split to show; "all" for all images; by default "val", else "test", without training images.
        open_args: if `data` is a path: additional arguments of `open_dataset`.
        explain: as for `write_report`.
        progress: show progress on stderr.

    Raises:
        InputError: there is no such run, or its images are unknown, so that the report would lose them.
    """
    from sightline.report.files import EVALUATION_FILE
    from sightline.training import trained_on
    from sightline.verbs.evaluate import measure

    run = Path(run)
    if not (run / "metrics.jsonl").is_file():
        raise InputError(f"there is no run {run} (a folder with metrics.jsonl); give the folder of a run")
    known = trained_on.of_run(run)
    if data is None and (known is None or known.path is None):
        if (run / "report.html").is_file() and (run / EVALUATION_FILE).is_file():
            raise InputError(
                f"{run}/report.html shows predictions, which would be lost without the images; give them: --data DATA"
            )
        return UpdatedReport(write_report(run))
    before = shown_before(run)
    measured = measure(run, data, split, default_splits=("val", "test"), open_args=open_args, progress=progress)
    result = measured.result
    now = {name: result.measured.get(name) for name in ("data", "split")} | {"images": result.images}
    file = write_report(run, result, data=measured.part, model=measured.model, explain=explain)
    return UpdatedReport(file, before, now, measured.notes)


def _task_of_run(folder: Path) -> str | None:
    """The task of a run's model, if the run's files name a model of the catalog."""
    from sightline.models.catalog import find
    from sightline.training.run import run_facts

    with suppress(InputError):
        name = run_facts(folder).model
        return None if name is None else find(name).task
    return None


def report_of(task: str | None) -> TaskReport:
    """The report of a task, given its name; files without the name of a task use that of the first task."""
    from sightline.report.base import TaskReport
    from sightline.tasks import TASKS

    known = TASKS.get(task) if task else next(iter(TASKS.values()))
    if known is None:
        return TaskReport()
    return known.report or TaskReport(known.headline, known.lower_is_better)
