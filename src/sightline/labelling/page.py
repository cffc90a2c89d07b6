"""The labelling page (`sightline annotate`): draw boxes and outlines on images. It needs no other files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from sightline.report.colours import class_colour, css
from sightline.report.page import Section, page

_COLOURS = 96
"""Number of classes with different colours on the page."""


@cache
def labelling_page() -> str:
    """The HTML of the page."""
    script = files("sightline.labelling").joinpath("page.js").read_text(encoding="utf-8")
    colours = " ".join(css(class_colour(k)) for k in range(_COLOURS))
    text = page("Label images", '<p class="soft" id="about"></p>', [Section("work", "Label", _WORK % colours)])
    text = text.replace("</style>", f"{_CSS}</style>", 1).replace(
        "<title>", '<link rel="icon" href="data:,"><title>', 1
    )
    return text.replace("</body>", f"<script>{script}</script></body>", 1)


_WORK = """
<div id="parts">
<div id="left"><label><input type="checkbox" id="todo"> only images to do</label><ol id="images"></ol></div>
<div id="middle">
<p id="tools"><button id="previous" title="Left arrow">Previous</button>
<button id="next" title="Right arrow">Next</button>
<button id="box" title="B">Box</button> <button id="outline" title="O">Outline</button>
<button id="remove" title="Delete">Delete</button> <button id="undo" title="Ctrl+Z">Undo</button>
<button id="empty" title="N">No objects</button>
<button id="unlabel" title="takes the image out of the file">Not labelled</button>
<button id="suggest" title="S" hidden>Suggest</button></p>
<canvas id="canvas" role="img" tabindex="0" aria-label="the image with its objects" data-colours="%s"></canvas>
<p id="status" class="soft" role="status"></p>
</div>
<div id="right"><h3>Classes</h3><ol id="classes"></ol>
<form id="adding"><input id="added" placeholder="new class" autocomplete="off" aria-label="name of a new class">
<button>Add</button></form>
<h3>Objects</h3><ul id="objects"></ul>
<details><summary>Keys and mouse</summary><p class="soft">Drag on the image to draw a box. For an outline press O and
click the corners; Enter, or a click on the first corner, closes it, Escape gives it up. Drag an object to move it, and
its handles to change it. 1 to 9 choose a class, also of the selected object. Delete removes it, Ctrl+Z takes the last
change back. Left and right arrows change the image. The wheel zooms, dragging with Shift or the middle button
moves the image, 0 shows all of it. N says that the image shows no objects; images without a mark are not in the
file.</p></details></div>
</div>"""
_CSS = (
    "[hidden]{display:none!important}nav,h2{display:none}header{padding-top:.8rem}header,main{max-width:none}"
    "#parts{display:flex;gap:1rem;align-items:flex-start}#left{flex:0 0 13rem}#right{flex:0 0 14rem}"
    "#middle{flex:1 1 20rem;min-width:0}#images{max-height:75vh;overflow:auto;padding-left:2.2rem;margin:.4rem 0;"
    "font-size:.85rem}"
    "#images li,#classes li,#objects li{cursor:pointer;overflow-wrap:anywhere;border-radius:6px;padding:0 .3rem}"
    "#objects{list-style:none;padding:0;margin:0;max-height:35vh;overflow:auto}#classes{padding-left:1.6rem;margin:0}"
    "li.chosen{background:rgba(var(--cell),.22)}li.done::after{content:' ✓'}"
    "canvas{width:100%;height:70vh;border-radius:8px;display:block;background:#222;touch-action:none;cursor:crosshair}"
    "#tools{display:flex;flex-wrap:wrap;gap:.35rem;max-width:none;margin:0 0 .5rem}#adding{margin-top:.5rem}"
    "h3{font-size:1rem;margin:.8rem 0 .3rem}#added{width:8.5rem}"
    "button,input{font:inherit;color:inherit;background:var(--paper);border:1px solid var(--line);border-radius:8px;"
    "padding:.15rem .6rem}button{cursor:pointer}button.chosen{border-color:var(--accent);font-weight:600}"
    ".swatch{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em}.bad{color:var(--bad)}"
    "@media(max-width:900px){#parts{flex-wrap:wrap}#left,#right{flex:1 1 100%}#images{max-height:20vh}}"
)
