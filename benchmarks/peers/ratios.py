"""torchvision's detection and segmentation models beside Sightline's of the same name, in one process, in turns.

    OMP_WAIT_POLICY=PASSIVE PYTHONPATH=src PEER_PYTHON benchmarks/peers/ratios.py eager|training
        [--only NAME …] [--seconds 30] [--compile] [--bf16]

PEER_PYTHON is the interpreter of another environment in which torchvision is installed; this package runs in it too,
with the same PyTorch. Both networks have the same weights (a state dict of torchvision's, loaded as it is) and get the
same picture, so what follows the network works on the same numbers. Calls take turns (peer, ours, optimised, peer, …)
for a number of seconds per model and number of threads, and the median counts.

CPU time of the process is what the ratios are of: it hardly changes when other processes run, if threads sleep while
they wait (OMP_WAIT_POLICY). The wall time is kept too. Writes one part of benchmarks/results/ratios.json, and leaves
what was measured with other numbers of threads; benchmarks/ratios.py makes the tables.

What is compared:
- Detectors: `model([picture])` of both, at the builders' own sizes. Weights are those of the reference pack
  (../shared/parity), which give about as many detections as trained ones, or random ones where there is no pack.
- Segmenters: normalisation, network, resizing of the logits and the best class per pixel at 480×640, without an
  auxiliary head in the peer (which computes it in predictions too, if it has one).
- Training: losses, backward pass and a step of SGD with momentum, batch norms trained, all layers trained. yolo11n
  and yolo26n need `ultralytics` in the environment, too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection, segmentation

import sightline as sl
from sightline.deploy.differences import Difference

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PACK = ROOT.parent / "shared" / "parity"
SIZE = (480, 640)
DETECTORS = {
    "fasterrcnn_resnet50_fpn": "faster_rcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2": "faster_rcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn": "faster_rcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "faster_rcnn_mobilenet_v3_large_320_fpn",
    "maskrcnn_resnet50_fpn": "mask_rcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2": "mask_rcnn_resnet50_fpn_v2",
    "keypointrcnn_resnet50_fpn": "keypoint_rcnn_resnet50_fpn",
    "retinanet_resnet50_fpn": "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2": "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16": "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large": "ssdlite320_mobilenet_v3_large",
    "fcos_resnet50_fpn": "fcos_resnet50_fpn",
}
"""torchvision's name → ours."""
SEGMENTERS = (
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)
TRAINED = {
    "fasterrcnn_resnet50_fpn": (2, {"min_size": 320, "max_size": 448}),
    "retinanet_resnet50_fpn": (2, {"min_size": 320, "max_size": 448}),
    "ssd300_vgg16": (4, {}),
    "yolo11n": (2, {}),
    "yolo26n": (2, {}),
}
"""The peer's name → images of a batch, and the builder's sizes. yolo11n and yolo26n are Ultralytics'; ours beside them
is sightline_n, another network for the same purpose, and the weights of all are random."""
OWN_WORDS: dict[str, dict[str, Any]] = {
    "ssd300_vgg16": {"mean": [0.48235, 0.45882, 0.40784], "std": [1 / 255] * 3},
    "ssdlite320_mobilenet_v3_large": {"reduced_tail": True},
}
"""Arguments with which ours is what the peer's builder makes."""
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def pack() -> Any:
    """The recipe of the reference pack's weights and pictures; None where there is no pack."""
    if not PACK.is_dir():
        return None
    spec = importlib.util.spec_from_file_location("parity_recipe", PACK / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture(seed: int = 1, size: tuple[int, int] = SIZE) -> Tensor:
    """A picture [3, H, W] in [0, 1]."""
    recipe = pack()
    return torch.rand(3, *size) if recipe is None else recipe.image(*size, seed)


def pair(name: str, **sizes: Any) -> tuple[nn.Module, sl.Model]:
    """The peer's model and ours with the same weights, in evaluation mode.

    Args:
        name: torchvision's name.
        sizes: arguments of both builders.
    """
    torch.manual_seed(0)
    if name in DETECTORS:
        peer = getattr(detection, name)(weights=None, weights_backbone=None, **sizes)
        classes = ["person"] if name.startswith("keypoint") else [f"class {i}" for i in range(1, 91)]
        ours = sl.create_model(DETECTORS[name], classes, weights=None, **sizes, **OWN_WORDS.get(name, {}))
    else:
        words = {} if name.startswith("lraspp") else {"aux_loss": False}
        peer = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=21, **words)
        words = {} if name.startswith("lraspp") else {"aux": False}
        ours = sl.create_model(name, [f"class {i}" for i in range(21)], weights=None, min_size=SIZE[0], **words)
    file = PACK / "manifests" / f"{name}.json"
    recipe = pack()
    if recipe is not None and file.is_file():
        filled = recipe.fill_manifest(json.loads(file.read_text()))
        peer.load_state_dict({key: value for key, value in filled.items() if key in peer.state_dict()})
    (ours if name in DETECTORS else ours.network).load_state_dict(peer.state_dict())
    return peer.eval(), ours.eval()


