"""Train a detector on your own images and labels, look at what it does, and save it.

    python examples/train_detector.py DATA [--weights imagenet] [--epochs 30]

DATA is a folder in COCO, Pascal VOC or YOLO format.
"""

from __future__ import annotations

import argparse

import sightline as sl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="ssdlite320_mobilenet_v2")
    parser.add_argument("--weights", help="imagenet, coco, or a file")
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()

    data = sl.open_dataset(args.data)
    if "train" not in data.splits or "val" not in data.splits:  # not divided yet
        data = data.split(0.8, 0.1, 0.1, seed=0)
    test = data["test" if "test" in data.splits else "val"]
    print(sl.check(data))

    model = sl.create_model(args.model, classes=data.classes, weights=args.weights)
    run = sl.train(model, data["train"], validation=data["val"], epochs=args.epochs)
    print(sl.evaluate(run.model, test))

    image, labels = test[0]
    sl.draw(image, labels).save(run.folder / "labelled.png")
    sl.draw(image, sl.predict(run.model, image)).save(run.folder / "found.png")
    print("saved as", sl.save(run.model, run.folder / "model.safetensors"))


if __name__ == "__main__":
    main()
