"""A latent space as one self-contained HTML page: thumbnails to hover over, zoom, pan, and filter by class.

The page needs no network access. Thumbnails are combined in sheets, because a thousand separate images would be slow
to load.
"""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.explain.latent import LatentSpace
from sightline.report.colours import css
from sightline.report.latent import axes_in_words, classes_in, thumbnails
from sightline.report.page import Section, esc, page
from sightline.words import counted

_SIDE = 64
"""Length of a thumbnail's sides, in pixels."""
_PER_SHEET = 1024
"""Maximum number of thumbnails in a sheet, which is then 2048 pixels wide; browsers limit the size of images."""
_SCRIPT = Path(__file__).with_name("latent.js")


def latent_page(found: LatentSpace, data: Any, title: str = "Latent space") -> str:
    """The page of a latent space, as HTML.

    Args:
        found: the latent space.
        data: the data set that it was made from, for the thumbnails.
        title: title of the page.
    """
    tiles = thumbnails(found, data, _SIDE)
    classes = classes_in(found)
    columns = math.ceil(math.sqrt(min(len(tiles), _PER_SHEET)))
    ids = np.unique(found.labels).tolist()
    names = list(dict.fromkeys(found.names))
    row_of = {name: row for row, name in enumerate(names)}
    facts = {
        "x": _rounded(found.points[:, 0]),
        "y": _rounded(found.points[:, 1]),
        "label": [ids.index(label) for label in found.labels.tolist()],
        "name": [row_of[name] for name in found.names],
        "names": names,
        "classes": [{"name": name, "colour": css(colour)} for name, colour, _ in classes],
        "side": _SIDE,
        "columns": columns,
        "perSheet": columns * columns if len(tiles) <= _PER_SHEET else _PER_SHEET,
    }
    sheets = [_sheet(tiles[start : start + _PER_SHEET], columns) for start in range(0, len(tiles), _PER_SHEET)]
    what = "images" if found.boxes is None else "objects"
    boxes = "".join(
        f'<label><input type="checkbox" checked><i style="background:{css(colour)}"></i>'
        f"{esc(name or 'without a class')} <small>{count}</small></label>"
        for name, colour, count in classes
    )
    body = (
        f"<style>{_CSS}</style>"
        '<div id="latent-tools"><label><input type="checkbox" id="latent-pictures" checked>pictures</label>'
        '<button id="latent-reset">whole space</button><button id="latent-all">all classes</button>'
        f'<button id="latent-none">no class</button></div><div id="latent-classes">{boxes}</div>'
        f'<div id="latent-frame"><canvas id="latent-canvas" tabindex="0" role="img" aria-label="{esc(title)}: '
        f'{len(found)} {what} as points"></canvas><div id="latent-tip" hidden>'
        f'<canvas width="{2 * _SIDE}" height="{2 * _SIDE}"></canvas><b></b><span></span></div></div>'
        f'<div id="latent-sheets" hidden>{"".join(sheets)}</div>'
        f'<script type="application/json" id="latent-data">{_json(facts)}</script>'
        f"<script>{_SCRIPT.read_text(encoding='utf-8')}</script>"
    )
    lead = (
        f'<p class="soft">{len(found)} {what} of {counted(len(classes), "class")} · {esc(axes_in_words(found))}. '
        "Scroll to zoom, drag to move, double-click for the whole space; on the keyboard + − 0 and the arrows.</p>"
    )
    return page(title, lead, [Section("latent", "Points", body)])


def _sheet(tiles: list[Image.Image], columns: int) -> str:
    out = Image.new("RGB", (columns * _SIDE, math.ceil(len(tiles) / columns) * _SIDE))
    for i, tile in enumerate(tiles):
        out.paste(tile, (i % columns * _SIDE, i // columns * _SIDE))
    stored = io.BytesIO()
    out.save(stored, "JPEG", quality=82, optimize=True)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(stored.getvalue()).decode("ascii")}">'


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def _json(facts: dict[str, Any]) -> str:
    """JSON that is safe inside a script element, whatever names it holds."""
    return json.dumps(facts, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


_CSS = """
#latent-tools,#latent-classes{display:flex;flex-wrap:wrap;gap:.4rem 1rem;margin-bottom:.6rem;align-items:center}
#latent-classes{max-height:9rem;overflow-y:auto}
#latent-classes i{display:inline-block;width:.75rem;height:.75rem;border-radius:3px;margin:0 .35rem;vertical-align:-1px}
#latent-tools button{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.15rem .7rem;cursor:pointer}
#latent-frame{position:relative}
#latent-canvas{display:block;width:100%;height:min(76vh,900px);background:var(--paper);border-radius:8px;
touch-action:none;cursor:crosshair}
#latent-tip{position:absolute;pointer-events:none;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.5rem;max-width:16rem;font-size:.85rem;box-shadow:0 4px 16px rgb(0 0 0/.25)}
#latent-tip[hidden]{display:none}
#latent-tip canvas{display:block;border-radius:4px;margin-bottom:.3rem}
#latent-tip b{display:block}
#latent-tip span{overflow-wrap:anywhere}
""".replace("\n", "")
