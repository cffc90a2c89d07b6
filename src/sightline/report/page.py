"""The style of a report, and its HTML elements. All text arguments are escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Section:
    """A section of the page; `body` is HTML."""

    key: str
    title: str
    body: str


def esc(value: Any) -> str:
    """Escape text for HTML."""
    return html.escape(str(value))


def number(value: float | None, why: str | None = None) -> str:
    """Three decimals, or n/a with the reason as a tooltip."""
    if value is None:
        return f'<abbr title="{esc(why)}">n/a</abbr>' if why else "n/a"
    return f"{value:.3f}"


def sentence(text: str) -> str:
    """A sentence shown by a section that has no content."""
    return f'<p class="none">{esc(text)}</p>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1, ends_in_text: bool = False) -> str:
    """A table; cells are HTML. The first `left` columns, and the last if `ends_in_text`, are left-aligned."""

    def cells(row: Sequence[str], tag: str) -> str:
        texts = {*range(left), *([len(row) - 1] if ends_in_text else [])}
        return "".join(f"<{tag}{' class=l' if i in texts else ''}>{cell}</{tag}>" for i, cell in enumerate(row))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells(heads, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs(values: Mapping[str, Any]) -> str:
    """Names with values; nested mappings and lists of mappings are flattened."""

    def flat(prefix: str, part: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        for key, value in part.items():
            if isinstance(value, Mapping):
                yield from flat(f"{prefix}{key}.", value)
            elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
                yield from flat(f"{prefix}{key}.", {str(i): one for i, one in enumerate(value, 1)})
            else:
                yield f"{prefix}{key}", value

    def shown(value: Any) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(str(v) for v in value)
        return "–" if value is None else str(value)

    entries = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(shown(v))}</dd></div>" for k, v in flat("", values))
    return f"<dl>{entries}</dl>"


def bar(share: float | None, colour: str = "var(--accent)") -> str:
    """A horizontal bar for a fraction in [0, 1]."""
    if share is None:
        return '<span class="bar"></span>'
    return f'<span class="bar"><i style="width:{100 * min(max(share, 0), 1):.1f}%;background:{colour}"></i></span>'


def more(summary: str, body: str) -> str:
    """A collapsed section."""
    return f"<details><summary>{esc(summary)}</summary>{body}</details>"


def picture(image: Image.Image, text: str, quality: int = 84) -> str:
    """An image embedded in the page as JPEG."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{esc(text)}" width="{image.width}" height="{image.height}" '
        'loading="lazy">'
    )


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document; `lead` is HTML."""
    links = "".join(f'<a href="#{s.key}">{esc(s.title)}</a>' for s in sections)
    parts = "".join(f'<section id="{s.key}"><h2>{esc(s.title)}</h2>{s.body}</section>' for s in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{esc(title)}</title><style>{_CSS}</style></head><body>"
        f"<header><h1>{esc(title)}</h1>{lead}</header><nav>{links}</nav><main>{parts}</main></body></html>\n"
    )


_CSS = """
:root{--paper:#f6f7f9;--card:#fff;--ink:#1d2433;--soft:#5c6678;--line:#dfe3ea;--accent:#2f6fde;--cell:47,111,222;
--bad:#c8452d}
@media(prefers-color-scheme:dark){:root{--paper:#12151c;--card:#1b202a;--ink:#e6e9ef;--soft:#98a2b3;--line:#303847;
--accent:#6ea3ff;--cell:110,163,255;--bad:#ff8a70}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:3.5rem}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
header,main,nav{max-width:1120px;margin:0 auto;padding:0 1.25rem}
header{padding-top:2rem}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .35rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:0 0 .8rem}
h3{font-size:.95rem;margin:1.2rem 0 .4rem;color:var(--soft);font-weight:600}
p{margin:.3rem 0 .8rem;max-width:75ch;overflow-wrap:anywhere}
.soft,.none,figcaption,summary{color:var(--soft)}
.none{font-style:italic}
nav{position:sticky;top:0;z-index:1;display:flex;gap:.35rem;overflow-x:auto;scrollbar-width:none;background:var(--paper);
padding-top:.6rem;padding-bottom:.6rem}
nav a{white-space:nowrap;color:var(--soft);text-decoration:none;border:1px solid var(--line);border-radius:99px;
padding:.1rem .75rem;font-size:.85rem;background:var(--card)}
nav a:hover{color:var(--ink);border-color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.25rem 1.4rem;margin:0 0 1.1rem}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.cards{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));margin-bottom:1rem}
.card{border:1px solid var(--line);border-radius:10px;padding:.7rem .9rem}
.card b{display:block;font-size:1.9rem;line-height:1.2;font-variant-numeric:tabular-nums}
.card span{font-weight:600}
.card small{display:block;color:var(--soft);line-height:1.35}
.grid>*{min-width:0}
.wide{overflow-x:auto}
.wide+p{margin-top:.8rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.28rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-size:.82rem;color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}
.l{text-align:left}
td.text,.text{white-space:normal}
tbody tr:last-child td{border-bottom:0}
.bar{display:inline-block;width:110px;height:.6rem;border-radius:3px;background:var(--line);vertical-align:middle;
overflow:hidden}
.bar i{display:block;height:100%}
.dot{display:inline-block;width:.75rem;height:.75rem;border-radius:3px;margin-right:.5rem;vertical-align:-1px}
.plot{width:100%;height:auto;max-width:760px;display:block}
.plot text{font-family:inherit}
.narrow{max-width:30rem}
.matrix{width:auto}
.matrix td,.matrix th{border:1px solid var(--line);text-align:center;padding:.3rem .5rem;min-width:2.6rem}
.matrix th.side{text-align:right;white-space:nowrap}
.matrix .zero{color:var(--line)}
.gallery{display:grid;gap:1.1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr))}
figure{margin:0;min-width:0}
.pair{display:grid;gap:.4rem;grid-template-columns:1fr 1fr}
.pair small{color:var(--soft)}
figure img{width:100%;height:auto;border-radius:8px;display:block}
figcaption{font-size:.86rem;margin-top:.3rem;overflow-wrap:anywhere}
figcaption b{color:var(--ink)}
dl{display:grid;gap:.15rem 1.5rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));margin:0}
dl div{display:flex;gap:.8rem;justify-content:space-between;border-bottom:1px solid var(--line);padding:.2rem 0}
dt{color:var(--soft)}
dd{margin:0;min-width:45%;text-align:right;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
details{margin-top:.8rem}
summary{cursor:pointer;margin-bottom:.5rem}
abbr{text-decoration-color:var(--soft);cursor:help}
@media(max-width:600px){section{padding:1rem .9rem;border-radius:10px}
header,main,nav{padding-left:.7rem;padding-right:.7rem}
.cards{grid-template-columns:repeat(2,1fr)}.card b{font-size:1.5rem}.bar{width:64px}.pair{grid-template-columns:1fr}
.wide>.plot{min-width:26rem}}
@media print{nav{display:none}section{break-inside:avoid;border:0;padding:.5rem 0}}
""".replace("\n", "")