def turns(
    calls: dict[str, Callable[[], Any]], seconds: float, least: int = 3, most: int = 60
) -> dict[str, dict[str, float]]:
    """Median CPU and wall milliseconds of calls that take turns for so many seconds."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    began, done = time.monotonic(), -1  # the first turn does not count
    while done < least or (time.monotonic() - began < seconds and done < most):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            spent = (1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall))
            if done >= 0:
                found[name].append(spent)
        done += 1
    return {
        name: {
            "cpu": round(statistics.median(cpu for cpu, _ in rows), 2),
            "wall": round(statistics.median(wall for _, wall in rows), 2),
            "least_wall": round(min(wall for _, wall in rows), 2),
            "turns": len(rows),
        }
        for name, rows in found.items()
    }


def eager(name: str, args: Any) -> dict[str, Any]:
    """Times of a prediction at batch 1: the peer's, ours, and ours optimised."""
    sizes = {}
    if args.min_size and any(kind in name for kind in ("rcnn", "retinanet", "fcos")):
        sizes = {"min_size": args.min_size, "max_size": 2 * args.min_size}
    peer, ours = pair(name, **sizes)
    x = picture()
    torch.set_num_threads(2)
    any_difference = Difference(scores=1.0, pixels=1e4, labels=1.0, alone=1.0, masks=1.0, keypoints=1.0)
    words: dict[str, Any] = {"images": [x], "repeats": 1, "tolerance": any_difference}
    made = {"optimised": sl.optimize(ours, SIZE, **words)}
    if args.bf16:
        made["bf16"] = sl.optimize(ours, SIZE, bf16=True, **words)
    if args.compile:
        made["compiled"] = sl.optimize(ours, SIZE, compile=True, **words)
    fast = {key: model for key, (model, _) in made.items()}
    if name in DETECTORS:
        calls: dict[str, Callable[[], Any]] = {"peer": lambda: peer([x])}
    else:
        calls = {"peer": lambda: peer(((x - MEAN) / STD)[None])["out"].argmax(1)}
    calls |= {key: partial(read, model, x) for key, model in {"ours": ours, **fast}.items()}
    inside = ours.resized(SIZE)
    row: dict[str, Any] = {"size": f"{inside[0]}×{inside[1]}"}
    row["differences"] = {key: str(report.difference) for key, (_, report) in made.items()}
    with torch.inference_mode():
        row["same"] = same(calls["peer"]()[0], ours([x])[0])
        for threads in args.threads:
            torch.set_num_threads(threads)
            row[str(threads)] = turns(calls, args.seconds, args.least) | surroundings()
    return row


def read(model: sl.Model, x: Tensor) -> list[Any]:
    """The results of our model, with masks, which are pasted when they are first read."""
    results = model([x])
    for own in results:
        _ = getattr(own, "masks", None)
    return results


def same(peer: Any, ours: Any) -> str:
    """How far the two results agree, in words."""
    if isinstance(peer, Tensor):
        return f"{100 * float((peer == ours.labels).float().mean()):.3f} % of the pixels have the same class"
    count = min(len(peer["scores"]), len(ours))
    difference = float((peer["scores"][:count] - ours.scores[:count]).abs().max()) if count else 0.0
    return f"{len(peer['scores'])} and {len(ours)} objects, scores within {difference:.0e}"


