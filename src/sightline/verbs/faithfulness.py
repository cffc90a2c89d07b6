"""Measure how faithful explanation methods are, all on the same images: `score_explanations`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.runtime.values import require_whole
from sightline.tasks import TASKS
from sightline.verbs.explain import chosen_methods
from sightline.verbs.explained import default_target, explained_of
from sightline.verbs.faithfulness_table import Faithfulness, MethodScores
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
"""Maps that do not depend on the model; their rows are the chance levels of the table."""


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

    The explained targets are the labelled class of an image (a classifier), each detection that finds a labelled object
    with an IoU of at least 0.5 (a detector; its mask if the model and the labels have masks), each labelled class of a
    class map except the background (a segmenter), the best relation that is labelled (scene graphs), and each event
    that finds a labelled one with a temporal IoU of at least 0.5 (videos; the object is the frames of the event). Wrong
    predictions are left out, because the peak of a faithful map then need not lie on the object.

    Args:
        model: a model, a saved file, or a run's folder. It comes back as it was.
        data, split: the images, as for `sightline.evaluate`. A classifier may also be scored on boxes, which say where
            the object of a class is.
        methods: names of methods, or methods with settings of their own; by default as for `sightline.explain_images`.
        layer, samples, baseline: as for `sightline.explain_images`.
        cases: the largest number of explanations per method.
        steps: steps of the deletion and insertion curves.
        randomise: also explain the model with shuffled weights.
        measure_removal: also measure deletion, insertion, drop and increase, which costs 2 · steps additional passes.
        classes, open_args: as for `sightline.evaluate`.
        batch_size: changed copies per batch.
        seed: seed of the random choices.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        InputError: a method or layer does not exist, or no prediction for these images is correct.
    """
    from sightline.explain.faithfulness import centre_heat, random_heat
    from sightline.explain.hooks import unchanged
    from sightline.explain.layers import layer_named
    from sightline.explain.target import prepared
    from sightline.progress import progress_bar

    require_whole("cases", cases, 1, "count", "give 20 if in doubt")
    require_whole("steps", steps, 1, "count", "give 20 if in doubt")
    known = load_model(model)
    chosen = chosen_methods(known, methods, layer, samples, baseline, seed, batch_size, progress=False)
    if layer is not None:
        layer_named(known, layer)
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
                f"{known.title} is right about nothing in {counted(len(selected.part))}, so there is nothing to explain"
                "; train it longer, or give other images"
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
                    size = prepared(known, case.image).original_sizes[0]  # of a video, that of its film
                    heat = random_heat(size, seed + number) if name == "random" else centre_heat(size)
                    measures.reference(table[name], case, heat)
                    advance(1)
    rows = [scores.row() for scores in table.values()]
    areas = [float(case.inside.float().mean()) for case in found if case.inside is not None]
    return Faithfulness(known.title, len(found), sum(areas) / len(areas) if areas else None, rows, notes)


class _Scores:
    """Collects the measures of one method."""

    def __init__(self, name: str):
        self.name, self.count, self.flat = name, 0, 0
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
        return MethodScores(
            self.name, self.count, **means, pointing_interval=interval, flat=self.flat, errors=self.errors
        )


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
        scores.flat += bool(heat.max() == heat.min())
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
    """The correct predictions for labelled images, one by one; see `score_explanations`.

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
    """The labelled images with the labels of the task, or with other labels that say where things are.

    The class ids of the labels are those of the model.

    Raises:
        ClassMismatch: the data has classes that the model does not know; with labels that only say where things are,
            only such classes.
    """
    from sightline.data.dataset import Dataset
    from sightline.data.facts import with_training_full_scale
    from sightline.verbs.labels import for_task, with_target_fields

    data = with_training_full_scale(model, data_for(model, given, data, classes, open_args))
    located_by = explained_of(model).located_by
    located = located_by is not None and getattr(data, "kind", None) == located_by
    if not located:
        data = for_task(data, model)
        with suppress(InputError):  # labels without masks only have boxes
            data = with_target_fields(model, data)
    if not isinstance(data, Dataset) or not model.classes or data.classes == model.classes:
        return data
    unknown = [name for name in data.classes if name not in model.classes]
    if len(unknown) == len(data.classes) or (unknown and not located):
        data.classes.require_same(model.classes, "the data", "the model")
    return data if unknown else data.with_classes(model.classes)
