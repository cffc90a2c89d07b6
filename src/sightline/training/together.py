"""Keep the model equal in all processes of a training run, beyond the gradients that are averaged in each step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sightline.training.freezing import NORMS

if TYPE_CHECKING:
    from accelerate import Accelerator


@torch.no_grad()
def copy_from_main(accelerator: Accelerator, model: nn.Module) -> None:
    """Give the model in every process the weights of the main process's."""
    if accelerator.num_processes > 1:
        for tensor in (*model.parameters(), *model.buffers()):
            values = tensor.detach().contiguous()
            torch.distributed.broadcast(values, 0)
            tensor.copy_(values)


def keep_own_statistics(net: nn.Module) -> None:
    """Let each process accumulate the running statistics of its own images, for `average_statistics`."""
    if isinstance(net, DistributedDataParallel):
        net.broadcast_buffers = False
        # of depthwise convolutions in channels-last order, whose gradients are copied once more
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")


@torch.no_grad()
def average_statistics(accelerator: Accelerator, models: Sequence[nn.Module]) -> None:
    """Average the running statistics of batch normalisation over the processes; other buffers become the main one's.

    Each process normalises by the statistics of its own images. Running statistics are linear in them, so the average
    of the processes' means is the mean over all images; the average variance lacks the variance between the processes.
    """
    if accelerator.num_processes == 1:
        return
    for model in {id(model): model for model in models}.values():
        norms = [m for m in model.modules() if isinstance(m, NORMS) and m.running_mean is not None]
        averaged = [tensor for m in norms for tensor in (m.running_mean, m.running_var) if tensor is not None]
        if averaged:
            flat = torch.cat([tensor.flatten() for tensor in averaged])
            torch.distributed.all_reduce(flat)
            flat /= accelerator.num_processes
            for tensor, mean in zip(averaged, flat.split([tensor.numel() for tensor in averaged]), strict=True):
                tensor.copy_(mean.view_as(tensor))
        known = {id(tensor) for tensor in averaged}
        for buffer in model.buffers():
            if id(buffer) not in known:
                values = buffer.contiguous()
                torch.distributed.broadcast(values, 0)
                buffer.copy_(values)
