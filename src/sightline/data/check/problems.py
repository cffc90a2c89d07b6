"""The results of a check: problems by rule, class counts, and a text report."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


class Rule(NamedTuple):
    """Severity of a rule, a title for its problems, and how to solve them."""

    level: Level
    title: str
    advice: str


_ERRORS = {
    "no-images": ("no images", "open a folder that contains images, or correct the split files"),
    "no-objects": ("no objects", "label some, or open the right label files: there is nothing to learn"),
    "split-empty": ("empty splits", "divide the data again with .split(0.8, 0.1, 0.1), or name the split's files"),
    "split-missing": (
        "splits whose folder or list does not exist",
        "correct the path in the file, or name the split's folder with --train, --val or --test",
    ),
    "image-missing": ("missing images", "add the file or remove its label; --fix leaves it out"),
    "image-truncated": ("truncated images", "copy the file again; --fix leaves it out"),
    "image-unreadable": ("unreadable images", "replace the file; --fix leaves it out"),
    "size-differs": (
        "labels whose size differs from their image",
        "check that the label belongs to this image; --fix uses the size of the image",
    ),
    "map-invalid": ("class maps that cannot be used", "open the file and correct it"),
    "event-invalid": (
        "events that cannot be used",
        "correct the times or remove the event: it must end after its start, within the video",
    ),
    "one-class": (
        "labels with a single class",
        "check what the labels mean, and name every class (for class maps including the background): there is nothing "
        "to learn",
    ),
    "boxes-elsewhere": (
        "labels whose boxes seem to use other units",
        "check whether they are pixels instead of fractions, fractions instead of pixels, or corners instead of width "
        "and height",
    ),
    "label-malformed": ("labels that cannot be read", "correct the line; --fix removes it"),
    "depth-invalid": ("depth maps that cannot be used", "add or correct the file, or remove its name from the camera"),
    "label-invalid": ("labels that cannot be used", "correct the label"),
    "outline-malformed": (
        "outlines that cannot be read",
        "correct the file; --fix removes the outline and keeps the box",
    ),
    "unknown-class": ("labels of unknown classes", "add the class or correct the label; --fix removes the object"),
    "box-not-finite": ("boxes with NaN or infinite coordinates", "draw the box again; --fix removes it"),
    "keypoint-not-finite": (
        "keypoints with NaN or infinite coordinates",
        "mark the point again; --fix marks it as absent",
    ),
    "box-inverted": (
        "boxes with swapped corners",
        "swap them back; --fix clip does that, --fix drop removes the object",
    ),
}
_WARNINGS = {
    "box-zero-area": ("boxes without area", "training ignores them; --fix removes them"),
    "box-outside": (
        "boxes that extend beyond their image",
        "training clips them and ignores boxes that are entirely outside; --fix clip clips them in the copy, "
        "--fix drop removes the object",
    ),
    "box-duplicate": ("duplicate objects", "remove one of the two; --fix does that"),
    "outline-broken": (
        "outlines that cannot be used",
        "draw the outline again; --fix removes the unusable parts and keeps the box",
    ),
    "mask-size-differs": (
        "masks whose size differs from their image",
        "encode the mask again at the size of the image; --fix removes it and keeps the box",
    ),
    "outline-missing": (
        "objects without an outline, although others have one",
        "draw their outlines before you train with masks; without an outline the mask is empty",
    ),
    "keypoint-visibility": (
        "keypoints whose visibility is not 0, 1 or 2",
        "write 0 (absent), 1 (hidden) or 2 (visible); training treats every value above 0 as a present keypoint",
    ),
    "keypoint-outside": ("keypoints outside their image", "move the point, or mark it as absent"),
    "caption-without-words": ("captions without words", "describe the objects; training leaves them out"),
    "duration-differs": (
        "labels whose duration differs from that of their video",
        "check that the label belongs to this video: the times of events would be wrong",
    ),
    "camera-unknown": (
        "images without a camera, among labels in metres",
        "add their cameras; a focal length is assumed, so that distances are wrong by a factor",
    ),
    "event-without-words": ("events without words", "describe them, or remove them"),
    "camera-elsewhere": (
        "cameras whose principal point lies outside their image",
        "a matrix of the image at another size, perhaps; scale it with the image, unless the image is a crop",
    ),
    "label-without-image": ("labels without an image", "add the image, or remove the label; training ignores it"),
    "image-left-out": (
        "images that belong to no split",
        "name their folder with --train, --val or --test, or move them into a split's folder",
    ),
    "splits-share-images": (
        "splits that contain the same files",
        "use different files for each, or the evaluation measures memory instead of skill",
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
    "duplicate-in-objects": (
        "the same image with different objects",
        "label all objects in one and remove the other: objects that it lacks are background to the model",
    ),
    "similar-in-classes": (
        "nearly the same image in several classes",
        "look at them: one of the labels may be wrong",
    ),
    "classes-alike": (
        "class names that differ only in case, spaces, hyphens or underscores",
        "if they mean one class, merge them with --classes OLD=NEW (in Python classes={OLD: NEW})",
    ),
    "class-missing": ("classes without objects in a split", "label some, or divide again with another seed"),
    "class-rare": ("classes with few objects to learn from", "label more of them"),
    "anchors-misfit": ("shapes that no anchor of the model fits", "change the model's anchors or its input size"),
    "objects-tiny": ("objects too small to detect", "use a larger input size, or cut the images into tiles"),
}
_NOTES = {
    "reading-note": ("how the files were read", "check that this is what you intended"),
    "duplicate-images": ("duplicate images", "remove the copies, unless they are meant to count more"),
    "similar-images": ("nearly identical images", "look at them: they add little information"),
    "class-imbalance": ("imbalanced classes", "check the results of the rare classes separately"),
    "video-without-events": ("videos without events", "training uses them as background; describe their events"),
    "mesh-open": (
        "meshes that are not closed",
        "close their holes if you can: of an open mesh the surface is learned, and what it encloses",
    ),
    "image-without-label": (
        "images without objects",
        "training uses them as background; label them if they contain objects",
    ),
    "full-scale": (
        "images with more than 8 bits per sample",
        "samples are divided by this full scale in training, evaluation and prediction; set another one "
        "(--full-scale, in Python full_scale=) if it is not the range of the camera",
    ),
    "pages-unread": (
        "images with several pages or frames",
        "only the first one is read; save the others as files of their own if they are to be used",
    ),
    "exif-rotated": (
        "images rotated by EXIF",
        "they are read upright; check that their labels were drawn upright, too",
    ),
}
RULES: dict[str, Rule] = {
    name: Rule(level, *texts)
    for level, rules in zip(LEVELS, (_ERRORS, _WARNINGS, _NOTES), strict=True)
    for name, texts in rules.items()
}
"""All rules by name. The names are stable."""


@dataclass(frozen=True)
class Problem:
    """One problem found by a check.

    Attributes:
        rule: stable name of the rule, a key of `RULES`.
        value: description of what was found.
        file: path of the image or label relative to the dataset's root; empty if the problem concerns the dataset.
        annotation: the annotation's id if the file has ids (COCO), else its number in the image's label, from 1.
        level: "error" (training cannot start), "warning" (training can start, but results may suffer) or "note".
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
        """Create a problem, with the level of its rule unless `level` is given."""
        return cls(rule, value, file, annotation, level or RULES[rule].level)

    @property
    def message(self) -> str:
        """One sentence: file, what was found, what to do."""
        return f"{self.what}; {RULES[self.rule].advice}"

    @property
    def what(self) -> str:
        """File and what was found."""
        return f"{self.file}: {self.value}" if self.file else self.value

    def to_dict(self) -> dict[str, Any]:
        """Convert to values that JSON can represent."""
        return {
            "level": self.level,
            "rule": self.rule,
            "file": self.file,
            "annotation": self.annotation,
            "message": self.message,
        }


