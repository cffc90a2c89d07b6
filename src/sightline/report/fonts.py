"""Fonts for text in any script: the first font that has all characters, and codes for characters that none has.

Latin-1 is drawn with Pillow's own font; Greek, Cyrillic and more with DejaVu Sans, which is part of matplotlib;
Chinese, Japanese, Korean and all others with a font installed on the machine, if there is one.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from sightline.words import shown

log = logging.getLogger("sightline")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PREFERRED = (
    *("notosanscjk", "notosanssc", "notosansjp", "notosanskr", "notosanstc", "sourcehansans", "pingfang", "hiragino"),
    *("applesdgothicneo", "msyh", "meiryo", "malgun", "yugoth", "simsun", "msgothic", "wqy", "droidsansfallback"),
    *("arialuni", "arial unicode", "ipag", "ipaexg", "takao", "nanumgothic", "uming", "ukai", "notosans-regular"),
    *("notosans", "dejavusans", "freesans", "unifont"),
)
"""File name prefixes of fonts with many characters, the best-looking ones first."""
_MOST = 400
"""Maximum number of installed fonts that are searched."""
_NOWHERE = "\U0010fffe"  # not a character: drawn as the missing glyph


def font_for(text: str, size: int) -> Font:
    """The font for `text` at a size in pixels: the first that has all its characters, or else most of them."""
    return _sized(_font_of("".join(sorted(set(text)))), size)


def drawable(text: str) -> str:
    """`text` as `font_for(text, …)` can draw it: missing characters become their codes, such as U+732B.

    The first text in whose script no installed font has letters is logged, with what to install.
    """
    letters = "".join(sorted(set(text)))
    missing = set(_missing(_font_of(letters), letters))
    if not missing:
        return text
    if any(unicodedata.category(letter)[0] in "LM" for letter in missing):
        _log_once(text)
    coded = "".join(f" U+{ord(c):04X} " if c in missing else c for c in text)
    return re.sub(" +", " ", coded).strip()


_told: set[str] = set()


def _log_once(text: str) -> None:
    """Log, once per process, that no font has the letters of a text."""
    if not _told:
        log.warning(
            "no font of this computer has all letters of %s: pictures show their codes, such as U+732B; install a font "
            "with them, such as Noto Sans CJK (fonts-noto-cjk) for Chinese, Japanese and Korean",
            shown(text),
        )
    _told.add(text)


@functools.lru_cache(maxsize=512)
def _font_of(letters: str) -> str:
    """The file of the first font that has all characters, or else most of them; "" is Pillow's own font."""
    best, fewest = "", len(letters) + 1
    for path in _candidates(letters):
        lacking = len(_missing(path, letters))
        if not lacking:
            return path
        if lacking < fewest:
            best, fewest = path, lacking
    return best


def _candidates(letters: str) -> Iterator[str]:
    yield ""
    if letters.isascii():
        return
    plots = find_spec("matplotlib")  # only its folder is needed; importing it would take a tenth of a second
    for folder in (plots.submodule_search_locations or []) if plots else []:
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            yield str(path)
    yield from _installed()


@functools.lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Files of installed fonts: those with many characters first, upright fonts of normal weight before others."""
    home = Path.home()
    folders: dict[str, list[str | Path]] = {
        "darwin": ["/System/Library/Fonts", "/Library/Fonts", home / "Library/Fonts"],
        "win32": [
            Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts",
            home / "AppData/Local/Microsoft/Windows/Fonts",
        ],
        "linux": ["/usr/share/fonts", "/usr/local/share/fonts", home / ".local/share/fonts", home / ".fonts"],
    }
    found = []
    for folder in folders.get(sys.platform, folders["linux"]):
        for at, _, names in os.walk(folder):
            found += [os.path.join(at, name) for name in names if name.lower().endswith((".ttf", ".otf", ".ttc"))]

    def place(path: str) -> tuple[int, bool, str]:
        name = os.path.basename(path).lower().replace("-", "").replace("_", "")
        starts = (start.replace("-", "") for start in _PREFERRED)
        rank = next((k for k, start in enumerate(starts) if name.startswith(start)), len(_PREFERRED))
        return rank, any(word in name for word in ("bold", "italic", "oblique", "light", "thin", "mono")), path

    return tuple(sorted(found, key=place)[:_MOST])


@functools.lru_cache(maxsize=64)
def _sized(path: str, size: int) -> Font:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def _missing(path: str, letters: str) -> list[str]:
    """The characters that a font draws as its missing glyph."""
    return [letter for letter in letters if letter != " " and not _has(path, letter)]


@functools.lru_cache(maxsize=1 << 14)
def _has(path: str, letter: str) -> bool:
    kind = unicodedata.category(letter)
    if kind in ("Cc", "Cs", "Zl", "Zp"):  # line breaks, other control characters, lone surrogates
        return False
    if kind == "Zs":
        return True
    try:
        return _picture(path, letter) != _picture(path, _NOWHERE)
    except (OSError, ValueError):  # not a font file
        return False


@functools.lru_cache(maxsize=1 << 10)
def _picture(path: str, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = _sized(path, 20).getmask(letter)
    return mask.size, bytes(mask)
