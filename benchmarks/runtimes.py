"""What preprocessing and postprocessing inside an exported file cost: the file beside its bare network, in one runtime.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/runtimes.py [--only NAME …] [--runtimes onnxruntime openvino …]
        [--seconds 20] [--profile] [--files FOLDER]

The file is what `sightline export` writes: a picture of 480×640 uint8 in, results in its pixels out, any size and
number of pictures. It is called as a user calls it (`sl.load("model.onnx")`), so making the results counts, too. The
bare network is exported for one size alone; it takes a prepared batch and gives the outputs of its heads: class logits
and offsets, the logits of a segmenter in the resolution that the network gives them, those of a classifier. The bare
networks of Faster R-CNN and of detectors with masks contain what lies between their two stages: the selection of
proposals and RoI align, or that of detections and the grids of their masks.

Four calls take turns in one process with one thread, and the median of the CPU time counts:

- bare: the bare network.
- whole: the file.
- size: the file, with a picture that has the size of the network, so that nothing is resized.
- outside: the bare network, behind resizing by Pillow and normalising by NumPy. Nothing is decoded.
- masks, for detectors with masks: the file, and all masks of its result, which are pasted into the picture when they
  are first read; the other calls do not read them.

Weights are random, 80 classes, 21 for segmentation models. The score threshold of each detector is the score of its
1000th best box on the picture, so that 1000 boxes reach the suppression of the detections. The logits of segmentation
models have mean 0 and deviation 1 for each class, so that all 21 are best somewhere; in the rows "/5" only 5 of the 21
are, as in a photograph, and classes that are best nowhere cost an exported file little.

OpenVINO compiles a form of the file for a size that comes often: "openvino" is that form, and "openvino, any size" the
form that takes the calls before.

Writes the measured models into benchmarks/results/runtimes.json, leaves the others there, and makes runtimes.md.
--profile prints the operators that take longest in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import sightline as sl
from sightline.deploy import sizes
from sightline.deploy.exporting import network
from sightline.deploy.exporting.deform_operator import exportable
from sightline.deploy.exporting.field_parts import mask_grids, points_of
from sightline.deploy.exporting.part import as_batch
from sightline.deploy.exporting.regions import as_rois, predicted, proposed
from sightline.deploy.exporting.selecting import best_pairs, selected
from sightline.deploy.runtimes import ExportedModel, open_exported
from sightline.models.catalog import find
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.sightline_mask import SightlineMask
from sightline.models.keep_size import KeepSize
from sightline.models.segmentation.segmenter import Segmenter
from sightline.nn.layers import fuse
from sightline.training.run import cpu_name

RESULTS = Path(__file__).parent / "results" / "runtimes.json"
SIZE = (480, 640)
REACHING = 1000
MASKS = 300
GOAL = 1.10
ANY_SIZE = "openvino, any size"
RUNTIMES = ("onnxruntime", "openvino", ANY_SIZE)
CALLS = ("bare", "whole", "size", "outside")
MODELS: dict[str, dict[str, Any]] = {
    "sightline_n": {},
    "sightline_lite0": {},
    "sightline_n_mask": {},
    "ssdlite320_mobilenet_v2": {},
    "retinanet_mobilenet_v2_fpn": {},
    "retinanet_resnet50_fpn": {},
    "fcos_mobilenet_v2_fpn": {},
    "faster_rcnn_mobilenet_v2_fpn": {"min_size": 320, "max_size": 448},
    "mobilenet_v2": {},
    "resnet50": {},
    "fcn_resnet50": {"aux": False},
    "fcn_resnet50/5": {"aux": False},
    "deeplabv3_mobilenet_v2": {},
    "deeplabv3_mobilenet_v2/5": {},
    "lraspp_mobilenet_v3_large": {},
    "lraspp_mobilenet_v3_large/5": {},
    "unet_mobilenet_v2": {},
}
"""Name in the catalog, for a segmentation model maybe with the number of classes in the picture → its arguments."""


class Bare(nn.Module):
    """The network of a model alone: batch [N, C, H, W] → the outputs of its heads."""

    def __init__(self, model: sl.Model):
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor) -> list[Tensor]:
        model: Any = self.model
        if isinstance(model, Segmenter):
            return [model.network_logits(as_batch(batch))]
        if isinstance(model, FasterRCNN):
            maps, size = model.backbone(batch), torch.tensor(batch.shape[2:])
            regions, _ = proposed(model.rpn, maps, batch, size)
            return list(predicted(model.roi_heads, maps, as_rois(regions), size))
        if isinstance(model, SightlineMask):
            maps, size = model.maps(batch), torch.tensor(batch.shape[2:])
            chosen = selected(model.candidates_of(maps, as_batch(batch)), model.selection(), size)
            return [mask_grids(model, maps, *points_of(chosen), chosen.boxes.flatten(0, 1)), *chosen]
        found = model.network(batch)
        return [found] if isinstance(found, Tensor) else _flat(found)


def _flat(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [one for part in found if part is not None for one in _flat(part)]


def awaken(model: sl.Model, picture: Tensor, seen: int) -> None:
    """Let a network with random weights tell places apart.

    Batch norms take the statistics of the picture, and each output of the layers that give the classes is scaled to
    deviation 1. For segmentation models it is shifted, too, so that the first `seen` classes are best somewhere, and no
    others.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()([picture, picture.flip(2)])
    model.eval()
    settled = set()

    def settle(layer: Any, given: Any, output: Tensor) -> Tensor | None:
        if layer in settled:  # a head that runs on several maps
            return None
        settled.add(layer)
        shape = [-1, *[1] * (output.dim() - 2)]
        places = [d for d in range(output.dim()) if d != 1]
        mean, deviation = output.mean(places), output.std(places, correction=0)
        deviation = torch.where(deviation > 1e-6, deviation, 1)  # maps of one cell have none
        before, unseen = layer.bias.clone(), torch.arange(len(mean)) >= seen
        if model.task == "segmentation":
            layer.bias.copy_((before - mean) / deviation - 100.0 * unseen)
        layer.weight.div_(deviation.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        return (output - before.reshape(shape)) / deviation.reshape(shape) + layer.bias.reshape(shape)

    layers = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    wanted = [one for name, one in layers if re.search(model.class_layers, f"{name}.weight")]
    hooks = [layer.register_forward_hook(settle) for layer in wanted]
    model([picture])
    for hook in hooks:
        hook.remove()


def made(name: str, picture: Tensor) -> sl.Model:
    """The model, whose threshold is between the scores of its 1000th and 1001st best box on the picture."""
    torch.manual_seed(0)
    catalog_name, _, seen = name.partition("/")
    segments = find(catalog_name).task == "segmentation"
    classes = [f"class {i}" for i in range(21 if segments else 80)]
    model: Any = sl.create_model(catalog_name, classes, weights=None, **MODELS[name]).eval()
    if model.task == "classification":
        return model
    with torch.no_grad():
        awaken(model, picture, int(seen or len(classes)))
    if segments:
        return model
    with torch.inference_mode():
        batch, _ = model.preprocess([picture])
        if isinstance(model, FasterRCNN):
            size = torch.tensor(batch.sizes[0])
            maps = model.backbone(batch.tensor)
            regions, _ = proposed(model.rpn, maps, batch.tensor, size)
            logits, _ = predicted(model.roi_heads, maps, as_rois(regions), size)
            pairs, owner = logits.softmax(-1)[:, 1:].flatten(), model.roi_heads
        else:
            pairs, owner = best_pairs(model.dense_candidates(batch), model.selection())[0].flatten(), model
    best = pairs.topk(min(REACHING, len(pairs) - 1) + 1).values[-2:]
    owner.settings = dataclasses.replace(owner.settings, min_score=float(best.mean()))
    return model


def opened_bare(file: Path, runtime: str) -> Callable[[np.ndarray], Any]:
    """The call of the bare network with a prepared batch."""
    if runtime != "onnxruntime":
        import openvino

        words = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(str(file), "CPU", words)
        return lambda given: compiled([given])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda given: session.run(None, {"batch": given})


def by_pillow(model: sl.Model, picture: Tensor) -> Callable[[], np.ndarray]:
    """The batch [1, C, h, w] of a picture [C, H, W] uint8, resized by Pillow and normalised by NumPy.

    Pillow antialiases, and rounds to whole levels, so the batch is not exactly that of the file.
    """
    p, image = model.preprocess, Image.fromarray(picture.permute(1, 2, 0).numpy())
    height, width = p.resized((picture.shape[1], picture.shape[2]))
    mean, std = ((255 * x.flatten().numpy()).astype(np.float32) for x in (p.mean, p.std))
    crop = model.crop if isinstance(model, ImageClassifier) else None
    pads = (-height % p.divisor, -width % p.divisor)

    def prepared() -> np.ndarray:
        one = image if isinstance(p, KeepSize) else image.resize((width, height), Image.Resampling.BILINEAR)
        if crop is not None:
            left, top = round((width - crop) / 2), round((height - crop) / 2)
            one = one.crop((left, top, left + crop, top + crop))
        x = np.ascontiguousarray(((np.asarray(one, np.float32) - mean) / std).transpose(2, 0, 1))[None]
        return np.pad(x, ((0, 0), (0, 0), (0, pads[0]), (0, pads[1]))) if crop is None and any(pads) else x

    return prepared


def calls_of(
    file: ExportedModel,
    alone: Callable[[np.ndarray], Any],
    picture: Tensor,
    small: Tensor,
    given: np.ndarray,
    outside: Callable[[], np.ndarray],
) -> dict[str, Callable[[], Any]]:
    """The calls that are compared, in the order of `CALLS`; after these, one that also reads masks if there are any."""
    calls: dict[str, Callable[[], Any]] = {
        "bare": lambda: alone(given),
        "whole": lambda: file([picture]),
        "size": lambda: file([small]),
        "outside": lambda: alone(outside()),
    }
    return calls | ({"masks": lambda: file([picture])[0].masks} if "masks" in file.facts["outputs"] else {})


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    picture = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    model = made(name, picture)
    with torch.inference_mode():
        batch = _prepared(model, picture)
    height, width = model.preprocess.resized(SIZE)
    image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BILINEAR)
    small = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    outside = by_pillow(model, picture)
    assert outside().shape == batch.shape, "the bare network takes batches of this size alone"
    given = batch.numpy()
    with tempfile.TemporaryDirectory() as folder:
        whole, bare = written(name, model, batch.clone(), args.files or Path(folder))
        row: dict[str, Any] = {"size": "×".join(map(str, batch.shape[2:]))}
        for runtime in args.runtimes:
            sizes.PATIENCE = float("inf") if runtime == ANY_SIZE else 0.0  # else the first call compiles
            file, alone = open_exported(whole, runtime.partition(",")[0]), opened_bare(bare, runtime)
            calls = calls_of(file, alone, picture, small, given, outside)
            row[runtime] = turns(calls, args.seconds)
            if args.profile and runtime == "onnxruntime":
                for path, feed in ((whole, {"images": picture[None].numpy()}), (bare, {"batch": given})):
                    print(f"  {path.stem}: {profiled(path, feed)}", flush=True)
    return row


