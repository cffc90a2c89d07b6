"""Files that are written."""

from __future__ import annotations

from pathlib import Path

from sightline.errors import InputError


def require_new_file(file: Path) -> None:
    """Refuse to write a file that exists, or in a folder that does not.

    Raises:
        InputError: naming it.
    """
    if file.exists():
        raise InputError(f"{file} exists, and nothing is overwritten; give another name or remove it")
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}; make it first")
