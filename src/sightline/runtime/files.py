"""Checks of files to be written."""

from __future__ import annotations

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
