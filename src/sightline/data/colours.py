"""One colour per class, the same in images, palettes and reports, chosen to suit colour-blind readers."""

from __future__ import annotations

Colour = tuple[int, int, int]

_HEX = (
    "d55e00 56b4e9 f0e442 009e73 cc79a7 0072b2 e69f00 5a3c2d 96ffff 87005a ffc3b4 3c00d2 7878ff 78783c ff4b69 96d2ff "
    "c3ff78 00a5a5 006987 961e00 964b5a f0781e 69f0e1 d2c396 871eff b487ff 0f3c96 f05a87 a55a00 005a3c 78b4c3 ffc300 "
    "6978b4 784b69 f0785a 96ffd2 870f1e 2d9687 e196ff 3c3cd2 e1e187 d24b69 e10f00 96f0ff e1a5a5 0087d2 4b3c5a f0964b "
    "3c784b 007887 3cffe1 d2a5d2 1e5ac3 d2ff00 f0e1a5 b41e1e ff005a 78b496 5a96e1 693c4b 3c3c78 ffb45a 967896 4b693c "
    "ffc3d2 695aff 69c3e1 b4ffc3 c33c78 00a51e b4b487 5a4b00 0f4b3c 6900b4 ff78c3 b47878 9669a5 ffd269 3c782d 96e1ff "
    "b4e1c3 2d4b69 d2873c 007878 5a3c1e b41ee1 e10f4b 5ab4b4 78b4ff c39687 d2c378 00875a 695a96 d25ac3 873c5a b4f0f0 "
)
_PALETTE: tuple[Colour, ...] = tuple(
    (red, green, blue) for red, green, blue in zip(*[iter(bytes.fromhex(_HEX))] * 3, strict=True)
)
"""96 colours. The first seven are those of Okabe and Ito ("Color Universal Design", 2008, without black), ordered so
that neighbours differ most on photos. Each later colour is the colour of an sRGB grid (not grey, black or white) with
the largest CIEDE2000 distance (CIE 142, 2001) to the ones before it, both for normal vision and for people without red
or green cones (Machado, Oliveira and Fernandes, 2009). Nearby ids differ most: among any seven consecutive ids the
distance is at least 18, and at least 10 without red or green cones."""


def class_colour(position: int) -> Colour:
    """The colour of the class with this id; the first 300 000 colours are distinct.

    From id 96 on the colours repeat, a little redder (by the grid step of 15), then greener, then bluer.
    """
    red, green, blue = _PALETTE[position % len(_PALETTE)]
    turn = position // len(_PALETTE)
    return (red + turn % 15) % 256, (green + turn // 15 % 15) % 256, (blue + turn // 225 % 15) % 256


def css(colour: Colour) -> str:
    """The colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
