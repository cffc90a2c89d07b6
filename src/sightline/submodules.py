"""Modules of a package as its attributes, each imported when it is first used."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType


def submodules(package: str, path: Iterable[str]) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`.

    Args:
        package: its `__name__`.
        path: its `__path__`.
    """

    def names() -> list[str]:
        return sorted(found.name for found in pkgutil.iter_modules(path))

    def attribute(name: str) -> ModuleType:
        if not name.startswith("_") and name in names():
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute, names
