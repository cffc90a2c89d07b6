"""What bfloat16 costs in accuracy: a trained model and its optimised copies, scored on labelled images.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/bf16.py RUN --data DATA [--split val]

RUN is the folder of a training that left images out. Each copy of `sl.optimize`, in float32 and in bfloat16, predicts
the same images as the model. One thread; the CPU time is that of the whole evaluation, decoding of files included.
Writes benchmarks/results/bf16.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import torch

import sightline as sl
from sightline.deploy.differences import TOLERANCE, Difference
from sightline.deploy.optimise import HALF_TOLERANCE
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results" / "bf16.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, part = sl.load(args.run), sl.open_dataset(args.data)[args.split]
    models, words = {"the model": model}, []
    for title, bf16 in (("optimised, float32", False), ("optimised, bfloat16", True)):
        images = [part[i][0] for i in range(4)]
        any_difference = Difference(scores=1.0, pixels=1e4, labels=1.0, alone=1.0)
        models[title], report = sl.optimize(model, bf16=bf16, images=images, repeats=1, tolerance=any_difference)
        allowed = HALF_TOLERANCE if bf16 else TOLERANCE
        kept = "within" if report.difference.within(allowed) else "more than"
        words.append(f"- {title}: {report.difference}; {kept} what `sl.optimize` allows by default.")
    rows: list[str] = []
    for title, own in models.items():
        began = time.process_time()
        result = sl.evaluate(own, part, batch_size=1, progress=False)
        spent = (time.process_time() - began) / len(part)
        names = list(result.metrics)[:3]
        if not rows:
            rows = [f"| | {' | '.join(names)} | CPU ms per image |", f"|---|{'---:|' * (len(names) + 1)}"]
        numbers = (f"{result.metrics[name]:.4f}" for name in names)
        rows.append(f"| {title} | {' | '.join(numbers)} | {1e3 * spent:.0f} |")
        print(rows[-1], flush=True)
    lines = [
        "# What bfloat16 costs in accuracy",
        "",
        f"`{model.name}`, {len(model.classes)} classes, scored on the {len(part)} images of the split "
        f"{args.split} of {args.data.name}, one by one. Made by `benchmarks/bf16.py`.",
        "",
        *rows,
        "",
        "The largest differences of results on four of the images, as `sl.optimize` reports them:",
        "",
        *words,
        "",
        f"{cpu_name()}, {os.cpu_count()} cores, one thread, load {os.getloadavg()[0]:.0f}; Python "
        f"{platform.python_version()}, torch {torch.__version__}.",
        "",
    ]
    RESULTS.write_text("\n".join(lines))
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
