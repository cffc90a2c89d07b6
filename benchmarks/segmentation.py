"""Segmenters on rendered scenes, on aerial pictures and on cell nuclei, and what a huge picture takes in memory.

    python benchmarks/segmentation.py train   [--only NAME …]    # on scenes, through the command line
    python benchmarks/segmentation.py measure [--only NAME …]
    python benchmarks/segmentation.py real    [--only NAME …]    # from ImageNet's weights and without
    python benchmarks/segmentation.py windows                    # a pass for every pixel against one convolution
    python benchmarks/segmentation.py memory                     # 10 000 × 10 000 pixels, tile by tile

The scenes are those of benchmarks/regions.py, their masks drawn as class maps with a background. Each system has the
same scenes, epochs and one thread. FCN-16s starts from the trained 32s and 8s from 16s, as in the paper (section 4.3),
so a 32s that trained as long as all three stands beside them. Writes benchmarks/results/segmentation.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import regions
import sightline as sl
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results"
WEIGHTS = "WEIGHTS"
SYSTEMS: dict[str, tuple[str, list[str]]] = {
    "sliding window": ("sliding_segmentation", ["--arg", "width=16", "--arg", "hidden=64"]),
    "full resolution": ("full_resolution_net", []),
    "FCN-32s": ("fcn32s_mobilenet_v2", ["--weights", WEIGHTS]),
    "FCN-16s": ("fcn16s_mobilenet_v2", ["--weights", "FCN-32s"]),
    "FCN-8s": ("fcn8s_mobilenet_v2", ["--weights", "FCN-16s"]),
    "FCN-32s, three times as long": ("fcn32s_mobilenet_v2", ["--weights", WEIGHTS]),
    "FCN-ResNet50 (scratch)": ("fcn_resnet50", []),
    "DeconvNet (scratch)": ("deconvnet", ["--arg", "width=16", "--arg", "hidden=256", "--arg", "window=5"]),
    "SegNet (scratch)": ("segnet", ["--arg", "width=16"]),
    "U-Net, valid (scratch)": ("unet", ["--arg", "width=16"]),
    "U-Net, padded (scratch)": ("unet_small", []),
    "U-Net on MobileNet v2": ("unet_mobilenet_v2", ["--weights", WEIGHTS]),
    "U-Net on ResNet-18 (scratch)": ("unet_resnet18", []),
    "DeepLab v3": ("deeplabv3_mobilenet_v2", ["--weights", WEIGHTS]),
    "DeepLab v3 (scratch)": ("deeplabv3_mobilenet_v3_large", []),
    "LR-ASPP (scratch)": ("lraspp_mobilenet_v3_large", []),
}
LONGER = {"FCN-32s, three times as long": 3, "FCN-ResNet50 (scratch)": 1} | dict.fromkeys(
    ["sliding window", "full resolution", *(n for n in SYSTEMS if "scratch" in n and "ResNet50" not in n)], 2
)
"""Times the epochs of the others: from random numbers twice as many, save the largest."""
EARLIER = [
    "Provisional: these rows were trained while a warm-up lasted up to a third of a run, not a tenth as now (DeepLab",
    "v3 also while crops could be larger than their image), so the commands now give other figures. DeepLab v3 was",
    "timed with two threads, the others with one.",
]
"""To be dropped when all rows have been trained anew."""
COMMON = ["--batch-size", "8", "--set", "precision=bf16", "--set", "validate_every=1000", "--set", "workers=0"]
_REAL = ["--batch-size", "8", "--lr", "1e-3", "--set", "precision=bf16"]
REAL: dict[str, tuple[str, str, list[str]]] = {
    "aerial, ImageNet": ("aerial", "unet_mobilenet_v2", ["--weights", WEIGHTS, "--epochs", "60", *_REAL]),
    "aerial, scratch": ("aerial", "unet_mobilenet_v2", ["--epochs", "60", *_REAL]),
    "nuclei, ImageNet": ("nuclei", "unet_mobilenet_v2", ["--weights", WEIGHTS, "--epochs", "16", *_REAL]),
    "nuclei, scratch": ("nuclei", "unet_mobilenet_v2", ["--epochs", "16", *_REAL]),
}
"""Data, model, options; validated every fourth epoch, by which the best is chosen."""


def train(args: argparse.Namespace) -> None:
    data = regions.scenes_of("", args)
    for name in args.only or SYSTEMS:
        catalog, own = SYSTEMS[name]
        folder = args.runs / regions.run_folder(name)
        if folder.exists():
            print(f"{folder} exists: skipped")
            continue
        epochs = args.epochs * LONGER.get(name, 1)
        options = ["--model", catalog, *own, *COMMON, "--epochs", str(epochs)]
        run([str(data), *with_files(options, args)], folder, options, {"OMP_NUM_THREADS": "1"})


def with_files(options: list[str], args: argparse.Namespace) -> list[str]:
    """The options with files in the place of WEIGHTS and of other systems' names."""
    files = {WEIGHTS: str(args.weights)}
    files |= {name: str(args.runs / regions.run_folder(name) / "best.safetensors") for name in SYSTEMS}
    return [files.get(word, word) for word in options]


