"""What can be explained of the events in a video: the score of an event, and a word of its caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import require_index, whole_number
from sightline.explain.target import Target, prepared
from sightline.models.model import Model
from sightline.models.scene.clips import ClipBatch
from sightline.models.scene.video_captions import VideoCaptioner
from sightline.structures import Events
from sightline.structures.vocabulary import tokens_of
from sightline.words import did_you_mean


@dataclass(frozen=True)
class EventScore(Target):
    """The score of an event before the sigmoid.

    Attributes:
        interval: start and end as fractions of the duration.
        words: the event in words.
    """

    interval: tuple[float, float]
    words: str

    def score(self, model: VideoCaptioner, batch: ClipBatch) -> Tensor:  # type: ignore[override]
        return model.event_scores(batch, torch.tensor([self.interval]).expand(len(batch), 2))

    def describe(self, model: Model) -> str:
        return f"the event {self.words}"


@dataclass(frozen=True)
class EventWord(Target):
    """The log probability of a word of the caption of an event, given the words before it.

    Attributes:
        intervals: start and end of each event of the video, the context, as fractions of the duration.
        index: which of these events is described.
        ids: ids of the words of its caption.
        place: which of these words is explained.
        words: the word and its event in words.
    """

    intervals: tuple[tuple[float, float], ...]
    index: int
    ids: tuple[int, ...]
    place: int
    words: str

    def score(self, model: VideoCaptioner, batch: ClipBatch) -> Tensor:  # type: ignore[override]
        times, ids = torch.tensor(self.intervals), torch.tensor(self.ids)
        return model.word_scores(batch, times, self.index, ids)[:, self.place]

    def describe(self, model: Model) -> str:
        return f"the word {self.words}"


def best_event(model: Model, image: Tensor) -> EventScore:
    """The event with the highest score."""
    return event_score(model, image, 0)


def event_score(model: Model, image: Tensor, index: int) -> EventScore:
    """The event at a position among the events of a clip, from the best, from 0.

    Raises:
        InputError: the model does not predict events, or predicted fewer.
    """
    _, found = _events(model, image)
    require_index(index, len(found), "event", "event")
    return EventScore(_intervals(found)[index], _shown(found, index))


def event_word(model: Model, image: Tensor, index: int, word: str) -> EventWord:
    """A word of the caption of the event at a position; of several equal words the first.

    Raises:
        InputError: there is no such event, or its caption does not have the word.
    """
    captioner, found = _events(model, image)
    require_index(index, len(found), "event", "word")
    words = tokens_of(found.captions[index])
    if word not in words:
        hint = did_you_mean(word, words, "name one of its words")
        raise InputError(f"the caption of event {index} is {found.captions[index]!r}, without {word!r}; {hint}")
    ids = tuple(captioner.vocabulary.id(own) for own in words)
    what = f"{word!r} of the event {_shown(found, index)}"
    return EventWord(_intervals(found), index, ids, words.index(word), what)


def event_target(model: Model, image: Tensor, words: Sequence[str]) -> EventScore:
    """The target of the words "event:0"."""
    return event_score(model, image, whole_number(":".join(words), "event"))


def word_target(model: Model, image: Tensor, words: Sequence[str]) -> EventWord:
    """The target of the words "word:0:red"."""
    number, *word = words
    if not word:
        raise InputError(f"word:{number} does not say which word; give word:{number}:red, a word of its caption")
    return event_word(model, image, whole_number(number, "word"), ":".join(word))


@torch.no_grad()
def _events(model: Model, image: Tensor) -> tuple[VideoCaptioner, Events]:
    if not isinstance(model, VideoCaptioner):
        raise InputError(f"{model.title} does not predict events in videos; give a model of that task")
    batch = prepared(model, image)
    assert isinstance(batch, ClipBatch)
    return model, model.batch_results(batch)[0]


def _intervals(found: Events) -> tuple[tuple[float, float], ...]:
    return tuple((float(start) / found.duration, float(end) / found.duration) for start, end in found.times)


def _shown(found: Events, index: int) -> str:
    start, end = found.times[index].tolist()
    return f"{found.captions[index]!r} ({start:.1f}–{end:.1f} s)"
