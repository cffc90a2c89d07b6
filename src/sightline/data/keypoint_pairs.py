"""Keypoints that swap when an image is mirrored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.errors import InputError

_SIDES = (("left", "right"), ("l", "r"), ("lt", "rt"))
_OTHER = {a: b for pair in _SIDES for a, b in (pair, pair[::-1])}
_GLUED = {"left": "right", "right": "left"}
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+")


def mirrored_keypoints(names: Sequence[str], points: int | None = None) -> tuple[int, ...] | None:
    """For each keypoint the index of its mirror image, derived from the words left and right (or l and r) in the names.

    Args:
        names: one name per keypoint, such as "left_eye", "LShoulder", "eye.r" or "lefteye".
        points: number of keypoints P, if it may be larger than the number of names.

    Returns:
        A permutation of 0 … P−1 that is its own inverse. A single keypoint is its own mirror image. None if the names
        do not define it: there are no names, no two form a pair, or a left point has no right counterpart.
    """
    total = len(names) if points is None else points
    if total == 1:
        return (0,)
    if len(names) != total or not total:
        return None
    words = [tuple(word.lower() for word in _WORDS.findall(name)) for name in names]
    place = {key: k for k, key in enumerate(words)}
    if len(place) < total:
        return None
    swap = list(range(total))
    for k, own in enumerate(words):
        if any(word in _OTHER for word in own):
            other = place.get(tuple(_OTHER.get(word, word) for word in own))
            if other is None:
                return None
            swap[k] = other
        else:
            swap[k] = next((place[key] for key in _unglued(own) if key in place), k)
    return tuple(swap) if swap != sorted(swap) and is_mirror(swap) else None


def _unglued(words: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """The words with "left" at the beginning or end of one replaced by "right", and vice versa."""
    for k, word in enumerate(words):
        for side, other in _GLUED.items():
            if word.startswith(side):
                yield (*words[:k], other + word.removeprefix(side), *words[k + 1 :])
            if word.endswith(side):
                yield (*words[:k], word.removesuffix(side) + other, *words[k + 1 :])


def is_mirror(swap: Sequence[int]) -> bool:
    """Whether each of 0 … P−1 occurs once, and swapped points refer to each other."""
    return sorted(swap) == list(range(len(swap))) and all(swap[other] == k for k, other in enumerate(swap))


def require_mirror(swap: Sequence[Any], points: int, where: str) -> tuple[int, ...]:
    """Validate `swap` and return it as integers.

    Raises:
        InputError: it is not a mirror permutation; the message begins with `where`.
    """
    whole = [value for value in swap if type(value) is int]
    if len(whole) != len(swap) or len(whole) != points or sorted(whole) != list(range(points)):
        raise InputError(
            f"{where} is {[*swap]!r}, but must contain each index from 0 to {points - 1} exactly once; correct it"
        )
    wrong = next((k for k, other in enumerate(whole) if whole[other] != k), None)
    if wrong is not None:
        raise InputError(
            f"{where} maps keypoint {wrong} to {whole[wrong]}, but {whole[wrong]} to {whole[whole[wrong]]}; points "
            "that swap in a mirrored image must refer to each other"
        )
    return tuple(whole)


def of_categories(categories: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Names and mirror permutation of the keypoints of COCO categories.

    Categories may have different numbers of keypoints. Names are returned if the longest list begins with all others;
    the permutation is returned if all categories agree on it. A key "flip_idx" defines it, as in YOLO pose.
    """
    lists = []
    stated = []
    for category in categories:
        names = category.get("keypoints")
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            lists.append(tuple(names))
        swap = category.get("flip_idx")
        if isinstance(swap, list) and swap:
            stated.append(require_mirror(swap, len(swap), f"flip_idx of category {category.get('name')!r}"))
    one = stated[0] if len(set(stated)) == 1 else None
    if not lists:
        return (), one
    longest = max(lists, key=len)
    swaps = [mirrored_keypoints(names) for names in lists]
    full = swaps[lists.index(longest)]
    agree = full is not None and all(swap is not None and full[: len(swap)] == swap for swap in swaps)
    same = all(longest[: len(names)] == names for names in lists)
    return (longest if same else ()), (full if agree and not stated else one)
