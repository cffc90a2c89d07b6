"""A colour for each class, the same in pictures, palettes and reports; told apart by colour-blind people."""

from __future__ import annotations

Colour = tuple[int, int, int]

_HEX = (
    "d55e00 56b4e9 f0e442 009e73 cc79a7 0072b2 e69f00 96002d ffd2ff 6900ff 5ae1a5 9678ff 5a3c87 ff3c3c ff87f0 a54b78 "
    "d200c3 5aa587 e1f096 3ce100 784b00 78f0ff 2d5aff ffb496 009600 690fa5 a587c3 00694b 69c3ff d20f87 ff6978 c3ff69 "
    "2d00e1 b40f00 875ac3 00f0e1 ffb400 2da54b 870078 c396c3 e14bff 007887 96d287 ff5a00 3c4bb4 d21e69 963c2d 7878d2 "
    "b4d2ff 1eff00 1eb478 4bffd2 e187e1 961ee1 4b8796 961e69 c3c35a c3783c 5a4b96 4bd2c3 f03ce1 69693c 4bff78 960000 "
    "c3f0f0 5a00c3 f0a5ff b469a5 0f5a4b a5b43c 1e964b 2d96f0 5a5ab4 e1a5a5 b40f78 87f0a5 a50fff ff3c69 965a00 a5a5ff "
    "699696 780096 69d22d 69d2e1 006987 2d3cd2 872d3c 9678c3 ffe1c3 c3b487 ff5a4b c3f05a c33c1e 3ca569 ff00b4 782da5 "
)
_PALETTE: tuple[Colour, ...] = tuple(
    (red, green, blue) for red, green, blue in zip(*[iter(bytes.fromhex(_HEX))] * 3, strict=True)
)
"""96 colours. The first seven are Okabe and Ito's ("Color Universal Design", 2008, without black), ordered so that
neighbours differ most on photos. Each later one is the colour of a grid over sRGB (OKLab lightness 0.42 to 0.93, not
grey) that lies farthest from those before it, in OKLab (Ottosson, 2020), seen with normal vision and by people without
red or green cones (Machado, Oliveira and Fernandes, 2009): near ids must differ most, so that of any seven ids in a row
no two are closer than 18 in CIELAB."""


def class_colour(position: int) -> Colour:
    """The colour of the class with this id; no two of the first 300 000 are equal.

    From 96 on the colours come again, a little redder (the steps of the grid are 15), then greener, then bluer.
    """
    red, green, blue = _PALETTE[position % len(_PALETTE)]
    turn = position // len(_PALETTE)
    return (red + turn % 15) % 256, (green + turn // 15 % 15) % 256, (blue + turn // 225 % 15) % 256


def css(colour: Colour) -> str:
    """As #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
