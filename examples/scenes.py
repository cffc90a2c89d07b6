"""A contact sheet of rendered scenes, with their boxes and captions, and one of a video.

python examples/scenes.py [out.png] [first seed]
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw

from sightline.data.scenes import CLASSES, render, video

COLOURS = ("#ff5050", "#ffb020", "#40e070", "#50b0ff", "#ff70e0")
COLUMNS, ROWS, SIDE = 5, 3, 240


def main(out: str = "scenes.png", first: str = "0") -> None:
    sheet = Image.new("RGB", (COLUMNS * SIDE, (ROWS + 1) * SIDE))
    for i in range(COLUMNS * ROWS):
        scene = render(int(first) + i, SIDE)
        picture = Image.fromarray(scene.image)
        draw = ImageDraw.Draw(picture)
        for item in scene.objects:
            colour = COLOURS[CLASSES.index(item.class_name)]
            draw.rectangle(item.box.tolist(), outline=colour)
            draw.text((item.box[0] + 2, item.box[1]), item.class_name, fill=colour)
        sheet.paste(picture, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
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
