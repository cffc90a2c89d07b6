"""Numbers with their nouns."""

import pytest

from sightline.words import are, counted, edit_distance, nearest


@pytest.mark.parametrize(
    ("number", "what", "words"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (3, "class", "3 classes"),
        (1, "class", "1 class"),
        (2, "epoch", "2 epochs"),
        (1.0, "minute", "1 minute"),
        (2.5, "minute", "2.5 minutes"),
        (12345, "box", "12345 boxes"),
    ],
)
def test_counted(number, what, words):
    assert counted(number, what) == words


def test_are():
    assert [are(n) for n in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "abc", 0),
        ("ab", "ba", 1),
        ("kitten", "sitting", 3),
        ("bycicle", "bicycle", 2),
        ("ca", "abc", 3),  # no letter is changed twice
    ],
)
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == distance


def test_nearest() -> None:
    assert nearest("abcd", {"first": "abdc", "second": ["xx", "abxy"], "third": "abc"}) == ["first", "third"]
    assert nearest("xabcdefg", {"near": "abcdefgh"}) == ["near"]
    assert nearest("xabcde", {"far": "abcdef"}) == []
