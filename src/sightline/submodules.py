"""Make the modules of a package available as attributes; each is imported when it is first used."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType


def submodules(package: str, path: Iterable[str]) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package.

    Args:
        package: the package's `__name__`.
        path: the package's `__path__`.
    """

    def names() -> list[str]:
        return sorted(found.name for found in pkgutil.iter_modules(path))

    def attribute(name: str) -> ModuleType:
        if not name.startswith("_") and name in names():
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute, names
