"""Measure how faithful explanation methods are, all on the same images: `score_explanations`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.runtime.values import require_whole
from sightline.tasks import TASKS
from sightline.training.run import new_folder
from sightline.verbs.explain import chosen_methods, default_target, explained_of
from sightline.verbs.held_out import select_images
from sightline.verbs.opening import ClassesGiven, data_for, load_model
from sightline.words import counted

if TYPE_CHECKING:
    from torch import Tensor

    from sightline.data.dataset import Dataset
    from sightline.explain.cases import Case
    from sightline.explain.method import Method
    from sightline.models.model import Model
    from sightline.structures import ImageBatch

REFERENCES = ("random", "centre")
"""Maps that know nothing of the model, whose rows are the chance levels of the table."""
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


@checked_keywords
def score_explanations(
    model: nn.Module | str | Path,
    data: Dataset | str | Path | Any = None,
    split: str | None = None,
    *,
    methods: Sequence[str | Method] | None = None,
    layer: str | None = None,
    samples: int | None = None,
    baseline: str | None = None,
    cases: int = 20,
    steps: int = 20,
    randomise: bool = True,
    measure_removal: bool = True,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    device: Any = None,
    progress: bool = True,
) -> Faithfulness:
    """Compare explanation methods on the same labelled images; see `sightline.explain.faithfulness`.

    Explained are the labelled class of an image (a classifier), each detection that finds a labelled object with an IoU
    of at least 0.5 (a detector; its mask if the model and the labels have masks), and each labelled class of a class
    map except the background (a segmenter). Predictions that are wrong are left out, since the peak of a faithful map
    need not lie on the object then.

    Args:
        model: a model, a saved file, or a run's folder. It comes back as it was.
        data, split: the images, as for `sightline.evaluate`. A classifier may also be scored on boxes, which say where
            the object of a class is.
        methods: names of methods, or methods with settings of their own; by default as for `sightline.explain_images`.
        layer, samples, baseline: as for `sightline.explain_images`.
        cases: the largest number of explanations per method.
        steps: steps of the deletion and insertion curves.
        randomise: also explain the model with shuffled weights.
        measure_removal: also measure deletion, insertion, drop and increase, which costs 2 · steps further passes.
        classes, open_args: as for `sightline.evaluate`.
        batch_size: changed copies per batch.
        seed: seed of the random choices.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        InputError: a method or layer does not exist, or the model is right about nothing in these images.
    """
    from sightline.explain.faithfulness import centre_heat, random_heat
    from sightline.explain.hooks import unchanged
    from sightline.progress import progress_bar

    require_whole("cases", cases, 1, "count", "give 20 if in doubt")
    require_whole("steps", steps, 1, "count", "give 20 if in doubt")
    known = load_model(model)
    chosen = chosen_methods(known, methods, layer, samples, baseline, seed, batch_size, progress=False)
    opened = _opened(known, model, data, classes, open_args)
    selected = select_images(known, opened, split)
    notes = list(selected.notes)
    with unchanged(known, device) as place:
        found = []
        for case in cases_of(known, selected.part, place):
            found.append(case)
            if len(found) == cases:
                break
        if not found:
            raise InputError(
                f"{known.title} is right about nothing in these {counted(len(selected.part))}, so there is nothing to "
                "explain; train it longer, or give other images"
            )
        measures = _Measures(known, layer, steps, randomise, measure_removal, batch_size, seed)
        with progress_bar(len(found) * (len(chosen) + 2), "scoring explanations", progress) as advance:
            table: dict[str, _Scores] = {}
            for method in chosen:
                table[method.name] = _Scores(method.name)
                for case in found:
                    measures.method(table[method.name], case, method)
                    advance(1)
            for name in REFERENCES:
                table[name] = _Scores(name)
                for number, case in enumerate(found):
                    size = (int(case.image.shape[-2]), int(case.image.shape[-1]))
                    heat = random_heat(size, seed + number) if name == "random" else centre_heat(size)
                    measures.reference(table[name], case, heat)
                    advance(1)
    rows = [scores.row() for scores in table.values()]
    areas = [float(case.inside.float().mean()) for case in found if case.inside is not None]
    return Faithfulness(known.title, len(found), sum(areas) / len(areas) if areas else None, rows, notes)


def write_faithfulness(found: Faithfulness, out: str | Path) -> Path:
    """Write faithfulness.md and faithfulness.json to a new folder, and return it.

    Raises:
        InputError: the folder is not empty, or cannot be written to.
    """
    folder = new_folder(out, "give another --out")
    (folder / "faithfulness.md").write_text(found.markdown(), encoding="utf-8")
    (folder / "faithfulness.json").write_text(json.dumps(found.to_dict(), indent=1), encoding="utf-8")
    return folder


class _Scores:
    """Collects the measures of one method."""

    def __init__(self, name: str):
        self.name, self.count = name, 0
        self.values: dict[str, list[float]] = {}
        self.errors: dict[str, str] = {}

    def add(self, **values: float | None) -> None:
        for name, value in values.items():
            if value is not None:
                self.values.setdefault(name, []).append(value)

    def row(self) -> MethodScores:
        from sightline.evaluation.intervals import wilson
        from sightline.explain.faithfulness import average_drop, increase

        means = {name: sum(values) / len(values) for name, values in self.values.items() if name != "kept"}
        seconds = sorted(self.values.get("seconds", ()))
        means |= {"seconds": seconds[len(seconds) // 2]} if seconds else {}
        kept, hits = self.values.get("kept"), self.values.get("pointing")
        if kept:
            means |= {"drop": average_drop([1.0] * len(kept), kept), "increase": increase([1.0] * len(kept), kept)}
        interval = wilson(sum(hits), len(hits)) if hits else None
        return MethodScores(self.name, self.count, **means, pointing_interval=interval, errors=self.errors)


@dataclass(frozen=True)
class _Measures:
    """Measures heat maps of one model."""

    model: Model
    layer: str | None
    steps: int
    randomise: bool
    removal: bool
    batch_size: int
    seed: int

    def method(self, scores: _Scores, case: Case, method: Method) -> None:
        """Explain a case and measure the heat map."""
        from sightline.explain.explanation import heat_of_batch, in_original_pixels
        from sightline.explain.faithfulness import pointing_game
        from sightline.explain.sanity import randomised, rank_correlation
        from sightline.explain.target import prepared

        batch = prepared(self.model, case.image)
        began = time.perf_counter()
        try:
            heat, _ = heat_of_batch(self.model, batch, method, case.target, self.layer)
        except InputError as error:
            scores.errors[case.name] = str(error)
            return
        scores.add(seconds=time.perf_counter() - began)
        if self.randomise:
            other = answer = None
            with randomised(self.model, seed=self.seed):
                with suppress(InputError):  # scores of random weights may be infinite
                    other, _ = heat_of_batch(self.model, batch, method, case.target, self.layer)
                with suppress(InputError):  # such a model may answer nothing
                    own = default_target(self.model, case.image)
                    answer, _ = heat_of_batch(self.model, batch, method, own, self.layer)
            if other is not None and bool(other.isfinite().all()):
                scores.add(random_weights=rank_correlation(heat, other))
            if answer is not None and case.inside is not None and bool(answer.isfinite().all()):
                scores.add(random_pointing=pointing_game(in_original_pixels(answer, batch).cpu(), case.inside))
        self._place(scores, case, in_original_pixels(heat, batch).cpu())
        if self.removal:
            self._removal(scores, case, batch, heat)

    def reference(self, scores: _Scores, case: Case, heat: Tensor) -> None:
        """Measure a map in pixels of the image that was not made by a method."""
        from torch.nn import functional as F

        from sightline.explain.target import prepared

        self._place(scores, case, heat)
        if self.removal:
            batch = prepared(self.model, case.image)
            x1, y1, x2, y2 = batch.frame(0)
            own = F.interpolate(heat[None, None], size=(y2 - y1, x2 - x1), mode="nearest-exact")[0, 0]
            height, width = batch.tensor.shape[-2:]
            whole = heat.new_zeros(height, width)
            top, left, bottom, right = max(0, y1), max(0, x1), min(height, y2), min(width, x2)
            whole[top:bottom, left:right] = own[top - y1 : bottom - y1, left - x1 : right - x1]
            self._removal(scores, case, batch, whole.to(batch.tensor.device))

    def _place(self, scores: _Scores, case: Case, heat: Tensor) -> None:
        from sightline.explain.faithfulness import energy_inside, pointing_game

        scores.count += 1
        if case.inside is not None:
            scores.add(pointing=pointing_game(heat, case.inside), energy=energy_inside(heat, case.inside))

    def _removal(self, scores: _Scores, case: Case, batch: ImageBatch, heat: Tensor) -> None:
        import torch

        from sightline.explain.faithfulness import area, deletion_curve, insertion_curve, kept_score, relative

        def function(pixels: Tensor) -> Tensor:
            return case.target.score(self.model, batch.with_copies(pixels))

        x1, y1, x2, y2 = batch.frame(0)
        valid = torch.zeros(batch.tensor.shape[-2:], dtype=torch.bool)
        valid[max(0, y1) : y2, max(0, x1) : x2] = True
        settings: dict[str, Any] = {"steps": self.steps, "valid": valid, "batch_size": self.batch_size}
        down = deletion_curve(function, batch.tensor, heat, seed=self.seed, **settings)
        up = insertion_curve(function, batch.tensor, heat, seed=self.seed, **settings)
        whole, empty, blurred = float(down[0]), float(down[-1]), float(up[0])
        kept = relative(torch.tensor([kept_score(function, batch.tensor, heat)]), whole, empty)
        fall, rise = relative(down, whole, empty), relative(up, whole, blurred)
        scores.add(
            deletion=None if fall is None else area(fall),
            insertion=None if rise is None else area(rise),
            kept=None if kept is None else float(kept[0]),
        )


def cases_of(model: Model, data: Any, device: Any = None) -> Iterator[Case]:
    """What the model is right about in labelled images, one by one; see `score_explanations`.

    Args:
        model: a model in eval mode.
        data: (image, target) pairs.
        device: where the model runs.
    """
    make = explained_of(model).cases
    if make is None:
        able = [name for name, task in TASKS.items() if task.explained is not None and task.explained.cases is not None]
        raise InputError(
            f"explanations of models of task {model.task!r} cannot be scored; those of {', '.join(able)} can"
        )
    names = getattr(data, "names", None)
    for position in range(len(data)):
        image, label = data[position]
        name = str(names[position]) if names is not None else f"image {position}"
        yield from make(model, name, image.to(device), label)


def _opened(
    model: Model, given: Any, data: Any, classes: ClassesGiven | None, open_args: Mapping[str, Any] | None
) -> Any:
    """The labelled images with the labels of the task, or with other labels that say where things are."""
    from sightline.data.facts import with_training_full_scale
    from sightline.verbs.labels import for_task, with_target_fields

    data = with_training_full_scale(model, data_for(model, given, data, classes, open_args))
    located_by = explained_of(model).located_by
    if located_by is not None and getattr(data, "kind", None) == located_by:
        return data
    data = for_task(data, model)
    with suppress(InputError):  # labels without masks only have boxes
        data = with_target_fields(model, data)
    return data
