"""The processes that a launcher, such as `accelerate launch` or `torchrun`, started for one job."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from typing import Any

_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Variables by which torchrun and the kinds of MPI number their processes; those that accelerate reads."""
_CLAIM = "sightline/error"


def world_size() -> int:
    """Number of processes launched for this job; 1 without a launcher."""
    return max(1, _number(_COUNTS, 1))


def process_index() -> int:
    """The number of this process among them, from 0."""
    return _number(_RANKS, 0) if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the main process, which writes files and prints."""
    return process_index() == 0


def _number(names: tuple[str, ...], default: int) -> int:
    text = next((os.environ[name] for name in names if name in os.environ), "")
    return int(text) if text.isdigit() else default


def is_first_error() -> bool:
    """Return True in the first process that calls this: an error that ends all processes is then printed once."""
    if world_size() == 1:
        return True
    try:
        store = _store()
        return is_main() if store is None else bool(store.add(_CLAIM, 1) == 1)
    except Exception:  # the process that holds the store has ended, after printing its error
        return False


def _store() -> Any:
    """The key-value store that the processes share; None if there is none yet."""
    from torch import distributed
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # the launcher holds it
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(*place, is_master=False, timeout=timedelta(seconds=10))
    with suppress(Exception):
        if distributed.is_available() and distributed.is_initialized():
            return distributed.distributed_c10d._get_default_store()
    return None
