"""What a task contributes to a report. Every part has a default, so any task has a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from sightline.report import sections
from sightline.report.drawing import draw

Evaluation = Mapping[str, Any]
"""The dictionary of a result (`to_dict()`), or the contents of evaluation.json."""
MakeBody = Callable[[Evaluation | None], str]
"""(evaluation, or None for a run that was not evaluated) → HTML."""


@dataclass(frozen=True)
class Part:
    """A section of the report that shows an evaluation.

    Attributes:
        key: id of the HTML element.
        heading: title of the section, also used for the links at the top.
        make: evaluation → HTML. If there is nothing to show, a sentence says so.
    """

    key: str
    heading: str
    make: MakeBody


@dataclass(frozen=True)
class GalleryImage:
    """An image in the report's gallery.

    Attributes:
        pictures: drawings shown side by side, each with a short title.
        caption: plain text after the image's name.
        more: HTML below the drawings, such as a shape that can be turned.
    """

    pictures: Sequence[tuple[str, Image.Image]]
    caption: str = ""
    more: str = ""


class TaskReport:
    """How the report shows evaluations of a task. Subclasses override what differs.

    Args:
        headline: the metrics recorded after each epoch, the most important first.
        lower_is_better: those of them for which lower is better.

    Attributes:
        cards: metrics shown in large type; by default the headline, else the first six.
        meanings: the meaning of each metric.
        entries: entries that evaluation.json must have besides those of every task (a spec of `require_entries`).
        class_entries: entries that each of its rows of class metrics must have.
        explanation: text above the gallery.
    """

    cards: tuple[str, ...] = ()
    meanings: Mapping[str, str] = {}
    entries: Mapping[str, Any] = {}
    class_entries: Mapping[str, Any] = {}
    explanation: str = ""

    def __init__(self, headline: Sequence[str] = (), lower_is_better: Sequence[str] = ()):
        self.headline, self.lower_is_better = tuple(headline), tuple(lower_is_better)

    def parts(self) -> tuple[Part, ...]:
        """The sections in their order; by default all metrics, and the metrics of each class."""
        return self.metrics, Part("classes", "Classes", sections.classes)

    @property
    def metrics(self) -> Part:
        """The section with the cards and all metrics."""
        return Part("metrics", "Metrics", self._metrics)

    def _metrics(self, result: Evaluation | None) -> str:
        if result is None:
            return sections.metrics(None)
        cards = [name for name in self.cards or self.headline if name in result["metrics"]]
        return sections.metrics(result, cards, self.meanings, self.counts(result), self.in_words(result))

    def require(self, values: Evaluation, where: str) -> None:
        """Check that the entries of an evaluation.json fit each other.

        Args:
            values: its contents, whose entries have the types of `entries`.
            where: the file, for the message.

        Raises:
            InputError: they do not fit; the message names the entry and says what to do.
        """

    def counts(self, result: Evaluation) -> Sequence[str]:
        """What was compared, besides the number of images: "25 objects"."""
        return ()

    def in_words(self, result: Evaluation) -> str:
        """The most important metrics as a sentence, in plain text; empty for none."""
        return ""

    def explain(self, result: Any) -> str:
        """Plain text above the gallery."""
        return self.explanation

    def best_first(self, result: Any, worst_first: Sequence[int]) -> Sequence[int]:
        """Indices of the images that may be called the best, the best first."""
        return list(worst_first)[::-1]

    def show(self, result: Any, position: int, image: Any, size: int) -> GalleryImage:
        """Draw an image with its label and the prediction.

        Args:
            result: an evaluation that kept its targets and predictions.
            position: index of the image.
            image: [C, H, W].
            size: longer side of each drawing, in pixels.

        Raises:
            InputError: the image cannot be drawn; the gallery shows the message in its place.
        """
        sides = (("labels", result.targets[position]), ("prediction", result.predictions[position]))
        return GalleryImage([(what, draw(image, side, size=size, scale=1.5)) for what, side in sides])
