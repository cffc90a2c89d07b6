"""Reading darknet's `.cfg` files: sections of key=value lines, in the order of the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sightline.errors import InputError
from sightline.runtime import reading
from sightline.runtime.limits import limits
from sightline.words import did_you_mean

_NET = """batch subdivisions momentum decay angle saturation exposure hue learning_rate burn_in max_batches policy steps
    scales power gamma step scale max_crop min_crop max_ratio min_ratio center clip aspect flip time_steps inputs adam
    B1 B2 eps random notruth mosaic cutmix mixup optimized_memory workspace_size_limit_MB label_smooth_eps
    dynamic_minibatch ema_alpha loss_scale max_chart_loss log_step"""
_YOLO = """jitter random max iou_thresh iou_normalizer cls_normalizer obj_normalizer iou_loss nms_kind beta_nms
    max_delta resize label_smooth_eps counters_per_class objectness_smooth"""

# of each kind: keys that the network is built from, keys that it does not depend on, keys whose value must be so
_KEYS: dict[str, tuple[str, str, dict[str, float]]] = {
    "net": ("width height channels letter_box", _NET, {}),
    "convolutional": (
        "batch_normalize filters size stride pad padding groups activation",
        "stopbackward",
        {"binary": 0, "xnor": 0, "flipped": 0, "dilation": 1, "dontload": 0, "dontloadscales": 0, "antialiasing": 0},
    ),
    "local": ("filters size stride pad activation", "", {}),
    "connected": ("output activation batch_normalize", "", {"flipped": 0, "dontload": 0}),
    "maxpool": ("size stride padding", "", {"maxpool_depth": 0, "antialiasing": 0}),
    "avgpool": ("", "", {}),
    "dropout": ("probability", "", {"dropblock": 0}),
    "route": ("layers groups group_id", "stopbackward", {}),
    "shortcut": ("from activation", "", {"alpha": 1, "beta": 1}),
    "upsample": ("stride scale", "", {}),
    "reorg": ("stride reverse", "", {"flatten": 0, "extra": 0}),
    "crop": ("crop_width crop_height noadjust", "flip angle saturation exposure shift", {}),
    "softmax": ("groups temperature", "noloss", {"spatial": 0}),
    "cost": ("", "type scale ratio noobj thresh", {}),
    "region": (
        "anchors classes num softmax rescore object_scale noobject_scale class_scale coord_scale thresh",
        "jitter random max absolute log",
        {"coords": 4, "background": 0, "bias_match": 1},
    ),
    "yolo": ("mask num classes anchors ignore_thresh truth_thresh scale_x_y", _YOLO, {"new_coords": 0}),
    "detection": (
        "classes side num rescore softmax sqrt object_scale noobject_scale class_scale coord_scale",
        "jitter random max forced reorg",
        {"coords": 4, "background": 0},
    ),
}
_ALIASES = {
    "network": "net",
    "conv": "convolutional",
    "conn": "connected",
    "max": "maxpool",
    "avg": "avgpool",
    "soft": "softmax",
}
HEADS = ("region", "yolo", "detection")
"""Kinds of sections that give boxes."""


@dataclass(frozen=True)
class Section:
    """A layer's section, or [net].

    Attributes:
        kind: its name, of several names for the same the usual one.
        line: where it begins in the file, from 1.
        source: the file, for errors.
        options: values by key, as written.
        lines: line of each key.
    """

    kind: str
    line: int
    source: str
    options: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def error(self, what: str, key: str | None = None) -> InputError:
        """An error that begins with the file, the line and the section."""
        line = self.line if key is None else self.lines.get(key, self.line)
        return InputError(f"{self.source}, line {line}, [{self.kind}]: {what}")

    def __contains__(self, key: object) -> bool:
        return key in self.options

    def text(self, key: str, default: str) -> str:
        """The value as it is written."""
        return self.options.get(key, default)

    def numbers(self, key: str) -> list[float]:
        """Numbers divided by commas; none where the key is absent."""
        values = [v.strip() for v in self.options.get(key, "").split(",") if v.strip()]
        try:
            found = [float(v) for v in values]
        except ValueError:
            found = [math.nan]
        if not all(map(math.isfinite, found)):
            raise self.error(f"{key}={self.options[key]} must be numbers divided by commas", key)
        return found

    def number(self, key: str, default: float) -> float:
        """One number."""
        if key not in self.options:
            return default
        found = self.numbers(key)
        if len(found) != 1:
            raise self.error(f"{key}={self.options[key]} must be one number", key)
        return found[0]

    def whole_numbers(self, key: str) -> list[int]:
        """Whole numbers divided by commas; none where the key is absent."""
        found = self.numbers(key)
        if any(v != int(v) for v in found):
            raise self.error(f"{key}={self.options[key]} must be whole numbers", key)
        return [int(v) for v in found]

    def whole(self, key: str, default: int | None = None, least: int = 0) -> int:
        """One whole number, not below `least`; without a default the key must be there."""
        if key not in self.options:
            if default is None:
                raise self.error(f"{key} is missing; add a line {key}=…")
            return default
        found = self.whole_numbers(key)
        if len(found) != 1 or found[0] < least or found[0] > limits().count:
            raise self.error(
                f"{key}={self.options[key]} must be one whole number from {least} to {limits().count}", key
            )
        return found[0]

    def with_options(self, **options: object) -> Section:
        """The same section with other values."""
        return replace(self, options=self.options | {k: str(v) for k, v in options.items()})


def read_cfg(cfg: str | Path) -> list[Section]:
    """The sections of a file, or of a text that has more than one line.

    Raises:
        InputError: there is no such file, it is no text, or as for `parse_cfg`.
    """
    if isinstance(cfg, str) and ("\n" in cfg or cfg.lstrip().startswith("[")):
        return parse_cfg(cfg)
    path = Path(cfg)
    if not path.exists():
        raise InputError(f"{path}: there is no such file; give a darknet .cfg file, or its text")
    return parse_cfg(reading.read_text(path), str(path))


def parse_cfg(text: str, source: str = "cfg") -> list[Section]:
    """The sections of a text: [net] first, then one per layer.

    Lines that begin with # or ; are comments, and so is what follows one in a line. Of a key given twice the first
    counts, as in darknet. Keys that matter in training alone (batches, steps, augmentation) are kept and not used; any
    other key must be one that the network is built from.

    Args:
        text: of the file.
        source: its name, for errors.

    Raises:
        InputError: a section or a key is unknown, a value asks for what is not supported, or a line is neither; the
            sentence names file, line and section.
    """
    sections: list[Section] = []
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line = raw.split("#")[0].split(";")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            sections.append(_section(line, number, source))
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key:
            raise InputError(f"{source}, line {number}: {line!r} is neither a [section] nor key=value")
        if not sections:
            raise InputError(f"{source}, line {number}: {line!r} stands before any [section]; begin with [net]")
        if key not in sections[-1].options:
            sections[-1].options[key] = value
            sections[-1].lines[key] = number
            _check_key(sections[-1], key)
    if not sections or sections[0].kind != "net":
        first = f"[{sections[0].kind}]" if sections else "nothing"
        raise InputError(f"{source}: it begins with {first}, but a darknet .cfg file begins with [net]")
    if len(sections) == 1:
        raise sections[0].error("there is no layer behind it")
    for section in sections[1:]:
        if section.kind == "net":
            raise section.error("a second [net]; a file describes one network")
    return sections


def render_cfg(sections: Sequence[Section]) -> str:
    """The text of sections: what `parse_cfg` reads back."""
    blocks = []
    for section in sections:
        blocks.append("\n".join([f"[{section.kind}]", *(f"{k}={v}" for k, v in section.options.items())]))
    return "\n\n".join(blocks) + "\n"


def classes_of(head: Section) -> int:
    """The number of classes of a head; the default is darknet's: 20, or 1 for [detection]."""
    return head.whole("classes", 1 if head.kind == "detection" else 20, 1)


