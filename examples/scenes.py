"""A contact sheet of rendered scenes, with their boxes and captions, and one of a video.

python examples/scenes.py [out.png] [first seed]
"""

from __future__ import annotations

import sys

import torch
from PIL import Image

import sightline as sl
from sightline.data.scenes import CLASSES, render, video

COLUMNS, ROWS, SIDE = 5, 3, 240


def main(out: str = "scenes.png", first: str = "0") -> None:
    sheet = Image.new("RGB", (COLUMNS * SIDE, (ROWS + 1) * SIDE))
    for i in range(COLUMNS * ROWS):
        scene = render(int(first) + i, SIDE)
        boxes = torch.tensor([item.box.tolist() for item in scene.objects]).reshape(-1, 4)
        labels = [CLASSES.index(item.class_name) for item in scene.objects]
        found = sl.Instances((SIDE, SIDE), classes=sl.Classes(CLASSES), boxes=boxes, labels=labels)
        sheet.paste(sl.draw(Image.fromarray(scene.image), found), (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
        print(f"{scene.seed}: {scene.caption}")
    film = video(int(first), frames=13, size=SIDE)
    for i in range(COLUMNS):
        sheet.paste(Image.fromarray(film[3 * i].image), (i * SIDE, ROWS * SIDE))
    for event in film.events:
        print(f"frames {event.start} to {event.end}: {event.caption}")
    sheet.save(out)
    print(f"written: {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
