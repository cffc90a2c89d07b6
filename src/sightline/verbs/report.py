"""The report of a run together with the numbers it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from sightline.evaluation import Result


def write_report(
    folder: str | Path,
    result: Result | None = None,
    *,
    data: Any = None,
    model: nn.Module | None = None,
    title: str | None = None,
) -> Path:
    """Write report.html (and evaluation.json, where there is a result) of a run; see `sightline.report.html`."""
    from sightline.report.html import write_report as run

    file = run(folder, result=result, data=data, model=model, title=title)
    if result is not None:
        file.with_name("evaluation.json").write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")
    return file