def with_classes(sections: Sequence[Section], count: int) -> list[Section]:
    """The sections for another number of classes: that of each head, and the width of the layer before it.

    Of a classifier it is the width of the last layer with weights.

    Raises:
        InputError: another kind of layer stands before a head.
    """
    changed = list(sections)
    heads = [i for i, section in enumerate(sections) if section.kind in HEADS]
    for i in heads:
        head, before = sections[i], sections[i - 1]
        if classes_of(head) == count:
            continue
        if head.kind == "detection":
            width = head.whole("side", 7, 1) ** 2 * (5 * head.whole("num", 1, 1) + count)
        else:
            boxes = len(head.numbers("mask")) or head.whole("num", 1, 1)
            width = boxes * (5 + count)
        key = {"convolutional": "filters", "connected": "output"}.get(before.kind)
        if key is None:
            raise head.error(f"[{before.kind}] stands before it, so it cannot be given {count} classes; edit the file")
        changed[i], changed[i - 1] = head.with_options(classes=count), before.with_options(**{key: width})
    if not heads:
        last = [i for i, section in enumerate(sections) if section.kind in ("convolutional", "connected")]
        if last:
            key = "filters" if sections[last[-1]].kind == "convolutional" else "output"
            changed[last[-1]] = sections[last[-1]].with_options(**{key: count})
    return changed


def _section(line: str, number: int, source: str) -> Section:
    name = line.strip("[] \t").lower()
    kind = _ALIASES.get(name, name)
    if not line.endswith("]") or kind not in _KEYS:
        hint = did_you_mean(kind, _KEYS, f"known are {', '.join(_KEYS)}.")
        raise InputError(f"{source}, line {number}: {line} is no section that Sightline reads; {hint}")
    return Section(kind, number, source)


def _check_key(section: Section, key: str) -> None:
    used, harmless, fixed = _KEYS[section.kind]
    if key in fixed:
        if section.number(key, fixed[key]) != fixed[key]:
            raise section.error(
                f"{key}={section.options[key]} is not supported, only {key}={fixed[key]}; use a file without it", key
            )
    elif key in ("tree", "map") and section.kind in ("region", "softmax", "yolo"):
        raise section.error(
            f"{key}={section.options[key]}: trees of classes are not supported; use a file without", key
        )
    elif key not in used.split() and key not in harmless.split():
        known = [*used.split(), *harmless.split(), *fixed]
        hint = did_you_mean(key, known, "remove the line if the network does not depend on it.")
        raise section.error(f"the key {key} is unknown; {hint}", key)
