"""Checkpoints: everything needed to resume a run, written so that a crash cannot corrupt it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data.facts import FACTS
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.runtime import reading
from sightline.runtime.entries import NUMBER, OPTIONAL_NUMBER, require_entries
from sightline.training.ema import Ema
from sightline.training.metrics_log import Row, atomic_write
from sightline.training.recipe import Recipe

STATE_FILE = Path("checkpoint", "state.pt")
BEST_FILE = Path("checkpoint", "best.pt")
SaveModel = Callable[[Model, Path, dict[str, Any]], Any]

_STATE = {
    **dict.fromkeys(("epoch", "batch", "step", "images", "improved"), int),
    **dict.fromkeys(("elapsed", "epoch_began", "lr"), NUMBER),
    **dict.fromkeys(("validation_seconds", "best_score"), OPTIONAL_NUMBER),
    "sums": {str: (int, float)},
    "rows": [dict],
    "metric": (str, type(None)),
    "best": dict,
}
"""The entries of `TrainState` in a file, with their types."""
_CONTENT = {
    "state": _STATE,
    "recipe": dict,
    "built?": {str: str},
    "model": {str: torch.Tensor},
    "optimizer": dict,
    "ema": (dict, type(None)),
    "scaler": (dict, type(None)),
    "random": [dict],
}
_MAY_CHANGE = {"epochs", "minutes", "patience", "workers", "validate_every"}
"""Settings that may change when a run is resumed; a change of `epochs` also stretches the schedule."""


@dataclass(frozen=True)
class Parts:
    """Everything whose state a checkpoint holds.

    Attributes:
        recipe: the settings of the run.
        model: the model itself, not wrapped by `accelerate`.
        optimizer: its optimizer, prepared by `accelerate`.
        ema: the moving average of its weights, or None.
        accelerator: device, precision and processes.
    """

    recipe: Recipe
    model: Model
    optimizer: Any
    ema: Ema | None
    accelerator: Any

    @property
    def weights(self) -> Model:
        """The model whose weights are validated and saved: the moving average if there is one."""
        return self.model if self.ema is None else self.ema.model


@dataclass
class TrainState:
    """The progress of a run, without tensors. Between optimizer steps it is consistent with the weights.

    Attributes:
        epoch: number of completed epochs, including their validation and checkpoint.
        batch: number of completed batches of the current epoch.
        step: number of completed optimizer steps.
        images: number of images processed in the current epoch.
        sums: sum of each loss over these images.
        elapsed: total seconds of the run.
        epoch_began: `elapsed` at the start of the current epoch.
        validation_seconds: duration of the slowest validation; None before the first.
        rows: metrics of the completed epochs.
        metric: the column by which the best epoch is chosen; None before it is determined.
        best: the row of the best epoch.
        best_score: the score of the best epoch; higher is better.
        improved: the last epoch (counted from 1) that was strictly better than all before.
        lr: learning rate of the last step.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    images: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0
    epoch_began: float = 0.0
    validation_seconds: float | None = None
    rows: list[Row] = field(default_factory=list)
    metric: str | None = None
    best: Row = field(default_factory=dict)
    best_score: float | None = None
    improved: int = 0
    lr: float = 0.0

    def add(self, losses: Mapping[str, float], images: int) -> None:
        """Add a batch: its losses, each averaged over its images."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * images
        self.images += images
        self.batch += 1

    def stale(self, patience: int | None) -> bool:
        """Whether the last `patience` epochs brought no better result."""
        return patience is not None and self.best_score is not None and self.epoch - self.improved >= patience

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.batch = self.images = 0
        self.sums = {}
        self.epoch_began = self.elapsed


def random_state(cuda: bool = True) -> dict[str, Any]:
    """The states of the global random generators of Python, NumPy and torch, in types that safe unpickling accepts."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 (the global generator is the point)
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if cuda and torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore the global random generators to a state returned by `random_state`."""
    version, numbers, gauss_next = state["python"]
    random.setstate((version, tuple(numbers), gauss_next))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_everything(seed: int) -> None:
    """Seed the global random generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (for code that draws from the global generator)
    torch.manual_seed(seed)


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Context in which the global random generators start from `seed`; they are restored afterwards.

    Validation runs in this context: its sampled losses are comparable between epochs, and training is the same with and
    without validation.
    """
    before = random_state()
    seed_everything(seed)
    try:
        yield
    finally:
        set_random_state(before)


def save_checkpoint(folder: Path, state: TrainState, parts: Parts) -> None:
    """Write `checkpoint/state.pt` atomically: after a crash it is either the old or the new one."""
    from accelerate.utils import gather_object

    accelerator, ema = parts.accelerator, parts.ema
    randomness = gather_object([random_state()])  # one state per process
    if accelerator.is_main_process:
        content = {
            "state": asdict(state),
            "recipe": parts.recipe.to_dict(),
            "built": _built(parts.model),
            "model": parts.model.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "ema": None if ema is None else {"steps": ema.steps, "model": ema.model.state_dict()},
            "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            "random": randomness,
        }
        (folder / STATE_FILE).parent.mkdir(exist_ok=True)
        with atomic_write(folder / STATE_FILE) as path:
            _write(content, path)
    accelerator.wait_for_everyone()


def _write(content: Any, path: Path) -> None:
    """`torch.save`, whose writer reports a full disk as a RuntimeError about positions in the file."""
    try:
        torch.save(content, path)
    except RuntimeError as error:
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise
        repair = "free some space, then start again"
        if (path.parent / STATE_FILE.name).is_file():
            repair = "the one of the epoch before is kept: free some space, then --resume continues from it"
        raise InputError(
            f"{path.parent}: the checkpoint cannot be written there, as on a full disk; {repair}"
        ) from error


def load_checkpoint(folder: Path, parts: Parts) -> TrainState:
    """Restore everything to the state written by `save_checkpoint`.

    Raises:
        InputError: there is no checkpoint, it cannot be read, or it belongs to another model or recipe.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path} to resume from; start the run again under another name")
    content = _read(path)
    _require_same_recipe(parts.recipe, content["recipe"], path)
    mine, theirs = _shapes(parts.model.state_dict()), _shapes(content["model"])
    if mine != theirs:
        name = next(name for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name))
        raise InputError(
            f"the checkpoint {path} belongs to another model: {name!r} is {theirs.get(name, 'absent')} there and "
            f"{mine.get(name, 'absent')} here; resume with the model that the run was started with"
        )
    before, now = content.get("built", {}), _built(parts.model)
    for name in before:
        if before[name] != now.get(name):
            raise InputError(
                f"the checkpoint {path} belongs to another model (its {name}: {before[name]} there, "
                f"{now.get(name, 'not given')} here); resume with the model that the run was started with"
            )
    randomness = content["random"]
    entry = "model"
    try:
        parts.model.load_state_dict(content["model"])
        entry = "optimizer"
        parts.optimizer.load_state_dict(content["optimizer"])
        entry = "ema"
        if parts.ema is not None:
            parts.ema.steps = content["ema"]["steps"]
            parts.ema.model.load_state_dict(content["ema"]["model"])
        entry = "scaler"
        if parts.accelerator.scaler is not None and content["scaler"] is not None:
            parts.accelerator.scaler.load_state_dict(content["scaler"])
        entry = "random"
        set_random_state(randomness[min(parts.accelerator.process_index, len(randomness) - 1)])
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the entry {entry!r} of the checkpoint {path} does not fit this run ({reason}); start the run again "
            "under another name"
        ) from error
    return TrainState(**content["state"])


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint and check that it has all entries, of the right types."""
    reading.require_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives and foreign pickles raise many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"the checkpoint {path} cannot be read ({reason}); start the run again") from error
    require_entries(content, _CONTENT, f"the checkpoint {path}", "start the run again under another name")
    below = [name for name, kind in _STATE.items() if kind is int and content["state"][name] < 0]
    if below:
        raise InputError(
            f"the entry 'state.{below[0]}' of the checkpoint {path} is {content['state'][below[0]]}, but it must be at "
            "least 0; start the run again under another name"
        )
    unknown = sorted(content["state"].keys() - _STATE.keys())
    if unknown:
        raise InputError(
            f"the checkpoint {path} holds the unknown entry 'state.{unknown[0]}'; resume with the version of Sightline "
            "that wrote it, or start the run again under another name"
        )
    return content


def _require_same_recipe(recipe: Recipe, before: Mapping[str, Any], path: Path) -> None:
    now = recipe.to_dict()
    changed = [name for name in now if name not in _MAY_CHANGE and name in before and now[name] != before[name]]
    if changed:
        named = ", ".join(f"{name} {before[name]!r} → {now[name]!r}" for name in changed)
        raise InputError(
            f"the recipe differs from that of {path} ({named}); resume with the run's recipe.yaml, in which only "
            f"{', '.join(sorted(_MAY_CHANGE))} may be changed"
        )


def _built(model: Model) -> dict[str, str]:
    """How a model was built, as JSON texts by name: models with equal weights may still resize images differently."""

    def plain(value: Any) -> Any:
        return asdict(value) if is_dataclass(value) and not isinstance(value, type) else type(value).__name__

    known = {"name": model.name, "classes": list(model.classes), **model.arguments}
    return {name: json.dumps(value, default=plain, ensure_ascii=False) for name, value in known.items()}


def _shapes(tensors: Mapping[str, Any]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in tensors.items()}


def save_models(folder: Path, state: TrainState, parts: Parts, row: Row, improved: bool, save: SaveModel) -> None:
    """Write `last.safetensors` and, if the epoch is the best so far, `best.safetensors`, each atomically."""
    known = parts.model.metadata
    about = {name: known[name] for name in FACTS if name in known}
    metadata = {**about, "epoch": state.epoch + 1, "metrics": row, "recipe": parts.recipe.to_dict()}
    for name in ("last", "best") if improved else ("last",):
        with atomic_write(folder / f"{name}.safetensors") as path:
            save(parts.weights, path, metadata)
    if improved:
        (folder / BEST_FILE).parent.mkdir(exist_ok=True)
        with atomic_write(folder / BEST_FILE) as path:
            _write(parts.weights.state_dict(), path)


def load_best(folder: Path, parts: Parts) -> None:
    """Load the weights of the best epoch into the model, or the current ones if no epoch was validated."""
    if (folder / BEST_FILE).is_file():
        device = next(parts.model.parameters()).device
        reading.require_file(folder / BEST_FILE)
        try:
            parts.model.load_state_dict(torch.load(folder / BEST_FILE, map_location=device, weights_only=True))
        except Exception as error:  # as in _read
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{folder / BEST_FILE} does not hold the weights of this model ({reason}); remove the file to continue"
            ) from error
    elif parts.ema is not None:
        parts.model.load_state_dict(parts.ema.model.state_dict())


def save_model(model: Model, path: Path, metadata: dict[str, Any]) -> None:
    """Write a model file that `sightline.load` can read."""
    from sightline.models.saving import save

    save(model, path, metadata)
