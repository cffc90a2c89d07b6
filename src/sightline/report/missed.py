"""Objects that a detector misses: pictures per cause, and the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.explain.missed import Missed, MissedObjects
from sightline.explain.missed_causes import CAUSES
from sightline.report.canvas import Canvas, heading, side_by_side
from sightline.report.colours import Colour, css
from sightline.report.inside import cut
from sightline.report.legend import with_legend
from sightline.report.page import Section, bar, esc, page, picture, sentence, table
from sightline.report.pictures import as_picture, scaled_to
from sightline.runtime import reading
from sightline.runtime.entries import require_entries
from sightline.runtime.values import require_whole
from sightline.words import counted

FOLDER, JSON_FILE, PAGE_FILE = "missed", "missed.json", "missed.html"
"""The folder inside a run's folder, and the files in it."""
MISSED: Colour = (230, 57, 53)
INSTEAD: Colour = (64, 156, 255)
HeatMap = Callable[[Missed, Any], Image.Image | None]
"""(missed object, its image) → the image under the heat map of what the model looked at; None without one."""
_LEGEND = (
    ("missed object, score of the best box that fits it (none: no box does)", MISSED),
    ("dashed: what was found instead, its score", INSTEAD),
)
_CONTEXT = 1.0
"""Pixels around an object in its picture, as a fraction of the longer side of its box."""
_LETTERS = 14
"""Font size of a wall's legend in pixels, which is about that of its captions."""