def written(name: str, model: sl.Model, batch: Tensor, folder: Path) -> tuple[Path, Path]:
    """The whole file and that of the bare network; made unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = name.replace("/", "_")
    whole, bare = folder / f"{stem}.onnx", folder / f"{stem}_bare.onnx"
    if not whole.exists():
        sl.export(model, whole, check=False)
    if not bare.exists():
        import onnx_ir as ir

        own = fuse(model)
        exportable(own)
        with torch.no_grad():
            program = torch.export.export(Bare(own), (batch,))
        ir.save(network.translated(program, ["batch"]), bare)
    return whole, bare


def _prepared(model: sl.Model, picture: Tensor) -> Tensor:
    if isinstance(model, ImageClassifier):
        return torch.rand(1, 3, model.crop, model.crop)
    return model.preprocess([picture])[0].tensor.contiguous().clone()


def turns(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """Median CPU milliseconds of calls that take turns, and what the machine did besides."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    began, done = time.monotonic(), -2  # the first two turns do not count
    while done < 5 or (time.monotonic() - began < seconds and done < 200):
        for name, call in calls.items():
            cpu = time.process_time()
            call()
            if done >= 0:
                found[name].append(1e3 * (time.process_time() - cpu))
        done += 1
    return {
        **{name: round(statistics.median(spent), 2) for name, spent in found.items()},
        "turns": done,
        "load": round(os.getloadavg()[0], 1),
    }