class Ultralytics(nn.Module):
    """Ultralytics' network of a name, with our calls: images and boxes in, losses out."""

    def __init__(self, name: str):
        super().__init__()
        from ultralytics.cfg import get_cfg
        from ultralytics.nn.tasks import DetectionModel

        self.model = DetectionModel(f"{name}.yaml", nc=90, verbose=False)
        self.model.args = get_cfg()

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        height, width = images[0].shape[1:]
        corners = torch.cat([target["boxes"] for target in targets]) / torch.tensor([width, height, width, height])
        which = [torch.full((len(target["labels"]),), float(i)) for i, target in enumerate(targets)]
        batch = {
            "img": torch.stack(images),
            "cls": torch.cat([target["labels"] for target in targets])[:, None].float() - 1,
            "bboxes": torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1),
            "batch_idx": torch.cat(which),
        }
        return {"losses": self.model.loss(batch)[0].sum()}


def training(name: str, args: Any) -> dict[str, Any]:
    """Times of a training step."""
    count, sizes = TRAINED[name]
    if name.startswith("yolo"):
        peer, ours = Ultralytics(name), sl.create_model("sightline_n", [f"class {i}" for i in range(90)], weights=None)
    else:
        peer, ours = pair(name, **sizes)
    images = [picture(seed, (640, 640) if name.startswith("yolo") else (320, 416)) for seed in range(count)]
    recipe = pack()
    theirs, own = [], []
    for i, image in enumerate(images):
        size = (int(image.shape[1]), int(image.shape[2]))
        target = recipe.target(i % len(recipe._BOXES), *size, "box")
        theirs.append({"boxes": target["boxes"], "labels": target["labels"]})
        own.append(sl.Instances(size, boxes=target["boxes"], labels=target["labels"] - 1))
    for model in (peer, ours):
        model.train()
    steps = {"peer": step(peer, images, theirs), "ours": step(ours, images, own)}
    row: dict[str, Any] = {"batch": count, "size": "×".join(map(str, images[0].shape[1:]))}
    row["trained"] = {
        key: sum(p.numel() for p in m.parameters() if p.requires_grad) for key, m in (("peer", peer), ("ours", ours))
    }
    for threads in args.threads:
        torch.set_num_threads(threads)
        row[str(threads)] = turns(steps, args.seconds, args.least) | surroundings()
    return row


def step(model: nn.Module, images: list[Tensor], targets: list[Any]) -> Callable[[], None]:
    """A training step: losses, gradients, SGD."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learnt, 1e-6, momentum=0.9, weight_decay=1e-4)  # so small that the work stays the same

    def once() -> None:
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["eager", "training"])
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME")
    parser.add_argument("--seconds", type=float, default=30.0, help="per model and number of threads")
    parser.add_argument("--least", type=int, default=3, help="turns at least")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--min-size", type=int, default=None, help="of detectors that keep the aspect ratio")
    parser.add_argument("--bf16", action="store_true", help="also in bfloat16")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes per model")
    parser.add_argument("--out", type=Path, default=RESULTS / "ratios.json")
    args = parser.parse_args()
    measured = eager if args.what == "eager" else training
    names = args.only or ([*DETECTORS, *SEGMENTERS] if args.what == "eager" else list(TRAINED))
    for name in names:
        row = measured(name, args)
        results = json.loads(args.out.read_text()) if args.out.exists() else {}
        results.setdefault(args.what, {}).setdefault(name, {}).update(row)  # other numbers of threads stay
        versions = [f"{p} {metadata.version(p)}" for p in ("torch", "torchvision")]
        results["versions"] = f"Python {platform.python_version()}, {', '.join(versions)}, Sightline {sl.__version__}"
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        shown = []
        for threads in map(str, args.threads):
            timed = {key: value for key, value in row[threads].items() if key not in ("load", "machine")}
            peer = timed.pop("peer")
            ratios = [
                f"{key} {own['cpu'] / peer['cpu']:.2f} (wall {own['wall'] / peer['wall']:.2f})"
                for key, own in timed.items()
            ]
            shown.append(f"{threads} thread(s): peer {peer['cpu']:.0f} CPU ms; {', '.join(ratios)}")
        print(name, row.get("same", ""), *shown, sep="\n  ", flush=True)


def surroundings() -> dict[str, Any]:
    """What a time depends on besides the networks: the machine, and how much else it does."""
    return {"load": round(os.getloadavg()[0], 1), "machine": f"{processor()}, {os.cpu_count()} cores"}


def processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
