"""A training step of this detector and of Ultralytics' 11n on the same machine, process after process in turns.

    python benchmarks/peer_training.py --peer PYTHON [--turns 3] [--rounds 5]

PYTHON is the interpreter of another environment, in which `ultralytics` is installed. A step is a batch of 8 random
pictures of 320×320 pixels with 10 boxes of 3 classes each: forward pass, assignment, losses, backward pass and AdamW.
A short training chooses bf16 by itself on a processor on which that is clearly faster; the peer trains in float32 on a
CPU. Reading and augmenting images is not part of it. CPU time of one thread is measured, which other processes change
little. Writes benchmarks/results/peer_training.json and .md.
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
import json, statistics, time, torch
torch.set_num_threads(1)
SIZE, BATCH, CLASSES, OBJECTS = 320, 8, 3, 10
g = torch.Generator().manual_seed(0)
images = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=g) for _ in range(BATCH)]
centres = [torch.rand(OBJECTS, 2, generator=g) * 200 + 60 for _ in images]
halves = [torch.rand(OBJECTS, 2, generator=g) * 40 + 10 for _ in images]
boxes = [torch.cat([c - h, c + h], 1) for c, h in zip(centres, halves)]
labels = [torch.randint(0, CLASSES, (OBJECTS,), generator=g) for _ in images]
def timed(step):
    spent = []
    for turn in range({rounds} + 2):
        began = time.process_time()
        step()
        spent.append(1e3 * (time.process_time() - began) / BATCH)
    return statistics.median(spent[2:])
"""
OURS = """
import sightline as sl
from sightline.runtime.allocator import kept_memory
from sightline.structures import Classes, Instances
from sightline.training.half import guarded
names = Classes([str(i) for i in range(CLASSES)])
targets = [Instances((SIZE, SIZE), classes=names, boxes=b, labels=l) for b, l in zip(boxes, labels)]
model = sl.create_model("{name}", names, image_size=SIZE, **{arguments}).train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4)
def step():
    with guarded(torch.device("cpu"), "{precision}"), torch.autocast("cpu", torch.bfloat16, "{precision}" == "bf16"):
        losses = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
with kept_memory():  # as in every training
    print(json.dumps(timed(step)))
"""
PEER = """
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
model = DetectionModel("yolo11n.yaml", nc=CLASSES, verbose=False).train()
model.args = get_cfg()
optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
def step():
    all = torch.cat(boxes) / SIZE
    batch = dict(img=torch.stack(images).float() / 255, cls=torch.cat(labels)[:, None].float())
    batch |= dict(bboxes=torch.cat([(all[:, :2] + all[:, 2:]) / 2, all[:, 2:] - all[:, :2]], 1))
    batch |= dict(batch_idx=torch.arange(BATCH).repeat_interleave(OBJECTS).float())
    model.loss(batch)[0].sum().backward()
    optimizer.step()
    optimizer.zero_grad()
print(json.dumps(timed(step)))
"""
LITE, FROZEN = "sightline_lite0", {"norm": "frozen"}
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "sightline_lite0, as a short training plans it: bf16": (LITE, FROZEN | {"trainable_layers": 3}, "bf16"),
    "sightline_lite0, the last two parts of the backbone, bf16": (LITE, FROZEN | {"trainable_layers": 2}, "bf16"),
    "sightline_lite0, the whole backbone, bf16": (LITE, FROZEN, "bf16"),
    "sightline_lite0, as a short training plans it, float32": (LITE, FROZEN | {"trainable_layers": 3}, "no"),
    "sightline_n, float32": ("sightline_n", {}, "no"),
}
NAME = "Ultralytics 11n"


def once(python: str, code: str, **words: Any) -> float:
    """CPU milliseconds of a step per image: the median of a process of its own."""
    text = TIMED.format(**words) + code.format(**words)
    source = str(Path(sightline.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", text], check=True, capture_output=True, text=True, env=env)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    found: dict[str, list[float]] = {name: [] for name in (*CASES, NAME)}
    for _ in range(args.turns):
        for case, (name, arguments, precision) in CASES.items():
            words = {"name": name, "arguments": arguments, "precision": precision}
            found[case].append(once(sys.executable, OURS, rounds=args.rounds, **words))
        found[NAME].append(once(args.peer, PEER, rounds=args.rounds))
        print({name: f"{times[-1]:.1f} ms" for name, times in found.items()}, flush=True)
    show = "from importlib.metadata import version as v; print('Ultralytics', v('ultralytics') + ', torch', v('torch'))"
    peer = subprocess.run([args.peer, "-c", show], check=True, capture_output=True, text=True).stdout.strip()
    results = {"found": found, "load": load, "peer": peer, **machine()}
    file = RESULTS / "peer_training.json"
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(table(results))
    print(table(results))


def table(results: dict[str, Any]) -> str:
    found = results["found"]
    peer = statistics.median(found[NAME])
    lines = [
        "# A training step beside the peer",
        "",
        "A step of 8 images of 320×320 pixels without reading them, as CPU time of one thread.",
        f"Processes in turns, {len(found[NAME])} of each, the median of each, then of all; load before "
        f"{results['load']}.",
        f"{results['machine']}; {results['versions']}; {results['peer']}.",
        "Made by `python benchmarks/peer_training.py`.",
        "",
        "| network | ms per image | least … most | images per second, times the peer's |",
        "|---|---:|---:|---:|",
    ]
    for name, times in found.items():
        own, spread = statistics.median(times), f"{min(times):.1f} … {max(times):.1f}"
        lines.append(f"| {name} | {own:.1f} | {spread} | {peer / own:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
