"""The folder, environment and result of a training run."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sightline.data.fingerprint import ImageKeys
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.runtime.files import named_in_errors
from sightline.runtime.reading import read_json
from sightline.training.metrics_log import EPOCH, Row, atomic_write
from sightline.training.recipe import Recipe
from sightline.words import counted

if TYPE_CHECKING:
    from sightline.training.trained_on import TrainedOn


@dataclass
class Run:
    """The result of a training run.

    Attributes:
        folder: the run's folder, which holds all its files.
        model: the trained model with the weights of the best epoch, in eval mode.
        recipe: the settings of the run.
        metrics: one row per epoch, as in `metrics.jsonl`.
        best: the row of the best epoch; empty if no epoch was finished.
        metric: the column by which the best epoch was chosen; None if no epoch was finished.
        stopped: why training ended: "finished", "patience", "minutes", "interrupted", or "done" (a resumed run that had
            already finished).
    """

    folder: Path
    model: Model = field(repr=False)
    recipe: Recipe = field(repr=False)
    metrics: list[Row] = field(repr=False)
    best: Row
    metric: str | None
    stopped: str

    @property
    def interrupted(self) -> bool:
        """True if training was stopped by Ctrl-C. The run can then be resumed."""
        return self.stopped == "interrupted"

    @property
    def message(self) -> str:
        """One sentence: why training ended and how to continue."""
        done = counted(len(self.metrics), "epoch")
        if self.interrupted:
            return (
                f"interrupted after {done}; continue with the same command, --name {self.folder.name} and --resume "
                f"(in Python: name={self.folder.name!r}, resume=True)"
            )
        minutes = self.recipe.minutes
        budget = f": the time budget ({counted(float(minutes), 'minute')}) is used up" if minutes else ""
        reasons = {
            "finished": f"finished {done}",
            "patience": f"stopped after {done}: no better result for {self.recipe.patience} epochs",
            "minutes": f"stopped after {done}{budget}",
            "done": f"nothing was left to do after {done}; give more epochs to continue",
        }
        return reasons[self.stopped]

    def __repr__(self) -> str:
        value = self.best.get(self.metric) if self.metric not in (None, EPOCH) and self.best else None
        best = "" if value is None else f", best {self.metric} {value:.4g} in epoch {self.best['epoch']}"
        return f"Run({str(self.folder)!r}, {counted(len(self.metrics), 'epoch')}{best})"

    def __str__(self) -> str:
        lines = [f"{self.folder}: {self.message}"]
        if self.metric is not None and self.best:
            value = self.best.get(self.metric)
            others = [
                f"{name} {self.best[name]:.4g}"
                for name in ("val/AP", "val/AP50", "val/mIoU", "val/loss", "train/loss")
                if name != self.metric and isinstance(self.best.get(name), int | float)
            ]
            shown = "n/a" if value is None else f"{value:.4g}"
            also = f" ({', '.join(others)})" if others else ""
            number = self.best["epoch"]
            if self.metric == EPOCH:
                lines.append(f"the last epoch is kept, epoch {number}{also}")
            else:
                lines.append(f"best is epoch {number}: {self.metric} {shown}{also}")
        return "\n".join(lines)


def new_folder(path: str | os.PathLike[str], repair: str = "give another name") -> Path:
    """Create a folder for output, including its parents. An existing folder must be empty: nothing is overwritten.

    Args:
        path: the folder to create.
        repair: what the user can do if the folder is not empty; part of the error message.

    Raises:
        InputError: `path` is a file, a folder that is not empty, or cannot be written to.
    """
    path = Path(path)
    require_free(path, repair)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    require_writable(path)
    return path


def require_free(path: Path, repair: str) -> None:
    """Raise an error if a path is not free for output: if it is a file, or a folder that is not empty.

    Args:
        path: the path.
        repair: what the user can do; part of the error message.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, but the output needs a folder; {repair}")
    try:
        if path.is_dir() and any(path.iterdir()):
            raise InputError(f"the folder {path} exists and is not empty, and nothing is overwritten; {repair}")
    except OSError as error:
        raise _unwritable(path, error) from None


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a new folder again if an error ends the block before anything is written to it. Errors of the system that
    name no file, such as that of a full disk, name the folder."""
    try:
        with named_in_errors(folder):
            yield
    except BaseException:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
        raise


def require_writable(folder: Path) -> None:
    """Raise an error if a folder cannot be written to.

    Raises:
        InputError: the folder is not writable; the message gives the system's reason.
    """
    probe = folder / f".probe-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"the folder {path} cannot be written to ({error.strerror}); give another folder, or change its permissions"
    )


def numbered_folder(base: str | os.PathLike[str], name: str) -> Path:
    """Create the first of base/name1, base/name2, … that does not exist yet."""
    number = 1
    while True:
        path = Path(base) / f"{name}{number}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()  # fails where another process was first
        except FileExistsError:
            if not Path(base).is_dir():
                raise InputError(
                    f"{base} is a file, so the folder {path} cannot be created in it; choose another folder"
                ) from None
            number += 1
            continue
        except OSError as error:
            raise _unwritable(path, error) from None
        return new_folder(path)


_TAKEN = "give another name (--name), or continue that run (--resume)"


def new_run_folder(base: str | os.PathLike[str] = "runs", name: str | None = None) -> Path:
    """Create the folder of a new run, `base/name`.

    Args:
        base: the folder of all runs.
        name: the name of this run; by default the first free one of run1, run2, …

    Raises:
        InputError: the folder exists and is not empty, or cannot be written to.
    """
    if name is None:
        return numbered_folder(base, "run")
    require_new_run(base, name)
    return new_folder(Path(base) / name, _TAKEN)


def require_new_run(base: str | os.PathLike[str], name: str) -> None:
    """Raise an error if a new run cannot have this name. Nothing is written."""
    require_run_name(name)
    require_free(Path(base) / name, _TAKEN)


def require_run_name(name: str) -> None:
    """Raise an error if this cannot be the name of a run's folder."""
    if not name.strip() or name == "." or ".." in Path(name).parts or "\0" in name:
        raise InputError(
            f"the run's name is {name!r}, but it must be the name of a folder; give a name such as 'first'"
        )


