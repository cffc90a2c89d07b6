"""Segmenters on rendered scenes, on aerial pictures and on cell nuclei, and what a huge picture takes in memory.

    python benchmarks/segmentation.py train   [--only NAME …] [--device cuda]    # on scenes, through the command line
    python benchmarks/segmentation.py measure [--only NAME …]
    python benchmarks/segmentation.py real    [--only NAME …]    # from ImageNet's weights and without
    python benchmarks/segmentation.py windows                    # a pass for every pixel against one convolution
    python benchmarks/segmentation.py memory                     # 10 000 × 10 000 pixels, tile by tile

The scenes are those of benchmarks/regions.py, their masks drawn as class maps with a background. Each system has the
same scenes and epochs. FCN-16s starts from the trained 32s and 8s from 16s, as in the paper (section 4.3),
so a 32s that trained as long as all three stands beside them. Writes benchmarks/results/segmentation.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import regions
import scene_runs
import sightline as sl

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
SHARE = dict.fromkeys(["FCN-32s", "FCN-16s", "FCN-8s"], 0.5) | {"FCN-32s, three times as long": 1.5}
"""Of the epochs: FCN's three stages follow each other."""
COMMON = [
    "--batch-size",
    "8",
    "--set",
    "precision=bf16",
    "--set",
    "validate_every=1000",
    "--set",
    "workers=0",
    "--no-report",
]
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
        options = [
            "--model",
            catalog,
            *own,
            *COMMON,
            "--epochs",
            str(round(args.epochs * SHARE.get(name, 1))),
        ]
        words = [str(data), *with_files(options, args)]
        scene_runs.train(words, folder, options, {"OMP_NUM_THREADS": "1"}, (data, "test"), args.device)


def with_files(options: list[str], args: argparse.Namespace) -> list[str]:
    """The options with files in the place of WEIGHTS and of other systems' names."""
    files = {WEIGHTS: str(args.weights)}
    files |= {name: str(args.runs / regions.run_folder(name) / "best.safetensors") for name in SYSTEMS}
    return [files.get(word, word) for word in options]


def measure(args: argparse.Namespace) -> None:
    data = sl.open_dataset(regions.scenes_of("", args))["test"].as_class_map()
    for name in args.only or SYSTEMS:
        folder, catalog = args.runs / regions.run_folder(name), SYSTEMS[name][0]
        if not (folder / "benchmark.json").exists():
            print(f"{name}: not trained")
            continue
        told = json.loads((folder / "benchmark.json").read_text())
        row = scene_runs.cost(folder, catalog, told["options"], data, args.images)
        store("scenes", name, {"model": catalog, **told, **row})
        print(name, f"{row['ms']:.1f} ms", flush=True)


def real(args: argparse.Namespace) -> None:
    for name in args.only or REAL:
        source, catalog, own = REAL[name]
        folder = args.runs / regions.run_folder(name)
        options = ["--model", catalog, *own, "--set", "validate_every=4", "--set", "workers=0"]
        data = args.real / source
        if not folder.exists():
            threads = {"OMP_NUM_THREADS": str(args.threads)}
            scene_runs.train([str(data), *with_files(options, args)], folder, options, threads, device=args.device)
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
                **scene_runs.machine(),
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
        store("windows", f"{width} × {height}", row | scene_runs.machine())
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
        store("memory", name, facts | scene_runs.machine())
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
            "400 scenes of 160×160 pixels to train on, 100 to test; five classes and the background. bf16; MobileNet",
            "v2 from its ImageNet weights, the others from random numbers. FCN-16s starts from 32s and 8s from 16s.",
            "Operations: two a multiply-add, of one image. Time: median of one image on the processor, preprocessing",
            f"included, not fused ({one['machine']}; {one['versions']}). So few epochs that who",
            "learns slowly from random numbers looks weak; training seconds beside another training.",
            "",
            "| system | epochs | parameters | GFLOP | mean IoU | pixels right | boundary F | trained on | training s "
            "| ms (load) |",
            "|---|---:|---:|---:|---:|---:|---:|---|---:|---:|",
        ]
        for name, r in scenes.items():
            m = r["metrics"]
            lines.append(
                f"| {name} | {r['options'][-1]} | {r['parameters'] / 1e6:.2f} M | {r['gflops']:.2f} | {m['mIoU']:.3f} "
                f"| {m['pixel_accuracy']:.3f} | {m['boundary_F']:.3f} "
                f"| {r['trained_on']} | {r['train_seconds']} | {r['ms']:.1f} ({r['measured_load']}) |"
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
    parser.add_argument("--epochs", type=int, default=30, help="on scenes")
    parser.add_argument("--device", default=None, help="to train and test on; by default the best there is")
    parser.add_argument("--threads", type=int, default=1, help="of the trainings on real pictures")
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=40, help="timed one by one")
    parser.add_argument("--only", nargs="*", choices=[*SYSTEMS, *REAL], default=[])
    args = parser.parse_args()
    {"train": train, "measure": measure, "real": real, "windows": windows, "memory": memory}[args.what](args)


if __name__ == "__main__":
    main()