def read_missed(folder: Path) -> dict[str, Any] | None:
    """What `sightline explain RUN DATA --missed` found for a run, from the run's folder; None if it was not run.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / FOLDER / JSON_FILE
    if not path.exists():
        return None
    values: dict[str, Any] = reading.read_json(path, dict)
    where, repair = str(path), "ask again (sightline explain RUN DATA --missed), or remove the folder"
    records = [{"cause": str, "class_name": str}]
    require_entries(values, {"objects": int, "images": int, "counts": {str: int}, "missed": records}, where, repair)
    return values


def missed_section(values: Mapping[str, Any]) -> str:
    """HTML of a report's section: causes, and a link to the page with the pictures.

    Args:
        values: of `MissedObjects.to_dict`.
    """
    head = (
        f"{len(values['missed'])} of {counted(values['objects'], 'object')} in {counted(values['images'])} are missed."
    )
    return f'<p>{esc(head)} <a href="{FOLDER}/{PAGE_FILE}">Pictures of each cause</a></p>{causes(values)}'


def missed_picture(missed: Missed, image: Any, size: int = 240) -> Image.Image:
    """Draw a missed object (red) and what was found instead (blue, dashed), with the pixels around them.

    The picture is a square unless the image is narrower, so that pictures of several objects form a grid.

    Labels say the class of each, and the score of the best box that fits the object, or of what was found.

    Args:
        missed: the object.
        image: its image, or a picture of the same size, such as a heat map over the image.
        size: longer side of the picture, in pixels.
    """
    whole = as_picture(image)
    boxes = [missed.box] if missed.instead is None else [missed.box, missed.instead]
    around = _CONTEXT * max(missed.box[2] - missed.box[0], missed.box[3] - missed.box[1], 4)
    spans = [(min(box[k] for box in boxes), max(box[k + 2] for box in boxes)) for k in (0, 1)]
    side = max(high - low for low, high in spans) + 2 * around
    (left, right), (top, bottom) = (
        _window((low + high) / 2, side, float(limit)) for (low, high), limit in zip(spans, whole.size, strict=True)
    )
    part = cut(whole, (left, top, right, bottom))
    scale = size / max(part.size)
    shown = scaled_to(part, size)
    canvas = Canvas(shown, 1.6)
    moved = [
        [(x1 - int(left)) * scale, (y1 - int(top)) * scale, (x2 - int(left)) * scale, (y2 - int(top)) * scale]
        for x1, y1, x2, y2 in boxes
    ]
    if missed.instead is not None:
        canvas.box(moved[1], INSTEAD, dashed=True)
    canvas.box(moved[0], MISSED)
    canvas.label(moved[0], _scored(missed.class_name, missed.figures.get("score")), MISSED)
    if missed.instead is not None:
        canvas.label(moved[1], _scored(missed.instead_class, missed.instead_score), INSTEAD)
    return shown


def _window(middle: float, length: float, limit: float) -> tuple[float, float]:
    """The part of 0 … `limit` of this length around the middle, moved to lie inside; all of it if it is shorter."""
    low = min(max(0.0, middle - length / 2), max(0.0, limit - length))
    return low, min(limit, low + length)


def _scored(name: str, score: float | None) -> str:
    return name if score is None else f"{name} {score:.2f}"


def missed_walls(
    found: MissedObjects, data: Any, heat: HeatMap | None = None, *, count: int = 24, columns: int = 6, size: int = 240
) -> dict[str, Image.Image]:
    """Draw a wall of pictures for each cause, with a legend below.

    Args:
        found: the missed objects.
        data: the data set that they were looked for in.
        heat: draws what the model looked at instead, below the picture of each object; None for no heat maps.
        count: maximum number of objects per cause.
        columns: number of objects per row.
        size: longer side of each picture, in pixels.

    Returns:
        Pictures by cause.
    """
    count, columns = require_whole("count", count, 1, "count"), require_whole("columns", columns, 1, "count")
    walls = {}
    for cause in found.counts:
        tiles = []
        for missed in spread(found.of_cause(cause), count):
            sides = _sides(missed, data, heat, size)
            tiles.append(heading(side_by_side(list(sides.values()), 1), missed.name.rsplit("/", 1)[-1]))
        walls[cause] = with_legend(side_by_side(tiles, columns), _LEGEND, _LETTERS)
    return walls


def spread(records: list[Missed], count: int) -> list[Missed]:
    """At most `count` of the records, evenly spread over them, so that they come from as many images as possible."""
    shown = min(count, len(records))
    return [records[place * len(records) // shown] for place in range(shown)]


def missed_page(
    found: MissedObjects, data: Any, heat: HeatMap | None = None, *, title: str = "Missed objects", count: int = 24
) -> str:
    """The page of missed objects, as HTML: how many per cause, and pictures of each cause.

    Args:
        found: the missed objects.
        data: the data set that they were looked for in.
        heat: as for `missed_walls`.
        title: title of the page.
        count: maximum number of objects shown per cause.
    """
    lead = f'<p class="soft">{esc(str(found).splitlines()[0])}</p>'
    dots = [f'<i class="dot" style="background:{css(colour)}"></i>{esc(text)}' for text, colour in _LEGEND]
    legend = f'<p class="soft">{"<br>".join(dots)}</p>' if found.missed else ""
    sections = [Section("causes", "Causes", causes(found.to_dict()) + legend)]
    for cause, number in found.counts.items():
        entries = []
        for missed in spread(found.of_cause(cause), count):
            sides = _sides(missed, data, heat, 320)
            drawn = "".join(
                f"<div><small>{esc(what)}</small>{picture(side, f'{missed.name}: {what}')}</div>"
                for what, side in sides.items()
            )
            caption = f"<figcaption><b>{esc(missed.name)}</b> {esc(missed.class_name)}: {esc(missed.text)}</figcaption>"
            style = "" if len(sides) == 2 else ' style="grid-template-columns:1fr"'
            entries.append(f'<figure><div class="pair"{style}>{drawn}</div>{caption}</figure>')
        shown = f"<p>{esc(CAUSES[cause])}: {counted(number, 'object')}"
        shown += f", {count} of them shown.</p>" if number > count else ".</p>"
        body = f'{shown}<div class="gallery">{"".join(entries)}</div>'
        sections.append(Section(f"cause-{cause.replace(' ', '-')}", cause.capitalize(), body))
    return page(title, lead, sections)


def causes(values: Mapping[str, Any]) -> str:
    """HTML of the number of missed objects per cause and class.

    Args:
        values: of `MissedObjects.to_dict`.
    """
    counts, objects = values["counts"], max(1, values["objects"])
    if not counts:
        return sentence("Every object is found.")
    rows = [
        [
            f'<span class="text"><b>{esc(cause)}</b>: {esc(CAUSES.get(cause, ""))}</span>',
            str(number),
            f"{100 * number / objects:.1f} %",
            bar(number / max(counts.values())),
            _most(values, cause),
        ]
        for cause, number in counts.items()
    ]
    heads = ("cause", "objects", "of all", "", "classes")
    return table(heads, rows, ends_in_text=True)


def _most(values: Mapping[str, Any], cause: str) -> str:
    """The classes with most missed objects of a cause, as text."""
    names: dict[str, int] = {}
    for missed in values["missed"]:
        if missed["cause"] == cause:
            names[missed["class_name"]] = names.get(missed["class_name"], 0) + 1
    most = sorted(names.items(), key=lambda pair: -pair[1])[:4]
    return esc(", ".join(f"{name} ({number})" for name, number in most))


def _sides(missed: Missed, data: Any, heat: HeatMap | None, size: int) -> dict[str, Image.Image]:
    """The pictures of a missed object by their titles."""
    image = data.image(missed.image)
    sides = {"missed": missed_picture(missed, image, size)}
    seen = None if heat is None else heat(missed, image)
    if seen is not None:
        sides["what the model looked at"] = missed_picture(missed, seen, size)
    return sides
