"""The table of `score_explanations`: the measures of each method, and how they are read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sightline.training.run import new_folder
from sightline.words import are, counted

_HEADS = ("method", "n", "pointing", "energy", "insertion", "deletion", "drop %", "increase %", "shuffled", "ms")
_READING = (
    "pointing: fraction of peaks on the object [95 % interval]; energy: heat on the object; at chance: {chance}",
    "insertion (higher is better), deletion (lower is better): area below the relative score (0: nothing is left)",
    "drop %, increase %: how far the score falls, and how often it rises, when only the heat is kept",
    "shuffled: with the model's weights shuffled, rank correlation with the map of the same target / pointing of the "
    "model's own answer (at chance, since such a model has learned nothing)",
)
"""How the columns are read, in their order."""


@dataclass
class MethodScores:
    """The measures of one method, each a mean over the cases; None if it has no value for any of them.

    Attributes:
        method: name of the method, or "random" or "centre" for the reference maps.
        cases: number of cases.
        pointing: fraction of peaks on the object.
        pointing_interval: its 95 % Wilson interval.
        energy: fraction of the positive heat on the object.
        insertion, deletion: area below the relative score.
        drop, increase: average drop and increase in percent.
        random_weights: rank correlation with the map of the same target in the model with shuffled weights.
        random_pointing: fraction of peaks on the object when the model with shuffled weights is explained for what it
            answers itself. A box of the trained model is no test: a method may only know where the box is.
        seconds: median time of an explanation.
        flat: cases whose map has the same value everywhere, which points nowhere and is scored at chance.
        errors: cases that the method could not explain, with the reason.
    """

    method: str
    cases: int = 0
    pointing: float | None = None
    pointing_interval: tuple[float, float] | None = None
    energy: float | None = None
    insertion: float | None = None
    deletion: float | None = None
    drop: float | None = None
    increase: float | None = None
    random_weights: float | None = None
    random_pointing: float | None = None
    seconds: float | None = None
    flat: int = 0
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class Faithfulness:
    """The table of `score_explanations`; `print` shows it.

    Attributes:
        model: name of the model.
        cases: number of cases, which are the same for every method.
        chance: mean fraction of the image that the objects cover; None without objects.
        rows: one per method, and the reference maps.
        notes: remarks on the choice of the images.
    """

    model: str
    cases: int
    chance: float | None
    rows: list[MethodScores]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All values, as JSON values."""
        return asdict(self)

    def cells(self) -> list[list[str]]:
        """The table as text: a row of heads, and one row per method."""
        rows = [list(_HEADS)]
        for row in self.rows:
            low, high = row.pointing_interval or (0.0, 0.0)
            pointing = "" if row.pointing is None else f"{row.pointing:.2f} [{low:.2f}, {high:.2f}]"
            values = (row.energy, row.insertion, row.deletion)
            cells = [row.method, str(row.cases), pointing, *("" if v is None else f"{v:.3f}" for v in values)]
            cells += ["" if v is None else f"{v:.0f}" for v in (row.drop, row.increase)]
            shuffled = (row.random_weights, row.random_pointing)
            cells.append(" / ".join(f"{value:.2f}" for value in shuffled if value is not None))
            rows.append([*cells, "" if row.seconds is None else f"{1000 * row.seconds:.0f}"])
        return rows

    def markdown(self) -> str:
        """The table as Markdown, with how it is read."""
        head, *rows = self.cells()
        lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        reading = [f"- {line}" for line in self.reading.splitlines()]
        return "\n".join([f"{self.model}, {counted(self.cases, 'case')}", "", *lines, "", *reading, ""])

    @property
    def reading(self) -> str:
        """How the table is read, one line per column."""
        chance = "unknown, as no label says where the objects are" if self.chance is None else f"{self.chance:.2f}"
        lines = [line.format(chance=chance) for line in _READING]
        lines += [
            f"{row.method}: {row.flat} of {counted(row.cases, 'map')} {are(row.flat)} the same everywhere"
            for row in self.rows
            if row.flat
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def __str__(self) -> str:
        rows = self.cells()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        failed = [
            f"{row.method} could not explain {counted(len(row.errors), 'case')}: {next(iter(row.errors.values()))}"
            for row in self.rows
            if row.errors
        ]
        return "\n".join([f"{self.model}, {counted(self.cases, 'case')}", *lines, *failed, self.reading])


def write_faithfulness(found: Faithfulness, out: str | Path) -> Path:
    """Write faithfulness.md and faithfulness.json to a new folder, and return it.

    Raises:
        InputError: the folder is not empty, or cannot be written to.
    """
    folder = new_folder(out, "give another --out")
    (folder / "faithfulness.md").write_text(found.markdown(), encoding="utf-8")
    (folder / "faithfulness.json").write_text(json.dumps(found.to_dict(), indent=1), encoding="utf-8")
    return folder
