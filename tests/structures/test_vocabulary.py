"""The vocabulary: words of captions, ids, and back."""

from __future__ import annotations

import pytest
import torch

from sightline.errors import InputError
from sightline.structures.vocabulary import END, PADDING, UNKNOWN, Vocabulary, tokens_of


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's T-shirt, red.", ["a", "man's", "t", "shirt", "red"]),
        ("the man’s hat", ["the", "man's", "hat"]),
        ("Ein grüner Würfel", ["ein", "grüner", "würfel"]),
        ("2 cups_on (table)", ["2", "cups", "on", "table"]),
        ("' -- ' ...", []),
        ("", []),
    ],
)
def test_captions_are_split_into_words(caption, words):
    assert tokens_of(caption) == words


def test_words_are_ordered_by_frequency_then_alphabet():
    vocabulary = Vocabulary.of(["a red cup", "A blue cup.", "a dog"])
    assert vocabulary.words == ("a", "cup", "blue", "dog", "red")
    assert Vocabulary.of(["a red cup", "a blue cup"], min_count=2).words == ("a", "cup")
    assert len(vocabulary) == vocabulary.start == 7
    assert [word in vocabulary for word in ("dog", "cat")] == [True, False]
    assert vocabulary == Vocabulary(["a", "cup", "blue", "dog", "red"]) != Vocabulary(["a"])


def test_ids_of_captions():
    vocabulary = Vocabulary(["a", "red", "cup"])  # ids 2, 3, 4
    ids = vocabulary.encode(["a red cup", "A green CUP!", "cup", "green"])
    assert ids.tolist() == [
        [2, 3, 4, END],
        [2, UNKNOWN, 4, END],
        [4, END, PADDING, PADDING],
        [PADDING] * 4,  # no known word: nothing to learn
    ]
    assert vocabulary.encode(["a red cup a red cup"], longest=4).tolist() == [[2, 3, 4, 2, END]]
    assert vocabulary.decode(ids) == ["a red cup", "a unknown cup", "cup", ""]
    assert vocabulary.encode([]).shape == (0, 1)
    assert vocabulary.encode(["", "?"]).tolist() == [[PADDING], [PADDING]]
    assert [vocabulary.known(caption) for caption in ("the cup", "the saucer")] == [True, False]


def test_captions_survive_the_round_trip():
    captions = ["a large red shiny cone left of a small blue matte sphere", "a cup"]
    vocabulary = Vocabulary.of(captions)
    assert vocabulary.decode(vocabulary.encode(captions)) == captions
    assert vocabulary.decode(torch.zeros(2, 3, dtype=torch.int64)) == ["", ""]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "at least one word"),
        ("cup", "a list of words"),
        (7, "a list of words"),
        (["cup", "cup"], "occurs twice"),
        (["red cup"], "word 0 of the vocabulary is 'red cup', but must be a single word"),
        (["Cup"], "in lower case"),
        (["cup", 3], "word 1 of the vocabulary is a whole number"),
    ],
)
def test_a_vocabulary_of_other_things_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        Vocabulary(words)


def test_captions_without_frequent_words_are_refused():
    with pytest.raises(InputError, match="no word occurs 3 times in the captions"):
        Vocabulary.of(["a cup", "a saucer"], min_count=3)
    with pytest.raises(InputError, match="no word occurs 1 times"):
        Vocabulary.of(["", "…"])
