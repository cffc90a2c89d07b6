"""Open regular files only, without blocking; read up to a limit; walk folders without following circular links."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from sightline.errors import InputError
from sightline.runtime.limits import limits, require_within
from sightline.words import shown

log = logging.getLogger("sightline")

PathLike = str | os.PathLike[str]
_OF_SYSTEMS = frozenset(["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"])
"""Folders that operating systems and archivers create, with copies and thumbnails of the files beside them."""
CHUNK = 2**20
"""Size in bytes of a block of a file that is read block by block."""
_ENTERED = 8
"""How often a folder is read through different links: folders that link to each other have infinitely many paths."""


def open_binary(path: PathLike) -> BinaryIO:
    """Open a regular file for reading without blocking.

    Raises:
        InputError: it is missing, not readable, or is a folder, a pipe, a device or a socket.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise InputError(f"there is no file {shown(path)}; correct the path") from None
    except OSError as error:  # a socket cannot be opened at all
        special = unusual_kind(path)
        if special:
            raise _unusual(path, special) from None
        raise InputError(f"cannot read {shown(path)}: {error.strerror or error}") from None
    except ValueError as error:  # a name with a zero byte
        raise InputError(f"cannot read {shown(path)}: {error}") from None
    kind = _kind(os.fstat(handle).st_mode)
    if kind:
        os.close(handle)
        raise _unusual(path, kind)
    return os.fdopen(handle, "rb")


def unusual_kind(path: PathLike) -> str:
    """The kind of a path that is not a regular file, such as "a named pipe"; "" for a regular or missing file."""
    try:
        return _kind(os.stat(path).st_mode)
    except (OSError, ValueError):
        return ""


def require_file(path: PathLike) -> int:
    """The size in bytes of a file that another library will open.

    Raises:
        InputError: as for `open_binary`.
    """
    with open_binary(path) as file:
        return os.fstat(file.fileno()).st_size


def read_bytes(path: PathLike, limit: str = "file_bytes") -> bytes:
    """Read all bytes of a file.

    Args:
        path: the file.
        limit: the name of the limit on its size.

    Raises:
        InputError: as for `open_binary`, or it is larger than the limit.
    """
    most = getattr(limits(), limit)
    try:
        with open_binary(path) as file:
            size = os.fstat(file.fileno()).st_size
            require_within(f"the size of {shown(path)}", size, limit, "bytes")
            data = file.read(min(most, size + CHUNK) + 1)
            while len(data) <= most and (more := file.read(min(CHUNK, most + 1 - len(data)))):
                data += more
    except OSError as error:
        raise InputError(f"cannot read {shown(path)}: {error.strerror or error}") from None
    require_within(f"the size of {shown(path)}", len(data), limit, "bytes")
    return data


def is_hidden(name: str) -> bool:
    """Whether a file or folder with this name is left out of all listings: it begins with a dot, or is a system's."""
    return name.startswith(".") or name in _OF_SYSTEMS


def walk(folder: PathLike) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like `os.walk`, but also through links to folders, without following circular ones.

    Folders are sorted by name, unless the caller reorders them. Special files (pipes, sockets, devices) are left
    out; the log names them, and the links that are not followed.
    """
    top = os.fspath(folder)
    above: dict[str, tuple[str, ...]] = {top: (os.path.realpath(top),)}
    entered: Counter[str] = Counter()
    for at, folders, names in os.walk(top, followlinks=True):
        over = above.pop(at)
        kept = []
        for name in sorted(folders):
            inner = os.path.join(at, name)
            real = os.path.realpath(inner) if os.path.islink(inner) else os.path.join(over[-1], name)
            entered[real] += 1
            if real in over or entered[real] > _ENTERED:
                log.warning("%s links to a folder that is read already; it is not followed", shown(inner))
            else:
                kept.append(name)
                above[inner] = (*over, real)
        folders[:] = kept
        yield at, folders, [name for name in names if not _left_out(os.path.join(at, name))]


def _left_out(path: str) -> bool:
    kind = unusual_kind(path)
    if kind:
        log.warning("%s is %s, not a file; it is left out", shown(path), kind)
    return bool(kind)


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISREG, ""),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return name
    return "no ordinary file"


def _unusual(path: PathLike, kind: str) -> InputError:
    return InputError(f"{shown(path)} is {kind}, not a file; give a file, or remove it")
