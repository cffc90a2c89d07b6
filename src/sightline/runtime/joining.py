"""Connect the processes of a job with each other, and let them agree."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

_Result = TypeVar("_Result")


def joined(device: str | None) -> tuple[torch.device, bool]:
    """Connect with the other processes; return the device of this process, and whether it must use the CPU.

    Args:
        device: "cpu", "cuda", "cuda:1" or "mps"; None for the best available.
    """
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import parse_flag_from_env

    # accelerate keeps one state per process and refuses a second run with another precision or device.
    single = not torch.distributed.is_available() or not torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=single)
    if device is not None and device.startswith("cuda:") and single:
        torch.cuda.set_device(device)  # accelerate's "cuda" is torch's current GPU
    without = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    cpu = device == "cpu" or (device is None and without)  # without it, accelerate connects no processes
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


def given_by_main(main: bool, function: Callable[[], _Result]) -> _Result:
    """Call `function` in the main process; return its result, or raise its exception, in all processes."""
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
