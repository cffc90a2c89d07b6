"""Devices: check that they exist, and run a model on one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from sightline.errors import InputError


def require_device(device: torch.device | str | None) -> None:
    """Check that a device exists.

    Raises:
        InputError: it does not; the message lists the available devices.
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
    """Context in which the model is in eval mode on `device` (None for its own); both are restored afterwards.

    Raises:
        InputError: the device does not exist.
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
        for module, training in modes:  # one by one: frozen parts of a training model stay in eval mode
            module.training = training
