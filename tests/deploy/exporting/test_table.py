"""The table of docs/exporting.md names every model of the catalog; `pytest -m slow` exports each one and compares.

`python -m tests.deploy.exporting.test_table` writes the table.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.deploy.differences import TOLERANCE, compare
from sightline.deploy.export import export
from sightline.deploy.exporting.parts import refusal
from sightline.deploy.runtimes import open_exported
from sightline.errors import InputError
from sightline.models.arguments import parameters
from sightline.models.catalog import ENTRIES, as_published, find
from sightline.models.creation import create_model
from sightline.models.entry import Entry
from sightline.models.model import Model
from sightline.runtime.shapes import shapes_only
from tests.deploy.exporting.models import NAMES, batches, lively
from tests.deploy.exporting.test_catalog import EXPORTED

DOCUMENT = Path(__file__).parents[3] / "docs" / "exporting.md"
BEGIN, END = "<!-- every model -->\n", "<!-- end -->\n"
LEAST = {"ssd300_vgg16": 268, "ssd512_vgg16": 268}
"""The smallest image size of models that take no smaller images than that."""
UNPOOLED = {"segnet": {"width": 8}, "deconvnet": {"width": 8, "hidden": 64}}
"""Models that unpool to the places of maxima, with smaller arguments.

Where two values of a window differ by the last bit alone, the place jumps, and the scores near it change by some
hundredths; folded norms do the same in PyTorch. So scores are compared where no place jumped: at 90 % of the pixels.
"""


def reason_of(entry: Entry) -> str | None:
    """Why a model is not exported; None if it is."""
    with shapes_only():
        return refusal(as_published(entry))


def table() -> str:
    """The table of every model: one row per task and status."""
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    reasons: dict[tuple[str, Any], str | None] = {}
    for entry in ENTRIES:  # the models of one builder differ in their sizes alone
        kind = entry.task, entry.builder
        if kind not in reasons:
            reasons[kind] = reason_of(entry)
        rows[entry.task, "yes" if reasons[kind] is None else f"no: {reasons[kind]}"].append(entry.name)
    lines = ["| task | exported | models |", "|---|---|---|"]
    tasks = list(dict.fromkeys(task for task, _ in rows))
    for (task, status), names in sorted(rows.items(), key=lambda row: (tasks.index(row[0][0]), row[0][1] != "yes")):
        lines.append(f"| {task.replace('_', ' ')} | {status} | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(lines) + "\n"


def test_the_table_of_the_document_is_that_of_the_catalog() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip() + "\n"
    assert written == table(), "write it anew: python -m tests.deploy.exporting.test_table"


def smaller(entry: Entry) -> dict[str, Any]:
    """Arguments for small images."""
    if entry.name in EXPORTED:
        return EXPORTED[entry.name]
    side = LEAST.get(entry.name, 128 if entry.task == "detection" else 96)
    sizes = {"image_size": side, "min_size": 96, "max_size": 160}
    return {name: value for name, value in sizes.items() if name in parameters(entry)} | UNPOOLED.get(entry.name, {})


def score_changes(one: Model, other: Model, batch: list[Tensor]) -> Tensor:
    """The largest change of a probability at each pixel of images of one size."""
    with torch.no_grad():
        pairs = zip(one(batch), other(batch), strict=True)
        return torch.cat([(own.scores - found.scores).abs().amax(0).flatten() for own, found in pairs])


@pytest.mark.slow
@pytest.mark.timeout(1200)  # Mask R-CNN of the second version takes six minutes on a slow machine
@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])
def test_every_model_is_exported_or_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    entry = find(name)
    reason = reason_of(entry)
    if reason is not None:
        with pytest.raises(InputError, match=f"{name} cannot be exported: {reason}"):
            export(create_model(name, NAMES), tmp_path / "model.onnx")
        return
    model = lively(name, **smaller(entry))
    export(model, tmp_path / "model.onnx", scores=model.task == "segmentation", check=False)
    opened = open_exported(tmp_path / "model.onnx")
    objects, tolerance = 0, replace(TOLERANCE, scores=1.0) if name in UNPOOLED else TOLERANCE
    for batch in batches():
        found = compare(model, opened, batch)
        assert found.within(tolerance), str(found)
        objects += found.objects
        if name in UNPOOLED:
            assert score_changes(model, opened, batch).quantile(0.9) <= TOLERANCE.scores
    assert objects or model.task not in ("detection", "proposal")


if __name__ == "__main__":
    old = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(old[: old.index(BEGIN) + len(BEGIN)] + "\n" + table() + "\n" + old[old.index(END) :])
