"""Dense video captioning: events in videos, with a sentence each."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.events import TABLE
from sightline.deploy.writers.events import EventWriter
from sightline.evaluation.events import HEADLINE, EventMeasure
from sightline.explain.event_targets import best_event, event_cases, event_target, word_target
from sightline.explain.targets import Explained
from sightline.report.events import EventReport
from sightline.structures.vocabulary import Vocabulary
from sightline.tasks.base import Labels, Task

RARE = 5
"""Number of occurrences below which a word is left out of the vocabulary, if there are many captions."""
MANY = 10_000
"""Number of captions from which rare words are left out of the vocabulary."""


def words(data: Any) -> dict[str, list[str]]:
    """The argument `words` of models: the words of the sentences of the training data."""
    if not isinstance(data, Dataset):
        return {}
    table = data.columns.tables[TABLE]
    captions = [row["caption"] for i in range(table.images) for row in table.of(i)]
    return {"words": list(Vocabulary.of(captions, RARE if len(captions) >= MANY else 1).words)} if captions else {}


TASK = Task(
    name="video_captioning",
    labels=Labels("events", arguments=words),
    measure=EventMeasure,
    headline=HEADLINE,
    report=EventReport(HEADLINE),
    writer=EventWriter(),
    default_model="video_captioner_lite0",
    quick_model="video_captioner_lite0",
    explained=Explained(
        best_event,
        {"event": event_target, "word": word_target},
        "event:0, or word:0:red (a word of the caption of event 0)",
        event_cases,
    ),
)
