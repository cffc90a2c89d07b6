"""The accelerator of a run: device, precision, processes and trackers, through Hugging Face's `accelerate`."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from sightline.errors import InputError
from sightline.runtime.devices import require_device
from sightline.training.recipe import Recipe
from sightline.words import did_you_mean

if TYPE_CHECKING:
    from accelerate import Accelerator

_Result = TypeVar("_Result")


def make_accelerator(
    recipe: Recipe, folder: Path, trackers: Sequence[Any] = (), device: str | None = None
) -> Accelerator:
    """Create an `Accelerator` for a recipe, independent of earlier runs in the same process.

    Args:
        recipe: gives the precision and the gradient accumulation.
        folder: the run's folder; trackers that write files use `folder/trackers`.
        trackers: names known to accelerate ("tensorboard", "wandb", …), or `GeneralTracker` objects.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the best available, or the choice of `accelerate launch`.

    Raises:
        InputError: the device or tracker is not available, or the device does not support the precision.
    """
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration

    require_device(device)
    require_trackers(trackers)
    chosen, cpu = _joined(device)
    if recipe.precision == "fp16" and chosen.type != "cuda":
        raise InputError(
            f"precision is 'fp16', but this device is {chosen.type}; fp16 needs a CUDA GPU; use bf16 or no"
        )
    if recipe.precision == "bf16" and chosen.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError("precision is 'bf16', but this GPU does not support it; use fp16 or no")
    return Accelerator(
        cpu=cpu,
        mixed_precision=recipe.precision,
        gradient_accumulation_steps=recipe.accumulate,
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "trackers")),
        dataloader_config=DataLoaderConfiguration(non_blocking=chosen.type == "cuda"),
    )


def _joined(device: str | None) -> tuple[torch.device, bool]:
    """Return the device of this process, and whether it must use the CPU."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import parse_flag_from_env

    # accelerate keeps one state per process and refuses a second run with another precision or device.
    single = not torch.distributed.is_available() or not torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=single)
    if device is not None and device.startswith("cuda:") and single:
        torch.cuda.set_device(device)  # accelerate's "cuda" is torch's current GPU
    cpu = device == "cpu" or (device is None and parse_flag_from_env("ACCELERATE_USE_CPU"))
    state = PartialState(cpu=cpu)
    if single and state.num_processes > 1:
        atexit.register(_leave)
    return state.device, cpu


def _leave() -> None:
    """Close the connections to the other processes before Python exits, and wait for their threads to become idle.

    The gradients shared by DistributedDataParallel keep gloo's threads alive after the group is destroyed. If such a
    thread still holds a tensor, it requests the GIL to release it, and the interpreter's shutdown aborts the process.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        resting = 0
        for _ in range(100):  # at most two seconds
            time.sleep(0.02)  # without holding the GIL
            resting = 0 if _others_run() else resting + 1
            if resting == 10:
                break


def _others_run() -> bool:
    """Return whether another thread of this process is running or runnable; False where /proc is not available."""
    for task in Path("/proc/self/task").glob("*/stat"):
        with suppress(OSError):  # the thread has just ended
            state = task.read_text().rpartition(")")[2].split()[0]
            if state in "RD" and task.parent.name != str(threading.get_native_id()):
                return True
    return False


def training_device(device: str | None) -> torch.device:
    """The device that a training with this `device` uses, without starting an accelerator.

    Raises:
        InputError: it is not available.
    """
    from accelerate.utils import parse_flag_from_env

    require_device(device)
    if device is not None:
        return torch.device(device)
    if parse_flag_from_env("ACCELERATE_USE_CPU"):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def world_size() -> int:
    """Number of processes launched for this training; 1 without a launcher."""
    count = os.environ.get("WORLD_SIZE", "1")
    return int(count) if count.isdigit() else 1


def require_one_process(setting: str, value: object, processes: int, reason: str) -> None:
    """Refuse a setting of the recipe that works in one process only.

    Args:
        setting, value: the setting; None for a setting that is not used.
        processes: number of processes of this training.
        reason: why it is refused.

    Raises:
        InputError: it is used by several processes.
    """
    if value is not None and processes > 1:
        raise InputError(
            f"{setting} is {value}, but this training has {processes} processes: {reason}; start it without "
            f"`accelerate launch`, or leave {setting} out"
        )


def is_main() -> bool:
    """Whether this is the main process, which writes files and prints."""
    return world_size() == 1 or os.environ.get("RANK", "0") == "0"


def agreed(device: str | None, function: Callable[[], _Result]) -> _Result:
    """Return the main process's result of `function` in all processes, for use before an accelerator exists."""
    if world_size() == 1:
        return function()
    require_device(device)
    _joined(device)
    return _given_by_main(is_main(), function)


def require_trackers(trackers: Sequence[Any]) -> None:
    """Raise an error if a tracker's name is unknown to accelerate, or its package is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = [str(name) for name in LOGGER_TYPE_TO_CLASS]
    installed = {str(name) for name in get_available_trackers()}
    for name in trackers:
        if not isinstance(name, str):
            continue
        if name not in known:
            hint = did_you_mean(name, known, f"known are {', '.join(sorted(known))}")
            raise InputError(f"unknown tracker {name!r}; {hint}")
        if name not in installed:
            raise InputError(f"the tracker {name!r} is not installed; install it (pip install {name}) or leave it out")


def start_trackers(accelerator: Accelerator, recipe: Recipe) -> None:
    """Start the trackers and pass them the recipe."""
    flat = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in recipe.to_dict().items()}
    accelerator.init_trackers("sightline", config=flat)


def stop_trackers(accelerator: Accelerator) -> None:
    """Let the trackers write their pending data. Connections between processes stay open for later steps."""
    for tracker in accelerator.trackers:
        tracker.finish()


def on_main(accelerator: Accelerator, function: Callable[[], _Result]) -> _Result:
    """Call `function` in the main process only; return its result, or raise its exception, in all processes."""
    return function() if accelerator.num_processes == 1 else _given_by_main(accelerator.is_main_process, function)


def _given_by_main(main: bool, function: Callable[[], _Result]) -> _Result:
    from accelerate.utils import broadcast_object_list

    held: list[Any] = [None, None]
    if main:
        try:
            held[0] = function()
        except Exception as error:
            held[1] = error
    broadcast_object_list(held)
    if held[1] is not None:
        raise held[1]
    return held[0]


def mean_over_processes(accelerator: Accelerator, sums: Mapping[str, float], images: int) -> dict[str, float]:
    """Turn sums over each process's images into means over all images."""
    from accelerate.utils import gather_object

    parts = gather_object([(dict(sums), images)])
    total = sum(count for _, count in parts)
    return {name: sum(part.get(name, 0.0) for part, _ in parts) / total for name in parts[0][0]}


def release(accelerator: Accelerator, model: nn.Module, prepared: nn.Module) -> None:
    """Remove what `accelerate` added to the model, so that it can be trained again with other settings."""
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    model.__dict__.pop("forward", None)  # unwrapping leaves a bound copy of the class's method here
    model.__dict__.pop("_is_accelerate_prepared", None)
    accelerator.free_memory()