def run(words: list[str], folder: Path, told: list[str], environment: dict[str, str]) -> None:
    """`sightline train` with these words; what was told and how long it took beside the run."""
    before, began, cpu = os.getloadavg()[0], time.perf_counter(), children()
    subprocess.run(
        [sys.executable, "-m", "sightline", "train", *words, "--name", folder.name, "--runs", str(folder.parent)],
        check=True,
        env=os.environ | environment,
    )
    facts = {"options": told, "train_seconds": round(time.perf_counter() - began), "cpu": round(children() - cpu)}
    facts["load"] = [round(before, 1), round(os.getloadavg()[0], 1)]
    (folder / "benchmark.json").write_text(json.dumps(facts))


def children() -> float:
    """Seconds of the processor that processes started here have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(os.cpu_count() or 1)  # whatever the trainings had
    data = sl.open_dataset(regions.scenes_of("", args))["test"].as_class_map()
    for name in args.only or SYSTEMS:
        folder = args.runs / regions.run_folder(name)
        if not (folder / "benchmark.json").exists():
            print(f"{name}: not trained")
            continue
        model: Any = sl.load(folder).eval()
        images = [data[i][0] for i in range(args.images)]
        spent = []
        with torch.inference_mode():
            with FlopCounterMode(display=False) as counter:
                model(images[:1])
            for image in images:
                began = time.perf_counter()
                model([image])
                spent.append(time.perf_counter() - began)
        store(
            "scenes",
            name,
            {
                "model": SYSTEMS[name][0],
                **json.loads((folder / "benchmark.json").read_text()),
                "parameters": sum(p.numel() for p in model.parameters()),
                "gflops": counter.get_total_flops() / 1e9,
                "ms": 1000 * sorted(spent)[len(spent) // 2],
                "metrics": sl.evaluate(model, data, progress=False).metrics,
                "measured_load": round(os.getloadavg()[0], 1),
                **machine(),
            },
        )
        print(name, f"{1000 * sorted(spent)[len(spent) // 2]:.1f} ms", flush=True)


def real(args: argparse.Namespace) -> None:
    for name in args.only or REAL:
        source, catalog, own = REAL[name]
        folder = args.runs / regions.run_folder(name)
        options = ["--model", catalog, *own, "--set", "validate_every=4", "--set", "workers=0"]
        data = args.real / source
        if not folder.exists():
            run([str(data), *with_files(options, args)], folder, options, {"OMP_NUM_THREADS": str(args.threads)})
        words = ["evaluate", str(folder), str(data), "--split", "val", "--json", "-", "-q"]
        shown = subprocess.run(
            [sys.executable, "-m", "sightline", *words], check=True, capture_output=True, text=True
        ).stdout
        found = json.loads(shown)
        curve = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        store(
            "real",
            name,
            {
                "data": source,
                **json.loads((folder / "benchmark.json").read_text()),
                "threads": args.threads,
                "metrics": found["metrics"],
                "per_class": found["per_class"],
                "curve": [[r["epoch"], r["val/mIoU"]] for r in curve if "val/mIoU" in r],
                **machine(),
            },
        )


def windows(args: argparse.Namespace) -> None:
    """The same network at every pixel: by as many passes, and as a convolution."""
    torch.manual_seed(0)
    model: Any = sl.create_model("sliding_segmentation", ["a", "b", "c"]).eval()
    for height, width in ((24, 24), (48, 64), (96, 128)):
        image = torch.rand(3, height, width)
        found, seconds = {}, {}
        with torch.inference_mode():
            for mode, rounds in (("patches", 3), ("convolution", 15)):
                model.network.mode = mode
                model([image])
                spent = []
                for _ in range(rounds):
                    began = time.perf_counter()
                    found[mode] = model([image])[0].scores
                    spent.append(time.perf_counter() - began)
                seconds[mode] = sorted(spent)[rounds // 2]
        apart = float((found["patches"] - found["convolution"]).abs().max())
        row = {"passes": height * width, **seconds, "apart": apart, "load": round(os.getloadavg()[0], 1)}
        store("windows", f"{width} × {height}", row | machine())
        print(row, flush=True)


def memory(args: argparse.Namespace) -> None:
    """The command on 10 000 × 10 000 pixels, made of the aerial pictures side by side, as PNG and as .npy."""
    folder = args.runs / "memory"
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "huge.npy"
    pieces = [sl.read_image(p, 3) for p in sorted((args.real / "aerial/images/val").glob("*.jpg"))]
    huge = np.lib.format.open_memmap(picture, mode="w+", dtype=np.uint8, shape=(args.side, args.side, 3))
    tiles = [p.permute(1, 2, 0).numpy()[:512, :512] for p in pieces]
    side = min(min(t.shape[:2]) for t in tiles)
    for row, top in enumerate(range(0, args.side, side)):
        for column, left in enumerate(range(0, args.side, side)):
            part = tiles[(5 * row + column) % len(tiles)][: min(side, args.side - top), : min(side, args.side - left)]
            huge[top : top + part.shape[0], left : left + part.shape[1]] = part
    from PIL import Image

    Image.fromarray(huge).save(folder / "huge.png", compress_level=1)
    del huge
    model = args.runs / regions.run_folder("aerial, ImageNet") / "best.safetensors"
    code = (
        "import sys, sightline as sl; from sightline.deploy.tiled import predict_tiled; "
        "predict_tiled(sl.load(sys.argv[1]), sys.argv[2], 512, 64, out=sys.argv[3])"
    )
    cases = {
        ".npy, `predict_tiled`": [sys.executable, "-c", code, str(model), str(picture), str(folder / "ids.npy")],
        ".png, `sightline predict … --tile 512`": [
            *(sys.executable, "-m", "sightline", "predict", str(model), str(folder / "huge.png")),
            *("--out", str(folder / "found"), "--tile", "512", "--no-pictures", "-q"),
        ],
    }
    for name, command in cases.items():
        subprocess.run(["rm", "-rf", str(folder / "found")], check=True)
        began = time.perf_counter()
        peak = peak_of(command)
        seconds = time.perf_counter() - began
        facts = {"side": args.side, "seconds": round(seconds), "peak": peak, "load": round(os.getloadavg()[0], 1)}
        store("memory", name, facts | machine())
        print(name, facts, flush=True)


def peak_of(command: list[str]) -> int:
    """Bytes of memory that a process holds at most."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command], check=True, capture_output=True, text=True, env=os.environ
    )
    return int(done.stdout.splitlines()[-1]) * 1024


PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
"""A process of its own, whose only child is the command."""


def machine() -> dict[str, str]:
    return {
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def store(part: str, name: str, row: dict[str, Any]) -> None:
    """Write one row, whatever another process has written meanwhile."""
    file = RESULTS / "segmentation.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results.setdefault(part, {})[name] = row
    file.write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(table(results))


def table(results: dict[str, Any]) -> str:
    lines = ["# Segmentation", "", "Made by `python benchmarks/segmentation.py`.", ""]
    scenes = {name: results["scenes"][name] for name in SYSTEMS if name in results.get("scenes", {})}
    if scenes:
        one = next(iter(scenes.values()))
        lines += [
            "## Rendered scenes",
            "",
            "400 scenes of 160×160 pixels to train on, 100 to test; five classes and the background. One thread each",
            "while training, bf16; MobileNet v2 from its ImageNet weights, the others from random numbers with",
            "twice the epochs (all but the largest): who learns slowly looks weak here. Operations: two a",
            "multiply-add, of one image. Time: median of one image, preprocessing included, not fused.",
            *EARLIER,
            f"{one['machine'].rsplit(',', 1)[0]}; {one['versions']}.",
            "",
            "| system | epochs | parameters | GFLOP | mean IoU | pixels right | boundary F | training, CPU s "
            "| ms (load) |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for name, r in scenes.items():
            m = r["metrics"]
            lines.append(
                f"| {name} | {r['options'][-1]} | {r['parameters'] / 1e6:.2f} M | {r['gflops']:.2f} | {m['mIoU']:.3f} "
                f"| {m['pixel_accuracy']:.3f} | {m['boundary_F']:.3f} "
                f"| {r['cpu']} | {r['ms']:.1f} ({r['measured_load']}) |"
            )
        lines += ["", "Commands (`sightline train SCENES` …):", ""]
        lines += [f"- {name}: `{' '.join(r['options'])}`" for name, r in scenes.items()]
    found = {name: results["real"][name] for name in REAL if name in results.get("real", {})}
    if found:
        one = next(iter(found.values()))
        lines += [
            "",
            "## Real pictures: transfer against scratch",
            "",
            "A U-Net on MobileNet v2, from ImageNet's weights and from random numbers, with the same data, epochs and",
            "so minutes. Aerial: 56 pictures to train on, 16 to validate (parts of the same eight areas), five",
            "classes. Nuclei: 164 and 52 pictures, nucleus against background. The validation pictures also chose the",
            "best epoch. Minutes are the clock's, other measurements that a run was halted for included.",
            f"{one['machine']}; {one['versions']}.",
            "",
            "| run | mean IoU | pixels right | IoU of each class | boundary F | minutes | threads | CPU s | load |",
            "|---|---:|---:|---|---:|---:|---:|---:|---|",
        ]
        for name, r in found.items():
            m = r["metrics"]
            classes = ", ".join(f"{c} {v['IoU']:.3f}" for c, v in r["per_class"].items())
            lines.append(
                f"| {name} | {m['mIoU']:.3f} | {m['pixel_accuracy']:.3f} | {classes} | {m['boundary_F']:.3f} "
                f"| {r['train_seconds'] / 60:.1f} | {r['threads']} | {r['cpu']} | {r['load'][0]} → {r['load'][1]} |"
            )
        lines += ["", "Mean IoU by epoch: "]
        lines += [f"- {n}: " + ", ".join(f"{e} {v:.3f}" for e, v in r["curve"]) for n, r in found.items()]
        lines += ["", "Commands (`sightline train DATA` …):", ""]
        lines += [f"- {name}: `{' '.join(r['options'])}`" for name, r in found.items()]
    if results.get("windows"):
        last = list(results["windows"].values())[-1]
        lines += [
            "",
            "## A pass for every pixel, and one convolution",
            "",
            "`sliding_segmentation` both ways, and the largest difference of a probability. An image of 640×480 would",
            f"take 307,200 passes: {307_200 / last['passes'] * last['patches']:.0f} s at the last row's speed.",
            "",
            "| pixels | passes | s in passes | s as convolution | ratio | apart |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for name, r in results["windows"].items():
            lines.append(
                f"| {name} | {r['passes']} | {r['patches']:.3f} | {r['convolution']:.4f} "
                f"| {r['patches'] / r['convolution']:.0f} | {r['apart']:.1e} |"
            )
    if results.get("memory"):
        lines += [
            "",
            "## A huge picture",
            "",
            "Aerial pictures side by side, segmented in tiles of 512 pixels that share 64; the most memory the process",
            "ever held, PyTorch itself included.",
            "",
            "| | pixels | peak GB | seconds (load) |",
            "|---|---|---:|---:|",
        ]
        for name, r in results["memory"].items():
            peak = r["peak"] / 1e9
            lines.append(f"| {name} | {r['side']} × {r['side']} | {peak:.2f} | {r['seconds']} ({r['load']}) |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure", "real", "windows", "memory"])
    parser.add_argument("--data", type=Path, default=Path("runs/regions/scenes"))
    parser.add_argument("--real", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/segmentation"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1, help="of the trainings on real pictures")
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=40, help="timed one by one")
    parser.add_argument("--only", nargs="*", choices=[*SYSTEMS, *REAL], default=[])
    args = parser.parse_args()
    {"train": train, "measure": measure, "real": real, "windows": windows, "memory": memory}[args.what](args)


if __name__ == "__main__":
    main()
