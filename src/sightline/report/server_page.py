"""The page of a server (`sightline serve`): drop an image on it, see what the models find. It needs no other files.

Its script knows the forms of the JSON, not the tasks: annotations with boxes, outlines and keypoints are drawn, classes
with scores become bars; anything else is shown in the picture that the server draws.
"""

from __future__ import annotations

from importlib.resources import files

from sightline.report.colours import class_colour, css
from sightline.report.page import Section, page

_COLOURS = 96
"""Number of classes with different colours on the page."""


def server_page() -> str:
    """The HTML of the page."""
    script = files("sightline.report").joinpath("server_page.js").read_text(encoding="utf-8")
    colours = " ".join(css(class_colour(k)) for k in range(_COLOURS))
    sections = [Section("try", "Try an image", _CONTROLS), Section("result", "Result", _RESULT % colours)]
    text = page("Sightline", '<p class="soft" id="about"></p>', sections)
    text = text.replace("</style>", f"{_CSS}</style>", 1).replace(
        "<title>", '<link rel="icon" href="data:,"><title>', 1
    )
    return text.replace('<section id="result">', '<section id="result" hidden>', 1).replace(
        "</body>", f"<script>{script}</script></body>", 1
    )


_CONTROLS = (
    '<p id="models" hidden><label>Model <select id="model"></select></label></p>'
    '<form id="keyed" hidden><label>API key <input id="key" type="password" autocomplete="off"></label></form>'
    '<label id="zone"><b>Drop an image here</b>, paste one, or choose a file'
    '<input id="file" type="file" accept="image/*,video/*,.npy,.tif,.tiff"></label>'
    '<p id="status" class="soft" role="status"></p>'
)
_RESULT = (
    '<p id="tools"><label id="slider">Minimum score <input id="threshold" type="range" min="0" max="1" step="0.01"> '
    '<output id="value"></output></label> <button id="explain">Heat map</button> '
    '<button id="draw">Drawn by the server</button></p>'
    '<div class="grid"><div><canvas id="canvas" role="img" aria-label="the image with the prediction" '
    'data-colours="%s"></canvas><img id="picture" alt="the picture of the server" hidden></div>'
    '<div class="wide"><table aria-label="what was found"><tbody id="list"></tbody></table></div></div>'
)
_CSS = (
    "[hidden]{display:none!important}nav{display:none}header{padding-bottom:.6rem}"
    "#zone{display:block;border:2px dashed var(--line);border-radius:12px;padding:2rem 1rem;text-align:center;"
    "cursor:pointer}#zone.over{border-color:var(--accent)}#zone input{display:block;margin:.8rem auto 0;max-width:100%}"
    "canvas,#picture{width:100%;height:auto;border-radius:8px;display:block;margin-bottom:.6rem}"
    "#tools{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center}#keyed{margin-bottom:.8rem}"
    "#result[aria-busy]{cursor:progress}#slider{margin-right:1rem;white-space:nowrap}#threshold{vertical-align:middle;max-width:40vw}"
    "button,select,input[type=password]{font:inherit;color:inherit;background:var(--paper);"
    "border:1px solid var(--line);border-radius:8px;padding:.15rem .7rem;cursor:pointer}"
    ".bad{color:var(--bad)}td{vertical-align:middle}"
    "td.l{white-space:normal;overflow-wrap:anywhere}"
)
