"""What a check finds: problems by rule, counts of classes, and the report a person reads."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


class Rule(NamedTuple):
    """What a rule looks for, how bad it is, and what to do about it."""

    level: Level
    title: str
    advice: str


_ERRORS = {
    "no-images": ("no images", "open a folder that holds images, or correct the split files"),
    "no-objects": ("no objects", "label some, or open the right label files: there is nothing to learn"),
    "split-empty": ("empty splits", "divide anew with .split(0.8, 0.1, 0.1), or name the split's files"),
    "split-missing": (
        "splits whose folder or list is not there",
        "correct the path in the file, or name the split's folder with --train, --val or --test",
    ),
    "image-missing": ("images that are not there", "add the file or remove its label; --fix leaves it out"),
    "image-truncated": ("images cut short", "copy the file anew; --fix leaves it out"),
    "image-unreadable": ("images that cannot be read", "replace the file; --fix leaves it out"),
    "size-differs": (
        "labels of another size than their image",
        "see whether the label belongs to this image; --fix takes the image's size",
    ),
    "map-invalid": ("class maps that cannot be used", "open the file and correct it"),
    "one-class": (
        "labels of a single class",
        "see what the labels stand for, and name every class (of class maps the background, too): there is nothing to "
        "learn",
    ),
    "boxes-elsewhere": (
        "labels most of whose boxes leave their image",
        "see whether they are written in other units (pixels for shares of the image, corners for widths and heights)",
    ),
    "label-malformed": ("labels that cannot be read", "correct the line; --fix removes it"),
    "outline-malformed": (
        "outlines that cannot be read",
        "correct the file; --fix removes the outline and keeps the box",
    ),
    "unknown-class": ("labels of unknown classes", "add the class or correct the label; --fix removes the object"),
    "box-not-finite": ("boxes that are not numbers", "draw the box anew; --fix removes it"),
    "keypoint-not-finite": ("keypoints that are not numbers", "mark the point again; --fix marks it as absent"),
    "box-inverted": (
        "boxes with their corners exchanged",
        "exchange them; --fix clip does that, --fix drop removes the object",
    ),
}
_WARNINGS = {
    "box-zero-area": ("boxes without area", "training leaves them out; --fix removes them"),
    "box-outside": (
        "boxes that leave their image",
        "training clips them, and leaves out what lies wholly outside; --fix clip does that for good, "
        "--fix drop removes the object",
    ),
    "box-duplicate": ("objects labelled twice", "remove one of the two; --fix does"),
    "outline-broken": (
        "outlines that cannot be used",
        "draw the outline anew; --fix removes what cannot be used and keeps the box",
    ),
    "mask-size-differs": (
        "masks of another size than their image",
        "encode the mask anew at the image's size; --fix removes it and keeps the box",
    ),
    "outline-missing": (
        "objects without outline among others that have one",
        "draw their outlines before a training with masks, which takes their masks as empty",
    ),
    "keypoint-visibility": (
        "keypoints whose visibility is not 0, 1 or 2",
        "write 0 (absent), 1 (hidden) or 2 (visible): training takes every number above 0 for a point that is there",
    ),
    "keypoint-outside": ("keypoints outside their image", "move the point, or mark it as absent"),
    "label-without-image": ("labels without an image", "add the image, or remove the label; training skips it"),
    "image-left-out": (
        "images that belong to no split",
        "name their folder with --train, --val or --test, or move them into a split's folder",
    ),
    "splits-share-images": (
        "splits that hold the same files",
        "give each its own, or the evaluation measures memory instead of skill",
    ),
    "duplicate-across-splits": (
        "the same image in several splits",
        "keep it in one of them, or the evaluation measures memory instead of skill",
    ),
    "similar-across-splits": (
        "nearly the same image in several splits",
        "look at them, and keep views of one scene in one split",
    ),
    "duplicate-in-classes": (
        "the same image in several classes",
        "keep it in the right one: no model can learn both",
    ),
    "similar-in-classes": (
        "nearly the same image in several classes",
        "look at them: one of the labels may be wrong",
    ),
    "class-missing": ("classes without objects in a split", "label some, or divide anew with another seed"),
    "class-rare": ("classes with few objects to learn from", "label more of them"),
    "anchors-misfit": ("shapes the model has no anchor for", "change the model's anchors or its input size"),
    "objects-tiny": ("objects too small to see", "use a larger input size, or cut the images into tiles"),
}
_NOTES = {
    "reading-note": ("how the files were read", "see whether that is what they mean"),
    "duplicate-images": ("the same image several times", "remove the copies, unless they are meant to weigh more"),
    "similar-images": ("nearly the same images", "look at them: they teach less than their number says"),
    "class-imbalance": ("classes of very different frequency", "watch the results of the rare ones, class by class"),
    "image-without-label": (
        "images without objects",
        "they train as background; label them if that is not what they are",
    ),
    "full-scale": (
        "images of more than 8 bits a sample",
        "their samples are divided by this full scale, in training, evaluation and prediction alike; give another one "
        "(--full-scale, in Python full_scale=) if it is not the range of the camera",
    ),
    "exif-rotated": (
        "images turned by their EXIF mark",
        "they are read upright; see that their labels were drawn upright, too",
    ),
}
RULES: dict[str, Rule] = {
    name: Rule(level, *texts)
    for level, rules in zip(LEVELS, (_ERRORS, _WARNINGS, _NOTES), strict=True)
    for name, texts in rules.items()
}
"""Every rule by its stable name."""


@dataclass(frozen=True)
class Problem:
    """One thing found.

    Attributes:
        rule: its stable name, a key of `RULES`.
        value: what was found, as the start of a sentence.
        file: the image's or the label's path relative to the dataset's root; empty where it is about the whole.
        annotation: the annotation's id in a file that has ids (COCO), else its number in the image's label, from 1.
        level: "error" (training cannot start), "warning" (it can, but will suffer), "note".
    """

    rule: str
    value: str
    file: str = ""
    annotation: int | None = None
    level: Level = "note"

    @classmethod
    def of(
        cls, rule: str, value: str, file: str = "", annotation: int | None = None, level: Level | None = None
    ) -> Problem:
        """A problem with its rule's level (or another)."""
        return cls(rule, value, file, annotation, level or RULES[rule].level)

    @property
    def message(self) -> str:
        """One sentence: file, value, what to do."""
        return f"{self.what}; {RULES[self.rule].advice}"

    @property
    def what(self) -> str:
        """File and value."""
        return f"{self.file}: {self.value}" if self.file else self.value

    def to_dict(self) -> dict[str, Any]:
        """Of values JSON can hold."""
        return {
            "level": self.level,
            "rule": self.rule,
            "file": self.file,
            "annotation": self.annotation,
            "message": self.message,
        }


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes:
        problems: errors first, then warnings, then notes, each by rule.
        format: of the dataset.
        images: number of images by split.
        counts: number of objects (or images, or pixels: see `unit`) by split and class name.
        sizes: of objects: median width and height and share of small ones, by split; and how the anchors fit.
        unit: what is counted: "objects", "images" or "pixels".
        looked_at_images: False where pixels were not looked at (full=False).
    """

    problems: tuple[Problem, ...]
    format: str
    images: dict[str, int]
    counts: dict[str, dict[str, int]]
    sizes: dict[str, Any] = field(default_factory=dict)
    unit: str = "objects"
    looked_at_images: bool = True

    @property
    def ok(self) -> bool:
        """Whether training can start: there are no errors."""
        return not any(problem.level == "error" for problem in self.problems)

    def of_rule(self, rule: str) -> list[Problem]:
        """The problems of one rule."""
        return [problem for problem in self.problems if problem.rule == rule]

    def to_dict(self) -> dict[str, Any]:
        """Everything, of values JSON can hold."""
        return {
            "ok": self.ok,
            "format": self.format,
            "images": self.images,
            "unit": self.unit,
            "counts": self.counts,
            "sizes": self.sizes,
            "looked_at_images": self.looked_at_images,
            "problems": [problem.to_dict() for problem in self.problems],
        }

    def text(self, examples: int = 3, classes: int = 20, width: int = 100) -> str:
        """The report as plain text.

        Args:
            examples: problems shown of each rule.
            classes: rows of the table of classes.
            width: characters a line, except for long file names.
        """
        parts = [
            self._headline(),
            self._verdict(),
            *self._groups(examples, width),
            self._table(classes),
            self._size_lines(),
        ]
        return "\n\n".join(part for part in parts if part)

    def __str__(self) -> str:
        return self.text()

    def _headline(self) -> str:
        total = sum(self.images.values())
        splits = ", ".join(f"{name} {count}" for name, count in self.images.items())
        objects = sum(sum(row.values()) for row in self.counts.values())
        of = f", {_number(objects)} {self.unit}" if self.unit == "objects" else ""
        kinds = len(next(iter(self.counts.values()), {}))
        note = "" if self.looked_at_images else " (labels and headers only; pixels were not looked at)"
        images = f"{_plural(total, 'image')} ({splits})" if len(self.images) > 1 else _plural(total, "image")
        return f"Format {self.format}: {images}{of}, {_plural(kinds, 'class', 'classes')}{note}"

    def _verdict(self) -> str:
        found = Counter(problem.level for problem in self.problems)
        counts = ", ".join(_plural(found[level], level) for level in LEVELS if found[level])
        if not self.ok:
            return f"Training cannot start: {counts}."
        return f"Training can start: {counts or 'nothing was found'}."

    def _groups(self, examples: int, width: int) -> list[str]:
        groups: dict[tuple[str, str], list[Problem]] = {}
        for problem in self.problems:
            groups.setdefault((problem.level, problem.rule), []).append(problem)
        texts = []
        for (level, name), found in groups.items():
            rule = RULES[name]
            title = rule.title.replace("objects", self.unit)
            lines = [f"{level.upper()} {name} ({len(found)}): {title}"]
            for problem in found[:examples]:
                lines += _wrapped(problem.what, width, "  · ")
            if len(found) > examples:
                lines.append(f"  · … and {_number(len(found) - examples)} more")
            # a copy is repaired of objects alone
            advice = rule.advice if self.unit == "objects" else rule.advice.split("; --fix")[0]
            lines += _wrapped(advice, width, "  → ")
            texts.append("\n".join(lines))
        return texts

    def _table(self, limit: int) -> str:
        names = list(next(iter(self.counts.values()), {}))
        if not names:
            return ""
        totals = {name: sum(row.get(name, 0) for row in self.counts.values()) for name in names}
        shown = sorted(names, key=lambda name: -totals[name])
        rows = [[name, *(_number(row.get(name, 0)) for row in self.counts.values())] for name in shown[:limit]]
        if len(names) > limit:
            rest = shown[limit:]
            rows.append(
                [f"… {len(rest)} more", *(_number(sum(row.get(n, 0) for n in rest)) for row in self.counts.values())]
            )
        header = [f"{self.unit} by class", *self.counts]
        rows.append(["all", *(_number(sum(row.values())) for row in self.counts.values())])
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in [header, *rows]
        ]
        rule = "  ".join("─" * w for w in widths)
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def _size_lines(self) -> str:
        if not self.sizes:
            return ""
        width, height = self.sizes["median"]
        small, medium, large = (round(100 * self.sizes[name]) for name in ("small", "medium", "large"))
        text = (
            f"The median object is {width:.0f} × {height:.0f} pixels; {small} % are small (below 32²), "
            f"{medium} % medium, {large} % large (above 96²)."
        )
        if "anchors" in self.sizes:
            fit = self.sizes["anchors"]
            text += (
                f"\nThe model's anchors fit {100 * (1 - fit['misfit']):.0f} % of them "
                f"(shape IoU at least 0.5; median {fit['median_iou']:.2f})."
            )
        return text


def _wrapped(text: str, width: int, start: str) -> list[str]:
    text = text.replace(" × ", "\u00a0×\u00a0").replace(" %", "\u00a0%")  # what belongs together stays on a line
    indent = " " * len(start)
    return textwrap.wrap(
        text, width, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{_number(count)} {one if count == 1 else many or one + 's'}"


def _number(count: int) -> str:
    return f"{count:,}" if count >= 10_000 else str(count)
