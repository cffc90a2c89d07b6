"""What notebooks show of results, labels, datasets and evaluations: a small table, and a picture if the image is known.

Styles are inline and colours are left to the notebook, so that light and dark themes both work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from sightline.data.labelled import LabelledImages
from sightline.deploy.predict import Predictions
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.report.drawing import contact_sheet, draw
from sightline.report.page import esc, number, picture
from sightline.structures.tabular import Tabular
from sightline.words import counted, listed

ROWS = 8
"""Maximum number of rows of a table."""
PICTURES = 4
"""Maximum number of pictures of a list or a dataset."""
SIDE = 480
"""Longer side of the picture of one result, in pixels."""
_CELL = "padding:2px 8px;text-align:{};max-width:36em;overflow-wrap:anywhere"


@singledispatch
def html_of(shown: Any) -> str:
    """HTML of a result or a dataset; by default of an evaluation: its headline metrics and those of its classes."""
    rows = [[name, number(shown.metrics[name], shown.reasons.get(name))] for name in shown.headline]
    classes = {name: values for name, values in shown.per_class.items() if isinstance(values, Mapping)}
    numbers = [name for name in shown.headline if any(name in values for values in classes.values())]
    parts = [f"<p><b>{esc(shown.task)}</b>, {counted(shown.images)}</p>", _table(["metric", "value"], rows)]
    if numbers:
        own = [[esc(name), *(number(values.get(key)) for key in numbers)] for name, values in classes.items()]
        parts.append(_table(["class", *numbers], own))
    return _beside(*parts)


@html_of.register
def _of_result(shown: Tabular) -> str:
    drawn = _drawn(shown)
    return _beside(f"<p>{esc(_first_line(shown))}</p>{_columns(shown.to_columns())}", drawn)


@html_of.register
def _of_predictions(shown: Predictions) -> str:
    rows = [[str(i), esc(_first_line(result))] for i, result in enumerate(shown)]
    left = f"<p>{counted(len(shown), 'result')}</p>{_table(['', 'result'], rows)}"
    left += "".join(f"<p>left out: {esc(sentence)}</p>" for sentence in list(shown.errors.values())[:3])
    return left + _beside(*(_drawn(result, SIDE // 2) for result in shown[:PICTURES] if isinstance(result, Tabular)))


@html_of.register
def _of_dataset(shown: LabelledImages) -> str:
    ids = shown.label_kind.class_ids
    rows = [[esc(name), str(len(shown[name]))] for name in shown.splits] if len(shown.splits) > 1 else []
    parts = [f"<p>{esc(repr(shown))}</p>", _table(["split", f"{shown.label_kind.item}s"], rows) if rows else ""]
    if ids is not None:
        labels = ids(shown.columns)[0]
        counts = np.bincount(labels[labels >= 0], minlength=len(shown.classes)).tolist()
        own = [[esc(name), str(count)] for name, count in zip(shown.classes, counts, strict=False)]
        parts.append(_table(["class", shown.label_kind.unit], own))
    return "".join(parts[:1]) + _beside(*parts[1:], _sheet(shown))


@html_of.register
def _of_model(shown: Model) -> str:
    name = f"<b>{esc(shown.title)}</b>, {esc(shown.task.replace('_', ' ') or 'no task')}"
    parts: nn.Module = shown
    while len(inner := [child for child in parts.children() if _size(child)]) == 1 and _size(inner[0]) == _size(parts):
        parts = inner[0]  # a wrapper, whose only part is the network
    if not _size(shown):
        return f"<p>{name}</p><pre>{esc(repr(shown))}</pre>"
    facts = [counted(len(shown.classes), "class") + f": {listed(list(shown.classes), 6, 'classes')}"]
    if shown.seen_size is not None:
        facts.append("it sees images of {1}×{0} pixels".format(*shown.seen_size))
    rows = [[esc(part), esc(type(child).__name__), *_sizes(child)] for part, child in parts.named_children()]
    rows = [row for row in rows if row[2] != "0"][: ROWS - 1]
    table = _table(["part", "type", "parameters", "trainable"], [*rows, ["all", "", *_sizes(shown)]])
    more = "<p>sightline.summary(model) lists its layers, their outputs and operations; print(model) its modules.</p>"
    return f"<p>{name}; {esc('; '.join(facts))}</p>{table}{more}"


def _size(module: nn.Module, trainable: bool = False) -> int:
    """The number of parameters of a module, or of those that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def _sizes(module: nn.Module) -> list[str]:
    return [f"{_size(module):,}", f"{_size(module, trainable=True):,}"]


def _first_line(shown: Any) -> str:
    return repr(shown).splitlines()[0]


def _drawn(shown: Tabular, side: int = SIDE) -> str:
    """The result drawn on its image as an <img> element; "" if the image is not known or does not fit."""
    source = getattr(shown, "source", None)
    if not isinstance(source, str) or not os.path.isfile(source):
        return ""
    try:
        return _image(draw(source, shown, size=side), source)
    except (InputError, OSError):
        return ""


def _sheet(data: LabelledImages) -> str:
    """A contact sheet of the first images; "" if one cannot be read or drawn."""
    if not len(data):
        return ""
    try:
        return _image(contact_sheet(data[:PICTURES], n=PICTURES, columns=PICTURES, size=SIDE // 2), "the first images")
    except (InputError, OSError):
        return ""


def _image(drawn: Image.Image, text: str) -> str:
    return picture(drawn, text).replace("<img ", '<img style="max-width:100%;height:auto" ', 1)


def _columns(columns: Mapping[str, Sequence[Any]]) -> str:
    """A table of plain columns without the first ("image"), which is the same in all rows."""
    names = [name for name in columns if name != "image"]
    values = zip(*(columns[name][: ROWS + 1] for name in names), strict=True)
    length = len(columns["image"])
    return _table(names, [[esc(_short(value)) for value in row] for row in values], length)


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], length: int | None = None) -> str:
    """A table of at most `ROWS` rows of HTML cells; `length` is the number of all rows."""
    total = len(rows) if length is None else length

    def line(cells: Sequence[str], tag: str) -> str:
        aligned = ["right" if _numeric(cell) else "left" for cell in cells]
        parts = (
            f'<{tag} style="{_CELL.format(side)}">{cell}</{tag}>' for side, cell in zip(aligned, cells, strict=True)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in rows[:ROWS])
    more = f"<p>… {total - ROWS} more</p>" if total > ROWS else ""
    head = line([esc(head) for head in heads], "th")
    return f'<table style="border-collapse:collapse"><thead>{head}</thead><tbody>{body}</tbody></table>{more}'


def _numeric(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True


def _beside(*parts: str) -> str:
    """Parts side by side, or below each other where there is no room; empty ones are left out."""
    inner = "".join(f"<div>{part}</div>" for part in parts if part)
    return f'<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">{inner}</div>'