def new_run(path: str | os.PathLike[str]) -> Path:
    """Create and claim the folder of a new run. If two runs are started at once, the second one is refused.

    Raises:
        InputError: as for `new_folder`, or another run has just started in this folder.
    """
    folder = new_folder(path, _TAKEN)
    try:
        (folder / "metrics.jsonl").touch(exist_ok=False)  # fails if another process has created it
    except FileExistsError:
        raise InputError(f"another run has just begun in {folder}; {_TAKEN}") from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def existing_run_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder of a run to resume.

    Raises:
        InputError: the folder does not exist or cannot be written to.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"there is no run {path} to resume; start it without --resume")
    require_writable(path)
    return path


def cpu_name() -> str:
    """The model name of the CPU, if the system provides it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def environment(device: torch.device | str = "cpu", processes: int = 1) -> dict[str, Any]:
    """What the results of a run depend on besides data and recipe: versions, device, threads."""
    versions: dict[str, str | None] = {}
    for name in ("sightline", "torch", "numpy", "accelerate", "pillow", "kornia", "hotcoco"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    device = torch.device(device)
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "command": [_program(sys.argv[0]), *sys.argv[1:]] if sys.argv else [],
    }


def _program(path: str) -> str:
    """The name of the running program; `python -m sightline` counts as sightline."""
    name = Path(path).name
    return "sightline" if name == "__main__.py" and Path(path).parent.name == "sightline" else name


def write_environment(
    folder: Path, device: torch.device | str, processes: int, facts: Mapping[str, Any] | None, resumed: bool
) -> None:
    """Write `environment.json`: versions, device, command, and the model and data of the run ("run").

    A resumed run keeps its first entries. Each resumption is appended to "resumed", and its command to "commands".
    """
    path = folder / "environment.json"
    now = environment(device, processes)
    values: dict[str, Any] = now | {"commands": [now["command"]]} | ({"run": dict(facts)} if facts else {})
    if resumed and path.is_file():
        before = read_json(path, dict)
        commands = before.get("commands", [before.get("command", [])])
        resumptions = before.get("resumed", [])
        if not isinstance(commands, list) or not isinstance(resumptions, list):
            raise InputError(f"{path}: the entries 'commands' and 'resumed' must be lists; correct or remove the file")
        again = {name: value for name, value in now.items() if before.get(name) != value}
        values = before | {"commands": [*commands, now["command"]], "resumed": [*resumptions, again]}
        values.setdefault("run", dict(facts or {}))
    write_json(path, values)


@dataclass(frozen=True)
class RunFacts:
    """How a run was started, read from its folder.

    Attributes:
        model: the model's name in the catalog; None if unknown.
        arguments: the arguments of the model's builder.
        weights: the name or file of the weights it started from; None for random weights, or if unknown.
        trained_on: the record of its data; None if no epoch was finished and nothing was recorded.
    """

    model: str | None
    arguments: Mapping[str, Any]
    weights: str | None
    trained_on: TrainedOn | None


def run_facts(folder: Path) -> RunFacts:
    """Read how a run was started: from its last model file, else from environment.json.

    Raises:
        InputError: one of these files cannot be read.
    """
    from sightline.models.saving import metadata_of, model_and_arguments
    from sightline.training.trained_on import KEY, TrainedOn

    model: str | None = None
    arguments: Mapping[str, Any] = {}
    known: TrainedOn | None = None
    last, environment_file = folder / "last.safetensors", folder / "environment.json"
    facts = read_json(environment_file, dict).get("run") if environment_file.is_file() else None
    facts = facts if isinstance(facts, dict) else {}
    weights = facts["weights"] if isinstance(facts.get("weights"), str) else None
    if last.is_file():
        model, arguments = model_and_arguments(last)
        values = metadata_of(last)
        if KEY in values:
            known = TrainedOn.from_dict(values[KEY], str(last))
    else:
        model = facts["model"] if isinstance(facts.get("model"), str) else None
        arguments = facts["arguments"] if isinstance(facts.get("arguments"), dict) else {}
        if isinstance(facts.get("opened"), dict):
            known = TrainedOn.from_dict(
                {"division": {}, "parts": {}, "earlier": ImageKeys.empty().to_dict(), "known": False}
                | {"opened": facts["opened"], "format": facts.get("format")},
                str(environment_file),
            )
    return RunFacts(model, arguments, weights, known)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` as indented JSON, UTF-8; after an error, the file is as it was."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
