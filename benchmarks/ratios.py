"""The table of benchmarks/results/ratios.json, which benchmarks/peers/ratios.py writes.

python benchmarks/ratios.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NOTES = """\
yolo11n and yolo26n are Ultralytics' networks (2.6 million parameters with 90 classes), and Sightline's beside them is
`sightline_n` (1.5 million), at its own image size. All others are the same network in both.

## Where the time goes

By PyTorch's profiler, on the AMD processor with 2 threads:

- `fasterrcnn_resnet50_fpn`, optimised: convolutions 56 %, the two linear layers of the box head 14 %, RoI align 14 %,
  sums of shortcuts and pyramid levels 6 %; the rest selects proposals and detections. oneDNN computes the convolutions
  in both. It also computes the linear layers of optimised models, in 0.45 of the time of MKL on this processor.
  With `compile=True` in addition, the ratio stays 0.49.
- `keypointrcnn_resnet50_fpn`, optimised: the eight convolutions of the keypoint head alone 78 %, all convolutions 89 %.
  The test picture has 100 detections, each of which goes through that head.
- `fcn_resnet50`, optimised: convolutions 91 %, the head's first alone 27 %. `fcos_resnet50_fpn`, optimised:
  convolutions 90 %, group norms 4 %. The same library computes the same convolutions in both, so in float32 there is
  little to gain besides.

Batches and weights lie channels last. Before shortcuts were added in place and residual blocks were folded,
`fcn_resnet50` took 0.95 of torchvision's time with channels last and 1.08 with contiguous tensors, optimised 0.95 and
1.08, too (AMD, 2 threads, three turns at a load of 26). The head's first convolution, 3×3 from 2048 to 512 channels,
takes 1.2 times as long channels last; 1×1 convolutions by oneDNN take 0.5 to 0.65 of the time. On the Intel processor
the network took 1.12 of torchvision's time then; it has not been measured there since.
""".splitlines()
TARGET = 0.6
FILE = Path(__file__).parent / "results" / "ratios.json"


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Time beside torchvision",
        "",
        "Both networks in one process, with the same weights and picture, in turns; medians of the CPU time of the",
        "process, and in brackets of the wall time. Ratios below 1 mean that Sightline takes less. The load is that of",
        "the machine during the measurement, with other processes; where it is high, wall times say little. Ratios of",
        "one processor do not hold for another.",
        "Networks that are not listed have not been measured.",
        "Made by `benchmarks/peers/ratios.py` and `benchmarks/ratios.py`.",
        "",
        f"{results['versions']}.",
        "",
        "## Predictions at batch 1",
        "",
        "A picture of 480×640, preprocessing, suppression, pasted masks and class maps included. Optimised is",
        "`sl.optimize` in float32, without compiling; bf16 is `sl.optimize(bf16=True)`. The size",
        "is that inside the network: Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS are timed at smaller sizes",
        "than their defaults. torchvision's segmenters are timed without an auxiliary head.",
        "",
        "| network | size | threads | peer, CPU ms | Sightline | optimised | bf16 | turns | load | CPU | results |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for name, row in results.get("eager", {}).items():
        for threads, times in timed(row):
            ours, fast = (ratio(times[key], times["peer"]) for key in ("ours", "optimised"))
            half = ratio(times["bf16"], times["peer"]) if "bf16" in times else ""
            facts = f"{times['peer']['cpu']:.0f} | {ours} | {fast} | {half} | {times['peer']['turns']} | "
            facts += f"{times['load']:.0f} | {processor(times)}"
            lines.append(f"| {name} | {row.get('size', '')} | {threads} | {facts} | {row['same']} |")
    lines += ["", *targets(results.get("eager", {})), *differences(results.get("eager", {}))]
    lines += [
        "",
        "## Training",
        "",
        "Losses, backward pass and a step of SGD with momentum; all layers and batch norms are trained.",
        "",
        "| network | batch | threads | peer, CPU ms | Sightline | images/s against it | turns | load | CPU |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in results.get("training", {}).items():
        for threads, times in timed(row):
            more = times["peer"]["cpu"] / times["ours"]["cpu"]
            facts = f"{times['peer']['cpu']:.0f} | {ratio(times['ours'], times['peer'])} | {more:.2f} | "
            facts += f"{times['peer']['turns']} | {times['load']:.0f} | {processor(times)}"
            lines.append(f"| {name} | {row['batch']}×{row['size']} | {threads} | {facts} |")
    return "\n".join([*lines, "", *NOTES]) + "\n"


def targets(rows: dict[str, Any]) -> list[str]:
    """Which networks take at most 0.6 of the peer's CPU time with two threads, in float32, in bf16, or not."""
    found: dict[str, list[str]] = {"float32": [], "bf16": [], "unknown": [], "slower": []}
    for name, row in rows.items():
        if "2" not in row:
            continue
        least = {
            key: row["2"][own]["cpu"] / row["2"]["peer"]["cpu"]
            for key, own in (("float32", "optimised"), ("bf16", "bf16"))
            if own in row["2"]
        }
        there = [key for key, value in least.items() if round(value, 2) <= TARGET]
        found[there[0] if there else "unknown" if "bf16" not in least else "slower"].append(f"`{name}`")
    texts = {
        "float32": f"at most {TARGET} of the peer's CPU time when optimised in float32",
        "bf16": f"more than {TARGET} in float32, at most {TARGET} in bf16 alone",
        "unknown": f"more than {TARGET} in float32, not measured in bf16",
        "slower": f"more than {TARGET} in both",
    }
    lines = [f"- {text}: {', '.join(found[key])}" for key, text in texts.items() if found[key]]
    return ["Two threads:", "", *lines, ""]


def differences(rows: dict[str, Any]) -> list[str]:
    """What `sl.optimize` reported of the results of the picture."""
    lines = [
        "The largest differences that `sl.optimize` reported on this picture, whose weights are not trained (what bf16",
        "changes in a trained detector is in `bf16.md`):",
        "",
        "| network | optimised | bf16 |",
        "|---|---|---|",
    ]
    for name, row in rows.items():
        if "differences" in row:
            own = row["differences"]
            lines.append(f"| {name} | {own['optimised']} | {own.get('bf16', '')} |".replace(" on 1 images", ""))
    return lines


def timed(row: dict[str, Any]) -> list[tuple[str, Any]]:
    """Number of threads, and the times measured with it."""
    return sorted((key, value) for key, value in row.items() if key.isdigit())


def processor(times: dict[str, Any]) -> str:
    """The processor that was measured on, without its marks: "Intel Xeon"."""
    name = str(times["machine"]).split(",")[0]
    return name.replace("(R)", "").replace(" Processor", "")


def ratio(own: dict[str, float], peer: dict[str, float]) -> str:
    return f"{own['cpu'] / peer['cpu']:.2f} ({own['wall'] / peer['wall']:.2f})"


if __name__ == "__main__":
    FILE.with_suffix(".md").write_text(table(json.loads(FILE.read_text())))
    print(table(json.loads(FILE.read_text())))
