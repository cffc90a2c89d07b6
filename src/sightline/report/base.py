"""What a task gives to a report. Each part has a default, so that a task that gives nothing still has a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from sightline.report import sections
from sightline.report.drawing import draw

Evaluation = Mapping[str, Any]
"""The dictionary of a result (`to_dict()`), or the content of evaluation.json."""
MakeBody = Callable[[Evaluation | None], str]
"""An evaluation, or None for a run that was not evaluated → HTML."""


@dataclass(frozen=True)
class Part:
    """A section of the report that shows an evaluation.

    Attributes:
        key: id of the HTML element.
        heading: above the section, and in the links at the top.
        make: evaluation → HTML. Where there is no evaluation, or it lacks what is shown, a sentence says so.
    """

    key: str
    heading: str
    make: MakeBody


@dataclass(frozen=True)
class Shown:
    """An image on the wall.

    Attributes:
        pictures: side by side, each with a word or two above it.
        caption: plain text behind the image's name.
    """

    pictures: Sequence[tuple[str, Image.Image]]
    caption: str = ""


class TaskReport:
    """How the report shows evaluations of a task. Subclasses override what differs.

    Args:
        headline: metrics of an epoch's validation, the most important first.
        lower_is_better: those of which less is better.

    Attributes:
        cards: metrics shown in large figures; by default the headline, else the first six.
        meanings: for each metric, what it says.
        entries: what evaluation.json must hold beside what every task has (a spec of `require_entries`).
        class_entries: what each of its rows of numbers by class must hold.
        explanation: text above the wall.
    """

    cards: tuple[str, ...] = ()
    meanings: Mapping[str, str] = {}
    entries: Mapping[str, Any] = {}
    class_entries: Mapping[str, Any] = {}
    explanation: str = ""

    def __init__(self, headline: Sequence[str] = (), lower_is_better: Sequence[str] = ()):
        self.headline, self.lower_is_better = tuple(headline), tuple(lower_is_better)

    def parts(self) -> tuple[Part, ...]:
        """The sections in their order; by default all numbers, and the numbers of the classes."""
        return self.numbers, Part("classes", "Classes", sections.classes)

    @property
    def numbers(self) -> Part:
        """The section with the cards and all numbers."""
        return Part("numbers", "Numbers", self._numbers)

    def _numbers(self, result: Evaluation | None) -> str:
        if result is None:
            return sections.numbers(None)
        cards = [name for name in self.cards or self.headline if name in result["metrics"]]
        return sections.numbers(result, cards, self.meanings, self.counts(result), self.in_words(result))

    def require(self, values: Evaluation, where: str) -> None:
        """Refuse an evaluation.json whose entries do not fit each other.

        Args:
            values: its content, whose entries have the types of `entries`.
            where: the file, for the message.

        Raises:
            InputError: naming the entry, and what to do.
        """

    def counts(self, result: Evaluation) -> Sequence[str]:
        """What was compared, beside the number of images: "25 objects"."""
        return ()

    def in_words(self, result: Evaluation) -> str:
        """The most important numbers as a sentence, in plain text; empty for none."""
        return ""

    def explain(self, result: Any) -> str:
        """Plain text above the wall."""
        return self.explanation

    def best_first(self, result: Any, worst_first: Sequence[int]) -> Sequence[int]:
        """Positions of the images that may be called the best, the best first."""
        return list(worst_first)[::-1]

    def show(self, result: Any, position: int, image: Any, size: int) -> Shown:
        """Pictures of an image with its label and the prediction.

        Args:
            result: an evaluation that kept its targets and predictions.
            position: of the image among them.
            image: [C, H, W].
            size: longer side of each picture, in pixels.

        Raises:
            InputError: it cannot be drawn; the wall shows the sentence in its place.
        """
        sides = (("labels", result.targets[position]), ("prediction", result.predictions[position]))
        return Shown([(what, draw(image, side, size=size, scale=1.5)) for what, side in sides])
