"""Why was it missed: trained detectors are broken on purpose, and the cause of each object that this costs is compared
with the planted one.

    OMP_NUM_THREADS=1 python benchmarks/missed.py train --runs /tmp/missed [--only fcos …]
    OMP_NUM_THREADS=1 python benchmarks/missed.py measure --runs /tmp/missed [--out benchmarks/results/missed.md]

Detectors are trained on rendered scenes and broken afterwards: the anchors or points of the finest map are taken away,
suppression is set to an IoU of 0.1, the outputs of one class are set to −∞. Two more are trained broken: RetinaNet with
anchors four times as large, FCOS on scenes in which the rings have no labels. A second training also misses other
objects for reasons of its own, so that without labels of rings only the rings count as what the break costs.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sightline as sl
from sightline.explain.missed import Missed, MissedObjects, missed_objects
from sightline.explain.missed_causes import NEVER_PREDICTED, NO_ORIGIN
from sightline.models.detection.candidates import Candidates, select
from sightline.structures import ImageBatch

CLASS = "ring"
SMALL = {"min_size": 160, "max_size": 160}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "FCOS": ("fcos_mobilenet_v2_fpn", SMALL),
    "RetinaNet": ("retinanet_mobilenet_v2_fpn", SMALL),
    "Faster R-CNN": ("faster_rcnn_mobilenet_v2_fpn", SMALL),
    "sightline_n": ("sightline_n", {"image_size": 160}),
    "RetinaNet, trained with large anchors": ("retinanet_mobilenet_v2_fpn", SMALL),
    "FCOS, trained without rings": ("fcos_mobilenet_v2_fpn", SMALL),
}


def adapted(model: Any, name: str) -> Any:
    """The model, with the anchors that it is trained with."""
    if "large anchors" in name:
        model.anchor_bases = [4 * base for base in model.anchor_bases]
    return model


def key(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


def train(options: argparse.Namespace) -> None:
    classes = sl.scenes(1, 32).classes
    for name, (model_name, arguments) in MODELS.items():
        if (options.runs / key(name)).exists() or (options.only and key(name) not in options.only):
            continue
        data = sl.scenes(options.scenes, 160, seed=1)
        if "without rings" in name:
            data = data.with_class_mapping({CLASS: None}).with_classes(classes)
        weights = "none" if model_name.startswith("sightline") else str(options.weights)
        model = adapted(sl.create_model(model_name, classes, weights=weights, **arguments), name)
        sl.train(
            model,
            data[:],
            name=key(name),
            runs=options.runs,
            epochs=options.epochs,
            batch_size=8,
            workers=0,
            precision="bf16",
            validate_every=1000,
            report=False,
            progress=False,
            device=options.device,
        )


def without_level(model: Any) -> Any:
    """The detector without the anchors or points of its finest map."""
    changed = copy.copy(model)
    if model.origin != "region":
        changed.candidates = lambda batch, regions=None: [coarse(own) for own in model.candidates(batch)]
        return changed
    changed.proposal_candidates = lambda batch: [coarse(own) for own in model.proposal_candidates(batch)]

    def candidates(batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        pairs = [(own, select(own, model.proposal_selection())) for own in changed.proposal_candidates(batch)]
        return model.candidates(batch, [own.boxes_of(rows, classes) for own, (rows, classes) in pairs])

    changed.candidates = candidates
    return changed


def coarse(own: Candidates) -> Candidates:
    kept = own.levels > 0
    return Candidates(*(getattr(own, part)[kept] for part in ("boxes", "logits", "scores", "origins", "levels")))


def greedy(model: Any) -> Any:
    """The detector with suppression at an IoU of 0.1."""
    changed = copy.copy(model)
    changed.selection = lambda: replace(model.selection(), nms_iou=0.1)
    return changed


def silent(model: Any) -> Any:
    """The detector with outputs of −∞ for one class."""
    changed, column = copy.copy(model), model.classes.id(CLASS)

    def candidates(batch: ImageBatch, regions: Sequence[Tensor] | None = None) -> list[Candidates]:
        found = model.candidates(batch, regions)
        for own in found:
            own.logits[:, column], own.scores[:, column] = -torch.inf, 0.0
        return found

    changed.candidates = candidates
    return changed


BREAKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "no anchors or points of the finest map": (NO_ORIGIN, without_level),
    "suppression at 0.1": ("suppressed", greedy),
    f"outputs for {CLASS} −∞": (NEVER_PREDICTED, silent),
}


def measure(options: argparse.Namespace) -> None:
    data = sl.scenes(options.test, 160, seed=2)
    there = [name for name in MODELS if (options.runs / key(name)).exists()]
    models = {name: adapted(sl.load(options.runs / key(name)), name) for name in there}
    rows, tables, spared = [], [], []
    intact: dict[str, MissedObjects] = {}
    for name, model in models.items():
        threshold = sl.evaluate(model, data[:], progress=False).threshold or 0.5
        began = time.perf_counter()
        intact[name] = missed_objects(model, data, threshold=threshold, progress=False)
        spent = 1000 * (time.perf_counter() - began) / len(data)
        tables.append((name, threshold, intact[name], spent))
        print(name, intact[name], flush=True)
        if "trained" in name:
            of = intact[name.split(",")[0]]
            cause = NO_ORIGIN if "anchors" in name else NEVER_PREDICTED
            rows.append(cost(name, name.split(", ")[1], cause, of, intact[name]))
            spared += others(name, of, intact[name]) if cause == NEVER_PREDICTED else []
            continue
        for what, (cause, broken) in BREAKS.items():
            if broken is without_level and name == "sightline_n":
                continue  # any point inside an object may be responsible for it, also one of a coarser map
            found = missed_objects(broken(model), data, threshold=threshold, progress=False)
            rows.append(cost(name, what, cause, intact[name], found))
    text = report(options, data, tables, rows, spared)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def cost(name: str, what: str, cause: str, before: MissedObjects, after: MissedObjects) -> tuple[str, ...]:
    """A row of the table: the objects that the break costs, and how many of them are put down to it."""
    new = [
        record.cause for record in only_after(before, after) if cause != NEVER_PREDICTED or record.class_name == CLASS
    ]
    rest = counts([other for other in new if other != cause]) or "–"
    share = f"{100 * new.count(cause) / len(new):.1f} %" if new else "–"
    return name.split(",")[0], what, cause, str(len(new)), str(new.count(cause)), share, rest


def only_after(before: MissedObjects, after: MissedObjects) -> list[Missed]:
    """The objects that only the second detector misses."""
    known = {(record.image, record.object) for record in before.missed}
    return [record for record in after.missed if (record.image, record.object) not in known]


def others(name: str, before: MissedObjects, after: MissedObjects) -> list[str]:
    """A sentence on the objects of other classes that only the second training misses; none if there are none."""
    causes = [record.cause for record in only_after(before, after) if record.class_name != CLASS]
    return [f"{name}: {len(causes)} objects of other classes are missed, too ({counts(causes)})."] if causes else []


def counts(causes: Sequence[str]) -> str:
    return ", ".join(f"{cause} {causes.count(cause)}" for cause in dict.fromkeys(causes))


def report(
    options: argparse.Namespace,
    data: Any,
    tables: Sequence[Any],
    rows: Sequence[Sequence[str]],
    spared: Sequence[str],
) -> str:
    lines = [
        "# Why was it missed",
        "",
        f"`python benchmarks/missed.py train` and `… measure`: {options.scenes} scenes of 160×160 pixels to train on, "
        f"{options.epochs} epochs; {len(data)} others to test, {tables[0][2].objects} objects. "
        f"{platform.machine()}, {os.cpu_count()} cores, one thread, Python {platform.python_version()}, torch "
        f"{torch.__version__}; load average {os.getloadavg()[0]:.1f}. The score threshold is that of the highest F1.",
        "",
        "Detectors as they were trained:",
        "",
        "| detector | threshold | missed | causes | ms an image |",
        "|---|---:|---:|---|---:|",
    ]
    for name, threshold, found, spent in tables:
        listed = counts([record.cause for record in found.missed])
        lines.append(f"| {name} | {threshold:.2f} | {len(found.missed)} | {listed} | {spent:.0f} |")
    lines += [
        "",
        "Detectors broken on purpose: the objects that only the broken detector misses, and how many of them are put "
        "down to the planted cause.",
        "",
        "| detector | broken | planted cause | objects it costs | named | share | others |",
        "|---|---|---|---:|---:|---:|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(line for sentence in spared for line in (sentence, "")),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trained detectors")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mobilenet_v2_imagenet.pth"))
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    train(options) if options.what == "train" else measure(options)


if __name__ == "__main__":
    main()
