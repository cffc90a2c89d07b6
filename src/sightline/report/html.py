"""The report of a run: a single self-contained HTML file for screens of any size, dark mode and print."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sightline.errors import InputError
from sightline.models.model import Model, as_model
from sightline.report import sections
from sightline.report.base import TaskReport
from sightline.report.files import EVALUATION_FILE, PLAIN, read_evaluation, read_rows
from sightline.report.gallery import Why, gallery
from sightline.report.missed import missed_section, read_missed
from sightline.report.page import Section, esc, page, pairs, sentence
from sightline.runtime import reading
from sightline.runtime.entries import require_entries
from sightline.runtime.files import written_whole


@dataclass(frozen=True)
class _Facts:
    """What is known of a run; each entry may be missing."""

    rows: Sequence[Mapping[str, Any]] | None
    result: Mapping[str, Any] | None
    live: Any
    data: Any
    recipe: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    model: Model | None
    missed: Mapping[str, Any] | None


def write_report(
    folder: str | Path,
    result: Any = None,
    data: Any = None,
    recipe: Any = None,
    environment: Mapping[str, Any] | None = None,
    metrics: Sequence[Mapping[str, Any]] | None = None,
    model: nn.Module | None = None,
    title: str | None = None,
    task_report: TaskReport = PLAIN,
    why: Why | None = None,
) -> Path:
    """Write `report.html` to the folder of a run; an existing one is replaced.

    Arguments that are not given are read from the folder: evaluation.json, recipe.yaml, environment.json,
    metrics.jsonl. The report says which of them are missing. If the folder holds the causes of missed objects
    (`sightline.explain_missed`), they are shown too.

    Args:
        folder: the run's folder; created if it does not exist.
        result: an evaluation, or its dictionary. The gallery needs its predictions.
        data: the dataset that was evaluated, for the images of the gallery.
        recipe: a dataclass or a mapping.
        environment: versions, device and similar facts.
        metrics: one row per epoch.
        model: the model, for its name and size.
        title: title of the page; by default the folder's name.
        task_report: the task's sections and drawings; by default all metrics, and labels beside predictions.
            (`sightline.write_report` chooses that of the task.)
        why: as for `gallery`.

    Returns:
        The path of the report.

    Raises:
        InputError: the folder cannot be written to, or a file in it cannot be read.
    """
    folder = Path(folder)
    live = None if isinstance(result, Mapping) else result
    facts = _Facts(
        rows=read_rows(folder / "metrics.jsonl") if metrics is None else list(metrics),
        result=result
        if isinstance(result, Mapping)
        else result.to_dict()
        if live is not None
        else _stored(folder, task_report),
        live=live,
        data=data,
        recipe=_yaml(folder / "recipe.yaml") if recipe is None else _mapping(recipe),
        environment=_json(folder / "environment.json") if environment is None else environment,
        model=None if model is None else as_model(model),
        missed=read_missed(folder),
    )
    makers: tuple[tuple[str, str, Callable[[], str]], ...] = (
        *((part.key, part.heading, partial(part.make, facts.result)) for part in task_report.parts()),
        ("training", "Training", lambda: sections.training(facts.rows, task_report.lower_is_better, _keep(facts))),
        ("gallery", "Predictions beside labels", lambda: gallery(facts.live, facts.data, task_report, why=why)),
        ("missed", "Why objects are missed", lambda: "" if facts.missed is None else missed_section(facts.missed)),
        ("run", "Data and model", lambda: pairs(_run_of(facts))),
        ("recipe", "Recipe", lambda: _listed(_own(facts.recipe), "The recipe is unknown: there is no recipe.yaml.")),
        ("environment", "Environment", lambda: _listed(_own(facts.environment), "There is no environment.json.")),
    )
    known = {"training": facts.rows, "recipe": facts.recipe, "environment": facts.environment}
    alone = facts.result is not None and not facts.rows and not facts.recipe  # an evaluation outside a run
    left_out = {key for key, value in known.items() if alone and not value}
    if not _run_of(facts):
        left_out.add("run")
    if facts.missed is None:
        left_out.add("missed")
    parts = []
    for key, heading, make in makers:
        if key in left_out:
            continue
        try:
            parts.append(Section(key, heading, make()))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            if live is not None or isinstance(error, InputError):
                raise  # the error does not come from a file
            raise InputError(
                f"the section {heading!r} cannot be made from the files in {folder} ({type(error).__name__}: {error}); "
                "evaluate the run again (sightline evaluate)"
            ) from error
    text = page(title or folder.resolve().name, _lead(facts), parts)
    path = folder / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the report {path} cannot be written ({error.strerror}); choose a folder that you can write to"
        ) from None
    with written_whole(path, "the report") as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _lead(facts: _Facts) -> str:
    parts = []
    if facts.model is not None:
        count = sum(p.numel() for p in facts.model.parameters())
        name = facts.model.title
        size = f"{count / 1e6:.1f} million" if count >= 1e5 else f"{count}"
        parts.append(f"{name}, {size} parameters" if count else name)
    if facts.result is not None:
        names = list(facts.result.get("classes", []))
        shown = ", ".join(names[:6]) + (f" … ({len(names)} classes)" if len(names) > 6 else "")
        parts.append(shown)
    when = (facts.environment or {}).get("started")
    if when:
        parts.append(f"started {str(when).replace('T', ' ')[:16]}")
    return f'<p class="soft">{esc(" · ".join(part for part in parts if part))}</p>' if parts else ""


def _keep(facts: _Facts) -> str:
    keep = (facts.recipe or {}).get("keep")
    return keep if isinstance(keep, str) else "auto"


def _run_of(facts: _Facts) -> dict[str, Any]:
    """The model and data of the run, from recipe.yaml or environment.json; {} if neither has them."""
    for source in (facts.recipe, facts.environment):
        run = (source or {}).get("run")
        if isinstance(run, Mapping):
            opened = run.get("opened")
            further = {k: v for k, v in opened.items() if k != "path"} if isinstance(opened, Mapping) else {}
            return {k: v for k, v in run.items() if k != "opened"} | ({"opened": further} if further else {})
    return {}


def _own(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The entries of a file, except those with a section of their own; commands are joined to command lines."""
    if values is None:
        return None
    own = {key: value for key, value in values.items() if key != "run"}
    commands = own.pop("commands", [own["command"]] if "command" in own else None)
    if isinstance(commands, list) and all(isinstance(words, list) for words in commands):
        own["command"] = " ; ".join(shlex.join(map(str, words)) for words in commands)
        resumed = own.get("resumed")
        if isinstance(resumed, list) and all(isinstance(one, Mapping) for one in resumed):
            own["resumed"] = [{key: value for key, value in one.items() if key != "command"} for one in resumed]
    return own


def _listed(values: Mapping[str, Any] | None, missing: str) -> str:
    return pairs(values) if values else sentence(missing)


def _mapping(value: Any) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return value
    raise InputError(f"the recipe is a {type(value).__name__}; give a dataclass or a mapping")


def _stored(folder: Path, task_report: TaskReport) -> Mapping[str, Any] | None:
    path = folder / EVALUATION_FILE
    return read_evaluation(path, task_report) if path.exists() else None


def shown_before(folder: Path, task_report: TaskReport = PLAIN) -> dict[str, Any] | None:
    """Which images a run's report shows: "data", "split" and their number; None if there is no report."""
    stored = _stored(folder, task_report)
    if stored is None or not (folder / "report.html").is_file():
        return None
    measured = stored.get("measured")
    place = measured if isinstance(measured, Mapping) else {}
    return {"data": place.get("data"), "split": place.get("split"), "images": stored.get("images")}


def _json(path: Path) -> dict[str, Any] | None:
    return reading.read_json(path, dict) if path.exists() else None


def _yaml(path: Path) -> dict[str, Any] | None:
    value = reading.read_yaml(path) if path.exists() else None
    if value is not None:
        require_entries(value, {str: object}, str(path), "correct or remove it")
    return value
