"""Where a model runs: devices that are there, and a model brought to one for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from sightline.errors import InputError


def require_device(device: torch.device | str | None) -> None:
    """Refuse a device that is not there.

    Raises:
        InputError: naming the devices there are.
    """
    if device is None:
        return
    device = str(device)
    kind, _, number = device.partition(":")
    if device == "cpu":
        return
    if kind == "cuda" and (not number or number.isdigit()) and int(number or 0) < torch.cuda.device_count():
        return
    if device == "mps" and torch.backends.mps.is_available():
        return
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    raise InputError(f"device is {device!r}, but this machine does not have it; it has {', '.join(there)}")


@contextmanager
def running(model: nn.Module, device: torch.device | str | None) -> Iterator[torch.device]:
    """The model in eval mode on `device` (None: where it is); afterwards it is again as and where it was.

    Raises:
        InputError: no such device.
    """
    modes = [(module, module.training) for module in model.modules()]
    home = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    require_device(device)
    place = home if device is None else torch.device(device)
    try:
        if place != home:
            model.to(place)
        model.eval()
        yield place
    finally:
        if place != home:
            model.to(home)
        for module, training in modes:  # module by module: frozen parts of a model in training stay in eval mode
            module.training = training
