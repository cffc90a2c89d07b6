"""Limits on sizes and counts, so that a single small file or number cannot exhaust the machine.

The defaults are far above what real datasets need. The environment variable SIGHTLINE_LIMITS changes all limits at
once: a factor ("10" allows ten times as much), or "off".
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from functools import lru_cache

from sightline.errors import InputError

VARIABLE = "SIGHTLINE_LIMITS"


@dataclass(frozen=True)
class Limits:
    """The limits of all kinds. Every limit is inclusive.

    Attributes:
        file_bytes: size of a file that is read as a whole (text, JSON, XML, CSV, darknet weights). Files that are read
            in pieces, such as the annotations of a COCO file, have no limit.
        yaml_bytes: size of a YAML file or value; reading YAML takes about a hundred times as long as JSON.
        yaml_values: values of a YAML document after expanding its aliases.
        depth: nesting depth of lists and objects in JSON, YAML and XML.
        digits: digits of an integer in JSON and YAML.
        rows: rows of a CSV file.
        field: characters of one field of a CSV file.
        pixels: pixels of an image according to its header; Pillow's own limit.
        array_bytes: size of an array file (.npy) that is read as an image.
        channels: channels of an image.
        class_ids: classes of a dataset, and therefore the largest class id.
        image_side: height and width requested of a model or a renderer, in pixels.
        image_pixels: pixels of one image requested of a model or a renderer.
        workers: processes that read images.
        epochs: epochs of a training run.
        batch_size: images per step.
        count: anything else that is counted: scenes, anchors, layers, proposals.
        parameters: parameters of a model.
        archive_entries: files in a zip or tar archive.
        archive_bytes: expanded size of an archive's contents.
        archive_ratio: expanded size of an archive of more than 1 GiB, as a multiple of its own size.
    """

    file_bytes: int = 2**30
    yaml_bytes: int = 2**25
    yaml_values: int = 2_000_000
    depth: int = 100
    digits: int = 300
    rows: int = 50_000_000
    field: int = 2**25
    pixels: int = 178_956_970
    array_bytes: int = 2**31
    channels: int = 1024
    class_ids: int = 1_000_000
    image_side: int = 65_536
    image_pixels: int = 178_956_970
    workers: int = 1024
    epochs: int = 10_000_000
    batch_size: int = 1_000_000
    count: int = 10_000_000
    parameters: int = 3_000_000_000
    archive_entries: int = 2_000_000
    archive_bytes: int = 2**38
    archive_ratio: int = 200

    def times(self, factor: float) -> Limits:
        """All limits multiplied by a factor; infinity removes them."""
        most = 2**63 - 1
        return Limits(
            **{
                field.name: min(most, math.ceil(getattr(self, field.name) * factor)) if factor < math.inf else most
                for field in dataclasses.fields(self)
            }
        )


def limits() -> Limits:
    """The current limits: the defaults, scaled by the environment variable SIGHTLINE_LIMITS.

    Raises:
        InputError: the variable is neither "off" nor a positive number.
    """
    return _limits(os.environ.get(VARIABLE, ""))


@lru_cache(maxsize=4)
def _limits(setting: str) -> Limits:
    text = setting.strip().lower().lstrip("x×")
    if not text:
        return Limits()
    if text == "off":
        return Limits().times(math.inf)
    try:
        factor = float(text)
    except ValueError:
        factor = 0
    if not factor > 0:
        raise InputError(
            f"the environment variable {VARIABLE} is {setting!r}; give a factor such as 10, or off for no limits"
        )
    return Limits().times(factor)


def require_within(what: str, value: float, name: str, unit: str = "") -> None:
    """Check that a value does not exceed a limit.

    Args:
        what: the subject of the message: "labels/1.txt, line 3: the class id".
        value: the value to compare.
        name: an attribute of `Limits`.
        unit: the unit of the value, for the message.

    Raises:
        InputError: the value exceeds the limit; the message says how to raise it.
    """
    most = getattr(limits(), name)
    if value > most:
        raise beyond(what, value, most, unit)


def beyond(what: str, value: float, most: float, unit: str = "") -> InputError:
    """The error for a value above a limit."""
    behind = f" {unit}" if unit else ""
    return InputError(
        f"{what} is {_shown(value)}{behind}, above the limit of {_shown(most)}{behind}; correct it, "
        f"or raise all limits with {VARIABLE}=10 (ten times as much; off for none)"
    )


def _shown(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if abs(value) < 10**15 else f"about 10^{_magnitude(value)}"
    return f"{value:g}"


def _magnitude(value: int) -> int:
    return int((value.bit_length() - 1) * math.log10(2))
