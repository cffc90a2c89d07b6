"""Optional packages: one sentence that says what to install if a package is missing."""

from __future__ import annotations

from importlib.util import find_spec

from sightline.errors import InputError


def require(module: str, package: str, extra: str | None, what: str) -> None:
    """Check that a package of an extra is installed.

    Args:
        module: the name by which it is imported.
        package: the name by which it is installed.
        extra: the extra of Sightline that includes it, or None.
        what: what needs it, for the message.

    Raises:
        InputError: it is not installed; the message says how to install it.
    """
    if find_spec(module) is None:
        install = package if extra is None else f"'sightline[{extra}]'"
        raise InputError(f"{what} needs {package}, which is not installed: pip install {install}")