@dataclass(frozen=True)
class CheckReport:
    """The results of `check`.

    Attributes:
        problems: errors first, then warnings, then notes, each grouped by rule.
        format: format of the dataset.
        images: number of images per split.
        counts: number of objects (or images, or pixels: see `unit`) per split and class name.
        sizes: object statistics per split: median width and height, share of small objects; and the anchor fit.
        unit: the unit of `counts`: "objects", "images" or "pixels".
        looked_at_images: False if pixels were not decoded (full=False).
        item: what `images` counts: "image", or "video".
        about: what the labels are about besides objects, and how much of it there is; "" for objects alone.
    """

    problems: tuple[Problem, ...]
    format: str
    images: dict[str, int]
    counts: dict[str, dict[str, int]]
    sizes: dict[str, Any] = field(default_factory=dict)
    unit: str = "objects"
    looked_at_images: bool = True
    item: str = "image"
    about: str = ""

    @property
    def ok(self) -> bool:
        """True if training can start because there are no errors."""
        return not any(problem.level == "error" for problem in self.problems)

    def of_rule(self, rule: str) -> list[Problem]:
        """The problems of one rule."""
        return [problem for problem in self.problems if problem.rule == rule]

    def to_dict(self) -> dict[str, Any]:
        """Convert everything to values that JSON can represent."""
        return {
            "ok": self.ok,
            "format": self.format,
            "images": self.images,
            "unit": self.unit,
            "about": self.about,
            "counts": self.counts,
            "sizes": self.sizes,
            "looked_at_images": self.looked_at_images,
            "problems": [problem.to_dict() for problem in self.problems],
        }

    def text(self, examples: int = 3, classes: int = 20, width: int = 100) -> str:
        """The report as plain text.

        Args:
            examples: number of problems shown per rule.
            classes: number of rows in the class table.
            width: line width in characters; long file names may exceed it.
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
        of = f", {_plural(objects, 'object')}" if self.unit == "objects" else ""
        kinds = len(next(iter(self.counts.values()), {}))
        note = "" if self.looked_at_images else " (labels and headers only; pixels were not decoded)"
        images = _plural(total, self.item) + (f" ({splits})" if len(self.images) > 1 else "")
        classes = f", {_plural(kinds, 'class', 'classes')}" if kinds or self.item == "image" else ""
        about = f"\nThe labels are about {self.about}" if self.about else ""
        return f"Format {self.format}: {images}{of}{classes}{note}{about}"

    def _verdict(self) -> str:
        found = Counter(problem.level for problem in self.problems)
        counts = ", ".join(_plural(found[level], level) for level in LEVELS if found[level])
        if not self.ok:
            return f"Training cannot start: {counts}."
        return f"Training can start: {counts or 'no problems were found'}."

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
            # only datasets of objects can be repaired
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
    text = text.replace(" × ", "\u00a0×\u00a0").replace(" %", "\u00a0%")  # no line break inside a quantity
    indent = " " * len(start)
    return textwrap.wrap(
        text, width, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{_number(count)} {one if count == 1 else many or one + 's'}"


def _number(count: int) -> str:
    return f"{count:,}" if count >= 10_000 else str(count)
