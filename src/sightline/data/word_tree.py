"""The published format of word trees, as in darknet's `9k.tree`: a line a node, its name and its parent's line."""

from __future__ import annotations

from pathlib import Path

from sightline.errors import InputError


def read_word_tree(path: str | Path, names: str | Path | None = None) -> list[list[str | int]]:
    """A tree's file → (name, parent) pairs, the argument `tree` of YOLO9000's builders.

    Args:
        path: lines "name parent": the parent is the number of its line, from 0, and −1 for a root. A name has no
            spaces; published files hold WordNet's ids there.
        names: a file with a readable name for each node, line by line.

    Returns:
        [name, parent] of each node. Where two nodes would have one name, the later has the file's own behind it.

    Raises:
        InputError: a file is not there, a line is not of this form, a parent is not an earlier line, or the files
            differ in length.
    """
    path = Path(path)
    pairs: list[list[str | int]] = []
    for number, line in enumerate(_lines(path), 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2 or not parts[1].removeprefix("-").isdecimal():
            raise InputError(f"{path}, line {number}: {line.strip()!r} must be a name and the number of its parent")
        parent = int(parts[1])
        if not -1 <= parent < len(pairs):
            raise InputError(
                f"{path}, line {number}: parent {parent} of {parts[0]!r} must be -1 or the number of an earlier node, "
                f"0 to {len(pairs) - 1}"
            )
        pairs.append([parts[0], parent])
    if not pairs:
        raise InputError(f"{path}: the file holds no tree; a line a node is needed, a name and its parent's number")
    if names is not None:
        given = [line.strip() for line in _lines(Path(names)) if line.strip()]
        if len(given) != len(pairs):
            raise InputError(f"{names} has {len(given)} names, but the tree of {path} has {len(pairs)} nodes")
        used: set[str] = set()
        for pair, name in zip(pairs, given, strict=True):
            pair[0] = f"{name} ({pair[0]})" if name in used else name
            used.add(name)
    return pairs


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of one")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: this is no text in UTF-8 ({error.reason} at byte {error.start})") from error
