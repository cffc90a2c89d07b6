"""Rows of what was found and what to do about it, as `sightline doctor` prints them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "warning", "error"]
_SIGNS: dict[Status, str] = {"ok": "ok", "note": "note", "warning": "warning", "error": "ERROR"}


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        group: the heading it stands under, such as "versions" or "devices".
        name: what was checked.
        status: "ok"; "note" (useful to know); "warning" (something will be slow or fail); "error" (does not work).
        value: what was found.
        advice: what to do; empty if nothing needs to be done.
    """

    group: str
    name: str
    status: Status
    value: str
    advice: str = ""


class Checks(list[Check]):
    """A list of checks; `print` shows it as a table."""

    @property
    def ok(self) -> bool:
        """Whether no check is an error."""
        return all(check.status != "error" for check in self)

    def __str__(self) -> str:
        width = max((len(check.name) for check in self), default=0)
        lines: list[str] = []
        group = ""
        for check in self:
            if check.group != group:
                group = check.group
                lines += ["", group] if lines else [group]
            lines.append(f"  {check.name:<{width}}  {_SIGNS[check.status]:<7}  {check.value}")
            if check.advice:
                lines += textwrap.wrap(f"→ {check.advice}", 110, initial_indent=" " * 6, subsequent_indent=" " * 8)
        errors = sum(check.status == "error" for check in self)
        warnings = sum(check.status == "warning" for check in self)
        verdict = f"{errors} errors, {warnings} warnings" if errors or warnings else "all is well"
        return "\n".join([*lines, "", verdict])
