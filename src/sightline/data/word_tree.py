"""The published format of word trees, as in darknet's `9k.tree`: one line per node, with its name and parent."""

from __future__ import annotations

from pathlib import Path

from sightline.errors import InputError


def read_word_tree(path: str | Path, names: str | Path | None = None) -> list[list[str | int]]:
    """Read a tree file as (name, parent) pairs, for the argument `tree` of the YOLO9000 builders.

    Args:
        path: lines "name parent": the parent is its line number, from 0, and −1 for a root. A name has no spaces;
            published files contain WordNet ids.
        names: a file with a readable name for each node, line by line.

    Returns:
        [name, parent] of each node. If two nodes have the same readable name, the name in the tree file is appended to
        that of the later node.

    Raises:
        InputError: a file does not exist, a line does not have this form, a parent is not an earlier line, or the files
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
        raise InputError(f"{path}: the file contains no tree; each line must be a name and the number of its parent")
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
        raise InputError(f"there is no file {path}; correct the path")
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
