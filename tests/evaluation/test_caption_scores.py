"""The caption score and its stemmer, by hand."""

from __future__ import annotations

import itertools
import random

import pytest

from sightline.evaluation.caption_scores import Alignment, align, caption_score
from sightline.evaluation.stemming import stem

STEMS = {  # the examples of Porter's paper, step by step, carried through all steps
    "caresses": "caress", "ponies": "poni", "ties": "ti", "cats": "cat", "feed": "feed", "agreed": "agre",
    "plastered": "plaster", "bled": "bled", "motoring": "motor", "sing": "sing", "conflated": "conflat",
    "troubled": "troubl", "sized": "size", "hopping": "hop", "tanned": "tan", "falling": "fall", "hissing": "hiss",
    "fizzed": "fizz", "failing": "fail", "filing": "file", "happy": "happi", "sky": "sky", "relational": "relat",
    "conditional": "condit", "rational": "ration", "valenci": "valenc", "digitizer": "digit", "vietnamization":
    "vietnam", "feudalism": "feudal", "decisiveness": "decis", "hopefulness": "hope", "sensibiliti": "sensibl",
    "triplicate": "triplic", "formative": "form", "electriciti": "electr", "goodness": "good", "revival": "reviv",
    "allowance": "allow", "airliner": "airlin", "gyroscopic": "gyroscop", "adjustable": "adjust", "irritant": "irrit",
    "replacement": "replac", "adjustment": "adjust", "dependent": "depend", "adoption": "adopt", "effective": "effect",
    "bowdlerize": "bowdler", "probate": "probat", "rate": "rate", "cease": "ceas", "controll": "control",
    "roll": "roll", "generalizations": "gener", "oscillators": "oscil", "is": "is", "as": "as", "by": "by",
}  # fmt: skip


def test_stems_of_the_paper():
    assert {word: stem(word) for word in STEMS} == STEMS


def test_equal_captions_score_one_and_unlike_ones_nothing():
    assert caption_score("A red cup.", ["a red cup"]) == 1
    assert caption_score("a red cup", ["two blue plates"]) == 0
    assert caption_score("", ["a cup"]) == caption_score("a cup", []) == caption_score("a cup", [""]) == 0


def test_one_wrong_word():
    """3 of 4 words match, in one chunk: P = R = 3/4, penalty 0.6 · (1/3)^0.2."""
    expected = 0.75 * (1 - 0.6 * (1 / 3) ** 0.2)
    assert caption_score("a red shiny cup", ["a red shiny bowl"]) == pytest.approx(expected)
    assert expected == pytest.approx(0.38876, abs=1e-5)


def test_stems_count_less():
    """ "cups" has the stem of "cup": weights 1 + 0.6 of 2 words; all of both in one chunk, so without a penalty."""
    assert caption_score("red cups", ["red cup"]) == pytest.approx(0.8)
    assert caption_score("cups", ["a cup"]) == pytest.approx(0.6 * 0.3 / (0.85 * 0.6 + 0.15 * 0.3) * (1 - 0.6))


def test_recall_weighs_more_than_precision():
    """2 of 2 words, and 2 of 4: P = 1 and R = 0.5, or the other way round; one chunk of two in both cases."""
    penalty = 1 - 0.6 * 0.5**0.2
    short, long = "red cup", "the red cup there"
    assert caption_score(short, [long]) == pytest.approx(0.5 / (0.85 * 1 + 0.15 * 0.5) * penalty)
    assert caption_score(long, [short]) == pytest.approx(0.5 / (0.85 * 0.5 + 0.15 * 1) * penalty)
    assert caption_score(long, [short]) > caption_score(short, [long])


def test_the_order_counts_by_chunks():
    """All 4 words match in chunks "left of" and "a cup": F = 1, 2 chunks of 4 matches."""
    assert caption_score("a cup left of", ["left of a cup"]) == pytest.approx(1 - 0.6 * 0.5**0.2)


def test_the_best_reference_counts():
    alone = caption_score("a red cup", ["a red bowl"])
    assert 0 < alone < 1
    assert caption_score("a red cup", ["a plate", "a red bowl", ""]) == pytest.approx(alone)
    assert caption_score("a red cup", ["a red bowl", "a red cup"]) == 1


def test_repeated_words_are_aligned_with_fewest_chunks():
    """The first "a" of the caption could match either of the reference; with the second there is one chunk."""
    assert align(["a", "red", "cup"], ["a", "bowl", "and", "a", "red", "cup"]) == Alignment(3, 3.0, 1)
    assert align(["the"] * 3, ["the", "cat"]) == Alignment(1, 1.0, 1)
    # equal words before equal stems
    assert align(["cups", "cup"], ["cup", "cups"]) == Alignment(2, 2.0, 2)


def by_trial(words: list[str], reference: list[str]) -> Alignment:
    """The best of all assignments of words to places of the reference."""
    best = (0, 0.0, 0)
    for places in itertools.product([None, *range(len(reference))], repeat=len(words)):
        used = [place for place in places if place is not None]
        if len(set(used)) < len(used):
            continue
        pairs = [(i, place) for i, place in enumerate(places) if place is not None]
        if any(stem(words[i]) != stem(reference[place]) for i, place in pairs):
            continue
        weight = sum(1.0 if words[i] == reference[place] else 0.6 for i, place in pairs)
        chunks = sum((i - 1, place - 1) not in pairs for i, place in pairs)
        best = max(best, (len(pairs), round(weight, 6), -chunks))
    return Alignment(best[0], pytest.approx(best[1]), -best[2])


def test_alignments_are_the_best_of_all():
    dice = random.Random(0)
    for _ in range(60):
        words, reference = (dice.choices(["a", "cup", "cups", "red", "of"], k=dice.randint(1, 5)) for _ in range(2))
        assert align(words, reference) == by_trial(words, reference), (words, reference)


def test_long_texts_take_no_time():
    assert caption_score("the cat and " * 12, ["and the cat " * 12]) > 0.4
