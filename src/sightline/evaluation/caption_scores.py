"""The similarity of a caption and reference captions, by a score in the manner of METEOR.

The formula and its parameters are those of METEOR 1.5 for English (Denkowski and Lavie, "Meteor universal: language
specific translation evaluation for any target language", WMT 2014, section 2). Words of the caption are aligned with
equal words of the reference (weight 1) and with words of equal stem (weight 0.6). With the weight w_i of each match, a
caption of n words and a reference of r words,

    P = Σ w_i / n,  R = Σ w_i / r,  F = P · R / (α · P + (1 − α) · R),  score = F · (1 − γ · (chunks / matches)^β),

with α = 0.85, β = 0.2, γ = 0.6. A chunk is a sequence of matches that are adjacent and in the same order in both texts.
If all words of both match in one chunk, there is no penalty, so that a caption equal to its reference has the score 1.
With several references, the best score counts.

This is not the scale of the Java program, and the two must not be compared with each other:

- The program also matches synonyms (WordNet) and paraphrases (a table), which need its data files.
- It gives function words a lower weight, from a list of its data files; here all words weigh the same, so that
  unrelated captions which share an "a" score higher.
- It stems with Snowball's English stemmer, here with Porter's (`sightline.evaluation.stemming`).
- Its tokens are those of its own normaliser, here those of `sightline.structures.vocabulary.tokens_of`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from sightline.evaluation.stemming import stem
from sightline.structures.vocabulary import tokens_of

ALPHA, BETA, GAMMA = 0.85, 0.2, 0.6
"""Weight of recall in the mean; exponent and factor of the penalty for chunks."""
EXACT, STEM = 1.0, 0.6
"""Weights of equal words and of words with equal stems."""
_OPEN = 64
"""Alignments that are followed at once. More than captions of 15 words have, as a rule; else the search is a beam."""


class Alignment(NamedTuple):
    """An alignment of two sequences of words.

    Attributes:
        matches: number of pairs of words.
        weight: sum of the weights of the pairs.
        chunks: number of sequences of pairs that are adjacent in both.
    """

    matches: int
    weight: float
    chunks: int


def caption_score(caption: str, references: Sequence[str]) -> float:
    """The score in [0, 1] of a caption: that of the most similar reference; 0 without references or without words."""
    words = tuple(tokens_of(caption))
    return max((_score(words, tuple(tokens_of(reference))) for reference in references), default=0.0)


def align(words: Sequence[str], reference: Sequence[str]) -> Alignment:
    """Align two sequences of words: each word with at most one of the other sequence, equal in itself or its stem.

    Of all alignments the one with the most matches counts; of those the one with the largest weight, then that with the
    fewest chunks.
    """
    places: dict[str, list[int]] = {}
    for place, word in enumerate(reference):
        places.setdefault(stem(word), []).append(place)
    left = Counter(stem(word) for word in words)
    # state: (taken places, place of the word before, or −2) → (matches, weight, −chunks), larger is better
    states: dict[tuple[int, int], tuple[int, float, int]] = {(0, -2): (0, 0.0, 0)}
    for word in words:
        options = places.get(stem(word), [])
        left[stem(word)] -= 1
        following: dict[tuple[int, int], tuple[int, float, int]] = {}
        for (taken, before), (matches, weight, chunks) in states.items():
            free = [place for place in options if not taken >> place & 1]
            for place in free:
                value = (
                    matches + 1,
                    weight + (EXACT if reference[place] == word else STEM),
                    chunks - (place != before + 1),
                )
                _keep(following, (taken | 1 << place, place), value)
            if len(free) <= left[stem(word)]:  # enough equal words follow, so that this one may stay without a match
                _keep(following, (taken, -2), (matches, weight, chunks))
        if len(following) > _OPEN:
            following = dict(sorted(following.items(), key=lambda item: item[1], reverse=True)[:_OPEN])
        states = following
    matches, weight, chunks = max(states.values())
    return Alignment(matches, weight, -chunks)


def _keep(
    states: dict[tuple[int, int], tuple[int, float, int]], key: tuple[int, int], value: tuple[int, float, int]
) -> None:
    if key not in states or value > states[key]:
        states[key] = value


@lru_cache(maxsize=1 << 18)
def _score(words: tuple[str, ...], reference: tuple[str, ...]) -> float:
    """The score of a caption by one reference."""
    if not words or not reference:
        return 0.0
    matches, weight, chunks = align(words, reference)
    if not matches:
        return 0.0
    precision, recall = weight / len(words), weight / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    same = chunks == 1 and matches == len(words) == len(reference)
    return mean * (1 - (0.0 if same else GAMMA * (chunks / matches) ** BETA))
