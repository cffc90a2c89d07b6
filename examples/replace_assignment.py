"""Replace one of a detector's four parts: RetinaNet with the assignment of another paper, in ten lines.

    python examples/replace_assignment.py [--epochs 10]

`network`, `assign`, `losses` and `decode` of a model can be used, and replaced, one by one. Here every object chooses
its anchors by how their overlaps with it are spread (Zhang et al. 2020, "Bridging the gap between anchor-based and
anchor-free detection", algorithm 1) instead of by two thresholds that are the same for all objects. Both models are
trained on the same rendered scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sightline as sl
from sightline.ops.boxes import box_iou, encode_distances

NEAR = 81  # anchors a level: those of the nine cells nearest to the object's centre, nine each


def assign(anchors: Sequence[Tensor], targets: Sequence[sl.Instances]) -> Tensor:
    """Anchors [S_l, 4] of each level and the targets of N images → the object of each anchor, or −1: [N, S]."""
    boxes, sizes = torch.cat(list(anchors)), [len(level) for level in anchors]
    matches = torch.full((len(targets), len(boxes)), -1, device=boxes.device)
    for match, target in zip(matches, targets, strict=True):
        if len(target):
            overlap = box_iou(target.boxes, boxes)  # [G, S]
            sides = encode_distances(
                target.boxes[:, None], boxes, normalize=False
            )  # left, top, right, bottom [G, S, 4]
            apart = (sides[..., :2] - sides[..., 2:]).norm(dim=-1).split(sizes, 1)  # of the centres, level by level
            near = [x.topk(min(NEAR, x.shape[1]), largest=False).indices + sum(sizes[:i]) for i, x in enumerate(apart)]
            spread = overlap.gather(1, torch.cat(near, 1))
            enough = spread >= spread.mean(1, keepdim=True) + spread.std(1, keepdim=True)
            chosen = torch.zeros_like(overlap).scatter(1, torch.cat(near, 1), spread * enough) * (sides.amin(-1) > 0)
            match[:] = chosen.argmax(0).where(chosen.amax(0) > 0, -1)
    return matches


def main(epochs: int = 10, images: int = 200, runs: str | Path = "runs", **numbers: Any) -> dict[str, float]:
    """Train with each assignment on `images` scenes, with `numbers` of a recipe; gives the best AP50 of each."""
    data, validation = sl.scenes(images, 160, seed=0), sl.scenes(max(1, images // 4), 160, seed=1)
    found = {}
    for title in ("two thresholds", "spread of overlaps"):
        torch.manual_seed(0)
        model = sl.create_model("retinanet_mobilenet_v2_fpn", data.classes, min_size=160, max_size=160)
        if title == "spread of overlaps":
            model.assign = assign
        run = sl.train(model, data, validation=validation, epochs=epochs, runs=runs, **numbers)
        found[title] = run.best["val/AP50"]
        print(f"{title}: AP50 {found[title]:.3f} after {epochs} epochs")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    main(parser.parse_args().epochs)
