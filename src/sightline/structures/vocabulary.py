"""The words of captions, and captions as sequences of word ids."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.words import kind_of

END, UNKNOWN = 0, 1
"""Ids of the end of a caption and of every word that the vocabulary does not have."""
FIRST_WORD = 2
"""Id of the vocabulary's first word."""
PADDING = -1
"""Stands after the end of a caption that is shorter than others of its batch; losses ignore it."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def tokens_of(caption: str) -> list[str]:
    """Split a caption into lower-case words. Punctuation and hyphens separate words; apostrophes stay inside them.

    Languages that are written without spaces are not split: "A man's T-shirt, red." gives ["a", "man's", "t", "shirt",
    "red"].
    """
    return [word.replace("’", "'") for word in _WORD.findall(unicodedata.normalize("NFKC", caption).lower())]


class Vocabulary:
    """The words that captions are made of, with an id for each.

    Id 0 is the end of a caption, id 1 any unknown word, ids 2 … W + 1 are the words. `start`, W + 2, is the token
    before the first word, which is only ever an input.

    Args:
        words: distinct words as `tokens_of` returns them.

    Raises:
        InputError: there are no words, a word occurs twice, or it is not a single lower-case word.
    """

    def __init__(self, words: Iterable[str]):
        if isinstance(words, str) or not isinstance(words, Iterable):
            raise InputError(f"words must be a list of words, not {words!r}; write ['red', 'cup']")
        self.words = tuple(words)
        if not self.words:
            raise InputError("a vocabulary needs at least one word; give words=[…], or train on data with captions")
        self._ids: dict[str, int] = {}
        for position, word in enumerate(self.words):
            if not isinstance(word, str):
                raise InputError(f"word {position} of the vocabulary is {kind_of(word)}, but a word is a string")
            if tokens_of(word) != [word]:
                raise InputError(
                    f"word {position} of the vocabulary is {word!r}, but must be a single word in lower case; split "
                    "captions with sightline.structures.vocabulary.tokens_of"
                )
            if word in self._ids:
                raise InputError(f"the word {word!r} occurs twice in the vocabulary (again at {position}); remove one")
            self._ids[word] = position + FIRST_WORD

    @classmethod
    def of(cls, captions: Iterable[str], min_count: int = 1) -> Vocabulary:
        """The words that occur at least `min_count` times in the captions, the most frequent first.

        Raises:
            InputError: no word occurs so often.
        """
        counts = Counter(word for caption in captions for word in tokens_of(caption))
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        if not kept:
            most = max(counts.values(), default=0)
            raise InputError(
                f"no word occurs {min_count} times in the captions (the most frequent {most} times); give data with "
                "captions, or a smaller minimum count"
            )
        return cls(kept)

    @property
    def start(self) -> int:
        """Id of the token before the first word; no caption contains it."""
        return len(self)

    def __len__(self) -> int:
        """The number of tokens that can follow another: the words, the end and the unknown word."""
        return len(self.words) + FIRST_WORD

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return self.words == other.words if isinstance(other, Vocabulary) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.words)} words)"

    def id(self, word: str) -> int:
        """The id of a word; that of the unknown word if the vocabulary does not have it."""
        return self._ids.get(word, UNKNOWN)

    def known(self, caption: str) -> bool:
        """Whether the caption has at least one word of the vocabulary."""
        return any(word in self._ids for word in tokens_of(caption))

    def encode(self, captions: Sequence[str], longest: int = 15, device: torch.device | str | None = None) -> Tensor:
        """Captions → ids [N, L + 1] int64: at most `longest` words, the end, then `PADDING`.

        Later words are dropped. L is the number of words of the longest caption. The row of a caption without any known
        word is all padding, so that nothing is learned from it.
        """
        rows = []
        for caption in captions:
            words = tokens_of(caption)[:longest] if self.known(caption) else []
            rows.append([self.id(word) for word in words] + [END] if words else [])
        length = max(map(len, rows), default=0) or 1
        padded = [row + [PADDING] * (length - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64, device=device).reshape(len(rows), length)

    def decode(self, ids: Tensor) -> list[str]:
        """Ids [N, L] → captions: the words before the first end or padding. An unknown word is written as "unknown"."""
        captions = []
        for row in ids.tolist():
            stop = next((place for place, id in enumerate(row) if id in (END, PADDING)), len(row))
            captions.append(" ".join(self.word(id) for id in row[:stop]))
        return captions

    def word(self, id: int) -> str:
        """The word of an id: a word of the vocabulary, or "unknown"."""
        return self.words[id - FIRST_WORD] if FIRST_WORD <= id < len(self) else "unknown"
