"""Requests that are not answered: a status code and one sentence."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """A request that is refused.

    Args:
        status: the HTTP status code.
        sentence: what is wrong, and what to do.
        headers: additional headers of the response.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None):
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, dict(headers or {})


def busy(sentence: str) -> Refusal:
    """The refusal of a server that has too much to do at the moment."""
    return Refusal(503, sentence, {"Retry-After": "1"})
