"""Numbers with their nouns and verbs, for sentences that people read."""

from __future__ import annotations


def counted(number: float, what: str = "image") -> str:
    """The number with its noun: 1 image, 2 images, 3 classes, 2.5 minutes."""
    ending = "" if number == 1 else "es" if what.endswith(("s", "x")) else "s"
    return f"{number:g} {what}{ending}" if isinstance(number, float) else f"{number} {what}{ending}"


def are(number: int) -> str:
    """The verb after a count: 1 image is, 2 images are."""
    return "is" if number == 1 else "are"