def profiled(file: Path, feed: dict[str, Any], runs: int = 10) -> str:
    """The operators that take longest, in milliseconds of a run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    options.profile_file_prefix = str(file.with_suffix(""))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    for _ in range(runs):
        session.run(None, feed)
    least: dict[tuple[str, str], float] = {}  # other processes only make a node slower
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["name"]
            least[key] = min(event["dur"], least.get(key, event["dur"]))
    spent: dict[str, float] = defaultdict(float)
    for (kind, _), microseconds in least.items():
        spent[kind] += microseconds
    return ", ".join(
        f"{kind} {microseconds / 1e3:.2f}" for kind, microseconds in sorted(spent.items(), key=lambda row: -row[1])[:14]
    )


def above(results: dict[str, Any], beside: str) -> str:
    """The models whose file takes more than `GOAL` times as long as another call, with the ratio in each runtime."""
    found = []
    for name in (name for name in MODELS if name in results["models"]):
        rows = {runtime: results["models"][name].get(runtime) for runtime in RUNTIMES if runtime != ANY_SIZE}
        ratios = {runtime: row["whole"] / row[beside] for runtime, row in rows.items() if row}
        over = [f"{ratio:.2f} {runtime}" for runtime, ratio in ratios.items() if round(ratio, 2) > GOAL]
        found += [f"{name} ({', '.join(over)})"] if over else []
    return ", ".join(found) or "none"


def with_masks(results: dict[str, Any]) -> str:
    """What the files of detectors with masks take if all masks of the result are read."""
    rows = [(name, runtime, own) for name, row in results["models"].items() for runtime, own in row.items()]
    found = [
        f"{name} {own['masks']:.1f} ms in {runtime} ({own['masks'] / own['bare']:.2f} of bare)"
        for name, runtime, own in rows
        if isinstance(own, dict) and "masks" in own
    ]
    return ", ".join(found) or "not measured"


def table(results: dict[str, Any]) -> str:
    lines = [
        "# An exported file beside its bare network",
        "",
        "CPU time of one thread in milliseconds, medians, in turns in one process; pictures of 480×640. The whole file",
        "contains preprocessing, decoding, suppression and class maps for pictures of any size. The bare network is",
        "exported for one size and gives the raw outputs of its heads. Random weights; 1000 boxes enter suppression.",
        "All 21 classes of a segmentation model are best somewhere in the picture, in the rows `/5` only 5 of them.",
        "",
        "- **whole / bare**: everything that is more than the bare network, with resizing.",
        "- **no resizing / bare**: the file with a picture that has the network's size.",
        "- **whole / outside**: the file against the bare network behind resizing by Pillow and normalising by NumPy,",
        "  without any decoding.",
        "",
        "`openvino` is the form that is compiled for a size that comes often, `openvino, any size` the one before, for",
        "the first calls of a size. Models that are not listed have not been measured.",
        "",
        f"The goal is a file that takes at most {GOAL:.2f} times as long as its bare network. It is judged by the",
        "strictest ratio, whole / bare, although the bare network starts from an image that is already resized and",
        "normalised, and leaves its outputs as they are, which a deployment does elsewhere. In whole / outside, both",
        "sides contain resizing and normalising. The first calls of a size are not judged.",
        "",
        f"- Above {GOAL:.2f} in whole / bare: {above(results, 'bare')}.",
        f"- Above {GOAL:.2f} in whole / outside: {above(results, 'outside')}.",
        "",
        "Masks are pasted into the picture when they are first read, which no column contains; the bare network gives",
        f"the same small masks. With all {MASKS} masks read: {with_masks(results)}.",
        "",
        "Made by `benchmarks/runtimes.py`, whose first lines say more.",
        "",
        f"{results['versions']}. {results['machine']}.",
        "",
        "| model | size inside | runtime | bare | whole | no resizing | outside | whole / bare | no resizing / bare | "
        "whole / outside | turns | load |",
        "|---|---:|---|" + "---:|" * 9,
    ]
    for name in (name for name in MODELS if name in results["models"]):
        row = results["models"][name]
        for runtime in (runtime for runtime in RUNTIMES if runtime in row):
            own = row[runtime]
            bare, whole, size, outside = (own[call] for call in CALLS)
            times = " | ".join(f"{value:.1f}" for value in (bare, whole, size, outside))
            ratios = " | ".join(f"{value:.2f}" for value in (whole / bare, size / bare, whole / outside))
            lines.append(
                f"| {name} | {row['size']} | {runtime} | {times} | {ratios} | {own['turns']} | {own['load']:.0f} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=list(MODELS), metavar="NAME")
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES)
    parser.add_argument("--seconds", type=float, default=20.0, help="per model and runtime")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--files", type=Path, help="folder to keep the files in; those that are there are used again")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.only:
        row = measure(name, args)
        results = json.loads(args.out.read_text()) if args.out.exists() else {"models": {}}
        results["models"].setdefault(name, {}).update(row)
        packages = ", ".join(f"{p} {metadata.version(p)}" for p in ("torch", "onnxruntime", "openvino"))
        results["versions"] = f"Python {platform.python_version()}, {packages}, Sightline {sl.__version__}"
        instructions = torch.backends.cpu.get_cpu_capability()
        results["machine"] = f"{cpu_name()}, {instructions}, {os.cpu_count()} cores"
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(table(results))
        shown = [", ".join([r, *(f"{call} {row[r][call]}" for call in CALLS)]) for r in args.runtimes]
        print(name, *shown, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
