"""A system trained and tested on rendered scenes through the command line, and what an image costs it on this machine.

Used by dense.py and segmentation.py.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl
from sightline.cli.inputs import group_arguments, parse_pairs
from sightline.training.run import cpu_name


def sightline(*words: str | Path, environment: dict[str, str] | None = None, capture: bool = False) -> str:
    """The command line in a process of its own; what it printed, if captured."""
    command, out = [sys.executable, "-m", "sightline", *map(str, words)], subprocess.PIPE if capture else None
    done = subprocess.run(command, check=True, env=os.environ | (environment or {}), stdout=out, text=True)
    return done.stdout or ""


def train(
    words: list[str],
    folder: Path,
    options: list[str],
    environment: dict[str, str],
    test: tuple[Path, str] | None = None,
    device: str | None = None,
) -> None:
    """`sightline train` with these words, and a test where it trained; options, times and metrics beside the run.

    Args:
        words: data and options.
        folder: of the run.
        options: as the table shall tell them.
        environment: variables that differ.
        test: a dataset and its split, to be measured with what was trained.
        device: to train and test on; None for the best there is.
    """
    on = [] if device is None else ["--device", device]
    before, began, cpu = os.getloadavg()[0], time.perf_counter(), children()
    sightline("train", *words, *on, "--name", folder.name, "--runs", folder.parent, environment=environment)
    facts: dict[str, Any] = {
        "options": options,
        "train_seconds": round(time.perf_counter() - began),
        "cpu": round(children() - cpu),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "trained_on": trained_on(folder),
    }
    if test is not None:
        data, split = test
        said = sightline("evaluate", folder, data, "--split", split, *on, "--json", "-", "-q", capture=True)
        facts["metrics"] = json.loads(said)["metrics"]
    (folder / "benchmark.json").write_text(json.dumps(facts))


def trained_on(folder: Path) -> str:
    """The GPU of a run, or its processor and threads."""
    known = json.loads((folder / "environment.json").read_text())
    return known["device_name"] or f"{known['cpu']}, {known['threads']} threads"


def children() -> float:
    """Seconds of the processor that processes started here have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost(folder: Path, catalog: str, options: list[str], data: Any, count: int) -> dict[str, Any]:
    """Parameters, operations and the median time of one image on the processor, with all cores.

    Args:
        folder: of a run; where its weights are gone, the network is built anew from random numbers.
        catalog, options: the model and the options that it was trained with.
        data: images [C, H, W] with targets, of which the first are taken.
        count: how many are timed, one by one.
    """
    torch.set_num_threads(os.cpu_count() or 1)  # whatever the trainings had
    kept = (folder / "best.safetensors").exists()
    if kept:
        model: Any = sl.load(folder)
    else:
        given = [word for before, word in itertools.pairwise(options) if before == "--arg"]
        torch.manual_seed(0)
        model = sl.create_model(catalog, data.classes, **group_arguments(parse_pairs(given, "--arg")))
    model.eval()
    images = [data[i][0] for i in range(count)]
    spent = []
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            model(images[:1])
        for image in images:
            began = time.perf_counter()
            model([image])
            spent.append(time.perf_counter() - began)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflops": counter.get_total_flops() / 1e9,
        "ms": 1000 * sorted(spent)[len(spent) // 2],
        "timed_as_trained": kept,
        "measured_load": round(os.getloadavg()[0], 1),
        **machine(),
    }


def machine() -> dict[str, str]:
    return {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }
