"""Folders of several runs that the same call continues: `ablate` and `compare`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.report.files import EVALUATION_FILE
from sightline.runtime.reading import read_json
from sightline.training.checkpoint import STATE_FILE
from sightline.training.metrics_log import atomic_write
from sightline.training.recipe import Recipe
from sightline.training.run import new_folder, require_writable
from sightline.words import counted

LOCK_FILE = ".lock"
"""Locked by the process that works in the folder."""
FAILED_FILE = "failed.txt"
"""The reason why a run ended without a model, in the run's folder."""
_ANOTHER = "give another folder (--out, in Python out=…)"


def earlier_call(
    folder: Path, plan: str, given: Mapping[str, Any], what: str, needed: Sequence[str] = ()
) -> dict[str, Any] | None:
    """The plan that an earlier call wrote into this folder; None if the folder is new.

    Args:
        folder: the folder of all runs.
        plan: name of the plan's file.
        given: what the caller gave now, which must be what the earlier one gave.
        what: what the folder holds, such as "ablation".
        needed: the entries that a plan has besides "given".

    Raises:
        InputError: the folder holds another call's runs or other files.
    """
    article = "an" if what[0] in "aeiou" else "a"
    file = folder / plan
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(path.name != LOCK_FILE for path in folder.iterdir())):
            raise InputError(f"{folder} exists and holds no {what}, and nothing is overwritten; {_ANOTHER}")
        return None
    saved: dict[str, Any] = read_json(file, dict)
    before = saved.get("given")
    if not isinstance(before, dict) or any(name not in saved for name in needed):
        raise InputError(f"{file} is not the plan of {article} {what}; {_ANOTHER}")
    for name, value in given.items():
        if before.get(name) != value:
            raise InputError(
                f"{folder} holds {article} {what} with {name} {json.dumps(before.get(name))}, but now it is "
                f"{json.dumps(value)}; repeat that call to continue it, or {_ANOTHER}"
            )
    return saved


def make_folder(folder: Path, plan: str) -> None:
    """Create the folder, unless an earlier call has begun in it."""
    if any((folder / name).exists() for name in (plan, LOCK_FILE)):
        require_writable(folder)
    else:
        new_folder(folder, _ANOTHER)


def state_of(folder: Path) -> str:
    """Of a run: "finished", "stopped" (training can be resumed) or "" for one that has not begun."""
    if (folder / EVALUATION_FILE).is_file() or (folder / FAILED_FILE).is_file():
        return "finished"
    return "stopped" if (folder / STATE_FILE).is_file() else ""


def budget_of(recipe: Recipe) -> str:
    """The budget of a run in words."""
    parts = []
    if recipe.minutes is not None:
        parts.append(counted(float(recipe.minutes), "minute"))
    if recipe.epochs is not None:
        parts.append(counted(recipe.epochs, "epoch"))
    return " or ".join(parts)


def as_json(values: Any) -> Any:
    """The values as JSON would return them."""
    return json.loads(json.dumps(values, default=str))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
