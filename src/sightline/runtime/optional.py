"""Packages that are not always there: asked for when they are needed, with one sentence that names what to install."""

from __future__ import annotations

from importlib.util import find_spec

from sightline.errors import InputError


def require(module: str, package: str, extra: str, what: str) -> None:
    """Refuse, with what to install, where a package of an extra is missing.

    Args:
        module: the name that it is imported by.
        package: the name that it is installed by.
        extra: of Sightline, that it belongs to.
        what: what needs it, for the sentence.

    Raises:
        InputError: it is not installed.
    """
    if find_spec(module) is None:
        raise InputError(f"{what} needs {package}, which is not installed: pip install 'sightline[{extra}]'")
