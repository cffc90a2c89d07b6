"""Ultralytics' YOLO from random numbers, with its defaults; see suite.py and common.py.

The model is built from its description (no weights). A tenth of the images, by the seed, is its validation split, by
which it chooses its best epoch, as it does by default. All settings but the image size and the batch (8 for at most 100
images) are Ultralytics' own, among them the optimizer and the rate that "auto" chooses, mosaic and the early stop.
"""

from __future__ import annotations

import json
import random
import types
from pathlib import Path
from typing import Any

import yaml
from common import clock_of, parser, read_coco, workers_of, write_facts
from ultralytics import YOLO
from ultralytics.engine import trainer as engine


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--size", type=int, default=640, help="pixels of the longer side")
    args = options.parse_args()
    images, by_image, categories = read_coco(args.learn, "train")
    random.Random(args.seed).shuffle(images)
    held_out = max(1, len(images) // 10)
    place = {category["id"]: i for i, category in enumerate(categories)}
    home = args.out / "data"
    for split, part in (("val", images[:held_out]), ("train", images[held_out:])):
        for image in part:
            write_image(image, by_image[image["id"]], place, home, split)
    names = {i: category["name"] for i, category in enumerate(categories)}
    listed = {"path": str(home), "train": "images/train", "val": "images/val", "names": names}
    (home / "data.yaml").write_text(yaml.safe_dump(listed))

    # Its time budget is by time.time(); by CPU time, that of this process takes its place in the training loop.
    engine.time = types.SimpleNamespace(time=clock_of(args.clock))
    batch = 8 if len(images) <= 100 else 16
    settings: dict[str, Any] = {"imgsz": args.size, "batch": batch, "amp": False, "workers": workers_of(args.clock)}
    model = YOLO(f"{args.model}.yaml", task="detect")
    model.train(
        data=str(home / "data.yaml"),
        time=args.seconds / 3600,
        seed=args.seed,
        device="cpu",
        plots=False,
        pretrained=False,
        project=str(args.out),
        name="run",
        **settings,
    )
    epochs = len((args.out / "run" / "results.csv").read_text().splitlines()) - 1
    predict(args.out / "run" / "weights" / "best.pt", args.test, args.size, args.out / "predictions.json")
    write_facts(args.out, ["ultralytics", "torch"], epochs, {"model": args.model, **settings})


def write_image(
    image: dict[str, Any], rows: list[dict[str, Any]], place: dict[int, int], home: Path, split: str
) -> None:
    """Link an image, and write its boxes as YOLO's text file."""
    link = home / "images" / split / image["file_name"]
    label = (home / "labels" / split / image["file_name"]).with_suffix(".txt")
    link.parent.mkdir(parents=True, exist_ok=True)
    label.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(image["path"].resolve())
    width, height = image["width"], image["height"]
    lines = []
    for row in rows:
        x, y, w, h = row["bbox"]
        values = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
        lines.append(f"{place[row['category_id']]} " + " ".join(f"{min(max(v, 0.0), 1.0):.6f}" for v in values))
    label.write_text("\n".join(lines))


def predict(weights: Path, test: Path, size: int, out: Path) -> None:
    """Predict the test images as its own validation does: low scores kept, at most 300 objects."""
    images, _, categories = read_coco(test, "test")
    model = YOLO(weights)
    rows = []
    for image in images:
        found = model.predict(
            str(image["path"]), imgsz=size, conf=0.001, iou=0.7, max_det=300, device="cpu", verbose=False
        )[0].boxes
        for box, score, label in zip(found.xyxy.tolist(), found.conf.tolist(), found.cls.tolist(), strict=True):
            corner_size = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            category = categories[int(label)]["id"]
            rows.append({"image_id": image["id"], "category_id": category, "bbox": corner_size, "score": score})
    out.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
