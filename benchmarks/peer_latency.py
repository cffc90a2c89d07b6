"""One picture of 480×640: this detector and Ultralytics' 11n on the same machine, process after process in turns.

    python benchmarks/peer_latency.py --peer PYTHON [--turns 5] [--threads 2]

PYTHON is the interpreter of another environment, in which `ultralytics` is installed; this package is also timed in
that one, with its PyTorch. Both networks have random weights and 80 classes, folded batch norms, and are given a uint8
picture; preprocessing, suppression and results, with pasted masks, are included. A ResNet-18 at 224×224 is timed in
each process beside it (folded in this package's, torchvision's as it is in the peer's), by which a machine's slow
minutes can be told.

Ultralytics sets the number of PyTorch's threads itself, to one less than the machine has cores, whatever was set
before. It is timed so, as its users have it, and with the number of threads that all others have. With one thread, CPU
time is measured, which other processes change little; with more, wall time, on a machine that is otherwise idle.
Writes benchmarks/results/peer_latency.json, with a row per number of threads, and .md from it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import sightline
from sightline_detector import RESULTS, machine

TIMED = """
import json, statistics, time
clock = time.process_time if {threads} == 1 else time.perf_counter
def timed(call, rounds):
    spent = []
    for turn in range(rounds + 5):
        began = clock()
        call()
        spent.append(1e3 * (clock() - began))
    return statistics.median(spent[5:])
import numpy as np, torch
torch.set_num_threads({threads}); torch.manual_seed(0)
pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
"""
OURS = """
import sightline as sl
from sightline.nn.layers import fuse
model = fuse(sl.create_model("{name}", [str(i) for i in range(80)]).eval())
resnet = fuse(sl.create_model("resnet18", [str(i) for i in range(1000)]).eval())
picture = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
small = picture[:, :224, :224].contiguous()
with torch.inference_mode():
    detector = timed(lambda: [getattr(r, "masks", None) for r in model([picture])], {rounds})
    print(json.dumps([detector, timed(lambda: resnet([small]), {rounds})]))
"""
PEER = """
from torchvision.models import resnet18
from ultralytics import YOLO
from ultralytics.utils import torch_utils
if {forced}:
    torch_utils.NUM_THREADS = {threads}
model, resnet = YOLO("yolo11n.yaml"), resnet18().eval().to(memory_format=torch.channels_last)
x = torch.rand(1, 3, 224, 224).contiguous(memory_format=torch.channels_last)
detector = timed(lambda: model.predict(pixels, imgsz=(480, 640), device="cpu", verbose=False), {rounds})
with torch.inference_mode():
    print(json.dumps([detector, timed(lambda: resnet(x), {rounds})]))
"""


def once(python: str, code: str, **words: Any) -> list[float]:
    """Milliseconds of the detector and of the ResNet-18 beside it, each the median of a process of its own."""
    text = TIMED.format(**words) + code.format(**words)
    source = str(Path(sightline.__file__).parents[1])
    done = subprocess.run(
        [python, "-c", text], check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": source}
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    words = {"rounds": args.rounds, "threads": args.threads}
    ours = ("sightline_n", "sightline_lite0", "sightline_lite0_mask", "sightline_lite0_pose", "sightline_s")
    cases = {
        **{name: (sys.executable, OURS, words | {"name": name}) for name in ours},
        "sightline_lite0, the peer's environment": (args.peer, OURS, words | {"name": "sightline_lite0"}),
        "Ultralytics 11n, as many threads": (args.peer, PEER, words | {"forced": True}),
        "Ultralytics 11n, threads as it sets them": (args.peer, PEER, words | {"forced": False}),
    }
    load = round(os.getloadavg()[0], 1)
    found: dict[str, list[list[float]]] = {name: [] for name in cases}
    for _ in range(args.turns):
        for name, (python, code, own) in cases.items():
            found[name].append(once(python, code, **own))
            print(name, *(f"{v:.1f} ms" for v in found[name][-1]), flush=True)
    show = "from importlib.metadata import version as v; print('Ultralytics', v('ultralytics') + ', torch', v('torch'))"
    peer = subprocess.run([args.peer, "-c", show], check=True, capture_output=True, text=True).stdout.strip()
    file = RESULTS / "peer_latency.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    results[str(args.threads)] = {"found": found, "load": load, "peer": peer, **machine()}
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(table(results))
    print(table(results))


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Latency beside the peer",
        "",
        "One picture of 480×640, random weights, 80 classes, folded, preprocessing and suppression included.",
        "The ResNet-18 is folded beside sightline, not beside the peer: compare it with its own kind alone.",
        "Ultralytics sets its threads itself, to one less than the machine has cores, unless it is made to use more.",
        "Made by `python benchmarks/peer_latency.py`, once for each number of threads.",
    ]
    for threads, own in sorted(results.items()):
        turns = len(next(iter(own["found"].values())))
        clock = "CPU time of one thread" if threads == "1" else f"wall time of {threads} threads"
        lines += [
            "",
            f"## {clock[0].upper()}{clock[1:]}",
            "",
            f"Processes in turns, {turns} of each, the median of each, then of all; load before {own['load']}.",
            f"{own['machine']}; {own['versions']}; {own['peer']}.",
            "",
            "| network | median ms | least … most | ResNet-18 at 224×224 beside it, ms |",
            "|---|---:|---:|---:|",
        ]
        for name, rows in own["found"].items():
            times, beside = zip(*rows, strict=True)
            spread = f"{min(times):.1f} … {max(times):.1f}"
            lines.append(f"| {name} | {statistics.median(times):.1f} | {spread} | {statistics.median(beside):.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
