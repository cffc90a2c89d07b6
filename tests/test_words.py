"""Numbers with their nouns."""

import pytest

from sightline.words import are, counted


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
