"""A lock that only one process holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import InputError


@contextmanager
def held_lock(file: Path, message: str) -> Iterator[None]:
    """Hold the lock of a file, which is created and stays, or of a folder that exists.

    The operating system releases the lock when the process ends, also if it is killed. On a file system without locks,
    such as some network drives, nothing is locked; nor are folders on Windows.

    Args:
        file: the file or folder to lock.
        message: the error if another process, or another call in this one, holds the lock.

    Raises:
        InputError: the lock is held.
    """
    if file.is_dir():
        if sys.platform == "win32":
            yield
            return
        number = os.open(file, os.O_RDONLY)
        try:
            if _is_taken(number):
                raise InputError(message)
            yield
        finally:
            os.close(number)
        return
    with file.open("ab") as stream:
        if _is_taken(stream.fileno()):
            raise InputError(message)
        yield


def _is_taken(number: int) -> bool:
    """Lock an open file; True if it is locked already."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return True
        return False
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks
        return False
    return False
