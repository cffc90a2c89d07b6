"""Dense captioning: boxes of regions, with a caption each."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from sightline.data.dataset import Dataset
from sightline.deploy.writers.dense_captions import DenseCaptionWriter
from sightline.errors import InputError
from sightline.evaluation.dense_captions import HEADLINE, DenseCaptionMeasure
from sightline.explain.box_targets import best_box, box_target, proposal_target
from sightline.explain.caption_targets import word_target
from sightline.explain.cases import box_cases
from sightline.explain.targets import Explained
from sightline.report.dense_captions import DenseCaptionReport
from sightline.structures.vocabulary import Vocabulary, tokens_of
from sightline.tasks.base import Labels, Task
from sightline.words import are, counted

MANY = 100_000
"""Number of captions from which rare words are left out of the vocabulary."""
RARE = 15
"""Number of occurrences below which a word then counts as rare (section 4 of the paper)."""
log = logging.getLogger("sightline")


def captions_of(data: Dataset) -> list[str]:
    """The caption of each object of a dataset.

    Raises:
        InputError: there are objects, but none has a caption.
    """
    columns = data.columns
    if columns.captions is None and columns.objects:
        raise InputError(
            "the objects of this data have no captions, from which this model learns; use labels with captions "
            '(COCO annotations with a "caption", Visual Genome), or a model for detection'
        )
    return [] if columns.captions is None else [text.decode("utf-8", "replace") for text in columns.captions]


def described(data: Any) -> Any:
    """The data with captions in its targets, without objects whose caption has no word."""
    if not isinstance(data, Dataset):
        return data
    captions = captions_of(data)
    kept = np.array([bool(tokens_of(caption)) for caption in captions], bool)
    if kept.all():
        return data.with_fields("captions")
    if not kept.any():
        raise InputError(f"none of the {counted(len(kept), 'caption')} has a word; correct the labels")
    empty = int((~kept).sum())
    log.warning(
        "%s %s no caption and %s left out",
        counted(empty, "object"),
        "has" if empty == 1 else "have",
        are(empty),
    )
    return data.with_columns(data.columns.take_objects(kept)).with_fields("captions")


def words(data: Any) -> dict[str, list[str]]:
    """The argument `words` of models: the words of the captions, without rare ones if there are many captions."""
    if not isinstance(data, Dataset):
        return {}
    captions = captions_of(data)
    return {"words": list(Vocabulary.of(captions, RARE if len(captions) > MANY else 1).words)} if captions else {}


TASK = Task(
    name="dense_captioning",
    labels=Labels("instances", described, about="captions", arguments=words),
    measure=DenseCaptionMeasure,
    headline=HEADLINE,
    report=DenseCaptionReport(HEADLINE),
    writer=DenseCaptionWriter(),
    default_model="densecap_lite0",
    quick_model="densecap_lite0",
    explained=Explained(
        best_box,
        {"class": best_box, "box": box_target, "proposal": proposal_target, "word": word_target},
        "dog, box:0, word:0:red (a word of the caption of box 0) or proposal:0",
        box_cases,
    ),
)
