"""Captions that see nothing: what a single sentence scores, and remarks on captions that are no better.

Captions of one form share most of their words, so that a caption score by itself flatters. These figures stand beside
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sightline.evaluation.caption_scores import caption_score
from sightline.structures.vocabulary import tokens_of

CANDIDATES, COMPARED = 40, 120
"""Number of sentences that are tried, and of those that each is compared with: the most frequent ones."""
UNIFORM = 0.5
"""A note is added if at least this fraction of captions is one and the same sentence."""
FEWEST = 5
"""Number of captions below which one sentence is no sign of anything."""


def typical_caption(captions: Sequence[str]) -> str:
    """The sentence with the highest mean caption score by the others: the best caption for all of them.

    Of the `CANDIDATES` most frequent captions, by the `COMPARED` most frequent ones.
    """
    counts = Counter(captions).most_common(COMPARED)
    scores = {
        words: sum(n * caption_score(words, [other]) for other, n in counts) - caption_score(words, [words])
        for words, _ in counts[:CANDIDATES]
    }
    return max(scores, key=scores.__getitem__, default="")


def is_exact(caption: str, references: Sequence[str]) -> bool:
    """Whether a caption has the same words in the same order as one of its references."""
    words = tokens_of(caption)
    return bool(words) and any(words == tokens_of(reference) for reference in references)


def caption_remarks(score: float | None, blind: float | None, sentence: str, captions: Sequence[str]) -> list[str]:
    """Remarks on captions that do not depend on the picture.

    Args:
        score: the caption score of the model; None if there is none.
        blind: that of `sentence` in place of every caption.
        sentence: the best single caption.
        captions: the captions of the model.
    """
    remarks = []
    if score is not None and blind is not None and score <= blind:
        remarks.append(
            f"the captions score {score:.3f}, which is not above the {blind:.3f} of a baseline that sees nothing and "
            f"always says {sentence!r}"
        )
    most = Counter(captions).most_common(1)
    if len(captions) >= FEWEST and most[0][1] > UNIFORM * len(captions):
        remarks.append(f"{most[0][1]} of {len(captions)} captions are the same sentence, {most[0][0]!r}")
    return remarks
