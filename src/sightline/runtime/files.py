"""Write files completely or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sightline.errors import InputError


def require_new_file(file: Path) -> None:
    """Check that a file does not exist and its folder does.

    Raises:
        InputError: the file exists, or its folder does not.
    """
    if file.exists():
        raise InputError(f"{file} exists, and nothing is overwritten; give another name or remove it")
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}; create it first")


@contextlib.contextmanager
def named_in_errors(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Context whose errors of the system name `path` if they name nothing, as of a full disk, or a temporary file."""
    try:
        yield
    except OSError as error:
        # an error without a number is a message, which a file name would hide
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def written_whole(path: Path, what: str = "the file") -> Iterator[Path]:
    """A path beside `path` to write to. The file takes its place at the end; after an error, `path` is as it was.

    Args:
        path: of the file.
        what: name of the file's contents, for the message.

    Raises:
        InputError: it cannot be written there, such as on a full disk.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: {what} cannot be written there ({reason}); choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
