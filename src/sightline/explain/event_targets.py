"""What can be explained of the events in a video: the score of an event, and a word of its caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import require_index, whole_number
from sightline.explain.cases import Case
from sightline.explain.target import Target, prepared
from sightline.models.model import Model
from sightline.models.scene.clips import ClipBatch
from sightline.models.scene.video_captions import VideoCaptioner
from sightline.ops.intervals import interval_iou
from sightline.structures import Events
from sightline.structures.vocabulary import tokens_of
from sightline.words import did_you_mean

_IOU = 0.5
"""Minimum temporal IoU of a predicted event and the labelled event that it finds."""


@dataclass(frozen=True)
class EventScore(Target):
    """The score of an event before the sigmoid.

    Attributes:
        interval: start and end as fractions of the duration.
        words: the event in words.
    """

    interval: tuple[float, float]
    words: str
    quantity = "logit"

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
    quantity = "log probability"

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
    """A word of the caption of the event at a position: of several equal words the first; or its position, from 0.

    Raises:
        InputError: there is no such event, or its caption does not have the word.
    """
    captioner, found = _events(model, image)
    require_index(index, len(found), "event", "word")
    words = tokens_of(found.captions[index])
    if word in words:
        place = words.index(word)
    elif word.isascii() and word.isdigit() and int(word) < len(words):
        place = int(word)
    else:
        hint = did_you_mean(
            word, words, "name one of its words" if words else f"it has no words, so give event:{index}"
        )
        raise InputError(f"the caption of event {index} is {found.captions[index]!r}, without {word!r}; {hint}")
    ids = tuple(captioner.vocabulary.id(own) for own in words)
    what = f"{words[place]!r} of the event {_shown(found, index)}"
    return EventWord(_intervals(found), index, ids, place, what)


def event_target(model: Model, image: Tensor, words: Sequence[str]) -> EventScore:
    """The target of the words "event:0"."""
    return event_score(model, image, whole_number(":".join(words), "event"))


def word_target(model: Model, image: Tensor, words: Sequence[str]) -> EventWord:
    """The target of the words "word:0:red"."""
    number, *word = words
    if not word:
        raise InputError(f"word:{number} does not say which word; give word:{number}:red, a word of its caption")
    return event_word(model, image, whole_number(number, "word"), ":".join(word))


def event_cases(model: Model, name: str, image: Tensor, label: Events) -> Iterator[Case]:
    """Each predicted event that finds a labelled one, the best of each; the frames of the labelled event say where it
    is in the film."""
    captioner, found = _events(model, image)
    if not len(found) or not len(label):
        return
    assert found.scores is not None, "predicted events have scores"
    height, width = found.image_size
    frames = captioner.preprocess.frames
    overlap = interval_iou(found.times.cpu().double(), label.times.cpu().double())
    taken: set[int] = set()
    for index in found.scores.argsort(descending=True).tolist():
        free = [own for own in range(len(label)) if own not in taken and overlap[index, own] >= _IOU]
        if not free or float(found.scores[index]) < model.metadata.get("threshold", 0.0):
            continue
        own = max(free, key=lambda i: float(overlap[index, i]))
        taken.add(own)
        start, end = label.times[own].tolist()
        moments = (torch.arange(frames, dtype=torch.float64) + 0.5) * (found.duration / frames)
        shown = (moments >= start) & (moments <= end)
        if not bool(shown.any()):  # shorter than the time between two frames
            shown[int((moments - (start + end) / 2).abs().argmin())] = True
        inside = shown.repeat_interleave(width).expand(height, -1)
        yield Case(name, image, EventScore(_intervals(found)[index], _shown(found, index)), inside)


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
