"""One word of the caption of a detected region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import DetectedBox, box_of_result, require_index, whole_number
from sightline.explain.target import Box, Target, prepared
from sightline.models.model import Model
from sightline.models.scene.densecap import DenseCap
from sightline.structures import ImageBatch
from sightline.words import did_you_mean


@dataclass(frozen=True)
class CaptionWord(Target):
    """The log probability of a word of a region's caption, given the words before it.

    The same region is described in every changed image, so that the score means the same.

    Attributes:
        of: the detection.
        caption: the words of its caption.
        place: position of the word in the caption.
    """

    of: DetectedBox
    caption: tuple[str, ...]
    place: int
    quantity = "log probability"

    @property
    def box(self) -> Box | None:  # type: ignore[override]
        return self.of.box

    @property
    def level(self) -> int:  # type: ignore[override]
        return self.of.level

    def score(self, model: DenseCap, batch: ImageBatch) -> Tensor:
        assert self.of.region is not None
        regions = torch.tensor([self.of.region], device=batch.tensor.device).expand(len(batch), 4)
        ids = torch.tensor([model.vocabulary.id(word) for word in self.caption], device=batch.tensor.device)
        return model.word_scores(batch, regions, ids.expand(len(batch), -1))[:, self.place]

    def describe(self, model: Model) -> str:
        return f"word {self.caption[self.place]!r} of {self.of.describe(model)}"


@torch.no_grad()
def caption_word(model: Model, image: Tensor, index: int, word: str) -> CaptionWord:
    """A word of the caption of a detection.

    Args:
        model: a model that describes regions.
        image: [C, H, W], uint8 or float in [0, 1].
        index: position among the detections.
        word: the word, whose first occurrence is meant; or its position in the caption, from 0.

    Raises:
        InputError: the model describes fewer regions, or the caption does not have the word.
    """
    if not isinstance(model, DenseCap):
        raise InputError(f"{model.title} describes no regions; explain a box of it, such as box:0")
    batch = prepared(model, image)
    result = model.batch_results(batch)[0]
    require_index(index, len(result), "region", "word")
    caption = tuple(result.captions[index].split())
    if word in caption:
        place = caption.index(word)
    elif word.isascii() and word.isdigit() and int(word) < len(caption):
        place = int(word)
    else:
        hint = did_you_mean(word, caption, "give one of its words" if caption else "it has no words")
        raise InputError(f"the caption of box {index} is {' '.join(caption)!r}, without the word {word!r}; {hint}")
    return CaptionWord(box_of_result(model, batch, result, index), caption, place)


def word_target(model: Model, image: Tensor, words: Sequence[str]) -> CaptionWord:
    """The target of the words "word:0:red" or "word:0:2"."""
    number, *name = words
    if not name:
        raise InputError(f"word:{number} does not say which word; give word:{number}:0 for the first, or the word")
    return caption_word(model, image, whole_number(number, "word"), ":".join(name))
