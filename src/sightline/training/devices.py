"""The accelerator of a run: device, precision, processes and trackers, through Hugging Face's `accelerate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader

from sightline.errors import InputError
from sightline.runtime.devices import require_device
from sightline.runtime.joining import given_by_main, joined
from sightline.runtime.processes import is_main, world_size
from sightline.training.recipe import Recipe
from sightline.words import did_you_mean

if TYPE_CHECKING:
    from accelerate import Accelerator

_Result = TypeVar("_Result")


def make_accelerator(
    recipe: Recipe, folder: Path, trackers: Sequence[Any] = (), device: str | None = None, varying: bool = False
) -> Accelerator:
    """Create an `Accelerator` for a recipe, independent of earlier runs in the same process.

    Args:
        recipe: gives the precision and the gradient accumulation.
        folder: the run's folder; trackers that write files use `folder/trackers`.
        trackers: names known to accelerate ("tensorboard", "wandb", …), or `GeneralTracker` objects.
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the best available, or the choice of `accelerate launch`.
        varying: True if some parameters have no gradient in some steps, which several processes have to find out.

    Raises:
        InputError: the device or tracker is not available, or the device does not support the precision.
    """
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, ProjectConfiguration

    require_device(device)
    require_trackers(trackers)
    chosen, cpu = joined(device)
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
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=varying)],
    )


def training_device(device: str | None) -> torch.device:
    """The device that a training run with this `device` uses, without starting an accelerator.

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


def agreed(device: str | None, function: Callable[[], _Result]) -> _Result:
    """Return the main process's result of `function` in all processes, for use before an accelerator exists."""
    if world_size() == 1:
        return function()
    require_device(device)
    joined(device)
    return given_by_main(is_main(), function)


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
    return function() if accelerator.num_processes == 1 else given_by_main(accelerator.is_main_process, function)


def mean_over_processes(accelerator: Accelerator, sums: Mapping[str, float], images: int) -> dict[str, float]:
    """Turn sums over each process's images into means over all images."""
    from accelerate.utils import gather_object

    parts = gather_object([(dict(sums), images)])
    total = sum(count for _, count in parts)
    return {name: sum(part.get(name, 0.0) for part, _ in parts) / total for name in parts[0][0]}


def prepared_loader(accelerator: Accelerator, loader: DataLoader[Any]) -> Any:
    """Let a loader put its batches on the device and mark the last one of an epoch.

    Unlike `accelerator.prepare` it does not divide the batches among the processes: `EpochBatches` has done so.
    """
    from accelerate.data_loader import prepare_data_loader

    return prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        non_blocking=accelerator.non_blocking,
    )


def release(accelerator: Accelerator, model: nn.Module, prepared: nn.Module) -> None:
    """Remove what `accelerate` added to the model, so that it can be trained again with other settings."""
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    model.__dict__.pop("forward", None)  # unwrapping leaves a bound copy of the class's method here
    model.__dict__.pop("_is_accelerate_prepared", None)
    accelerator.free_memory()
