"""Export a model and score the file on labelled images, beside the model that it was made from.

For int8, layers return to float, the most sensitive first, until the metric of the task drops by no more than allowed.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

import sightline
from sightline.data.dataset import Dataset
from sightline.data.facts import with_training_full_scale
from sightline.data.fingerprint import ImageKeys, labels_key
from sightline.deploy.certificate import Certificate, Score, stamp
from sightline.deploy.export import Exported, Masks, Pixels, export
from sightline.deploy.runtimes import ExportedModel, open_exported
from sightline.deploy.timing import seconds_in_turn
from sightline.errors import InputError
from sightline.evaluation import evaluate
from sightline.evaluation.paired import paired_intervals
from sightline.evaluation.result import MakeMeasure, Result
from sightline.models.model import Model
from sightline.progress import progress_bar
from sightline.runtime.files import require_new_file, written_whole
from sightline.training.run import cpu_name
from sightline.words import counted

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
LEVEL = 0.95
"""Level of the intervals."""
_SENSED = 4
"""Images that the sensitivity of layers is measured on."""
_TIMED = 9
"""Timed calls of each file."""


@dataclass(frozen=True)
class Trial:
    """What an exported file is scored on.

    Attributes:
        part: the labelled images.
        measure: creates the object that compares predictions with labels.
        lower_is_better: names of the metrics for which lower is better.
        place: path or name of the data.
        split: name of the split of `part`.
        calibration: images to measure the ranges of values on, which need no labels: items (image, …), in any number.
        calibration_split: name of their split.
        notes: remarks on the choice of the images, one sentence each.
    """

    part: Any
    measure: MakeMeasure
    lower_is_better: tuple[str, ...]
    place: str
    split: str
    calibration: Any
    calibration_split: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Scored:
    """A model, and its result on the images of the trial."""

    model: Model
    result: Result


def certify(
    model: Model,
    path: Path,
    trial: Trial,
    *,
    precision: Precision = "int8",
    calibration: int = 100,
    max_drop: float = 0.01,
    or_float: bool = False,
    pixels: Pixels = "uint8",
    scores: bool = False,
    masks: Masks = "small",
    images: Sequence[Tensor] | None = None,
    check: bool = True,
    batch_size: int = 8,
    progress: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Export a model in a precision, score the file, and store the figures in it as its certificate.

    An fp32 file is compared with the model in PyTorch; others with the fp32 file.

    Args:
        model: a model of the catalog. It is not changed.
        path: the file to write, ending in .onnx.
        trial: the labelled images and how predictions are compared with them.
        precision: "fp32"; "fp16", half the size; or "int8", a quarter of the size.
        calibration: number of images that the ranges of int8 values are measured on.
        max_drop: the largest drop of the task's first headline metric that is allowed.
        or_float: if int8 or fp16 drops by more: write the fp32 file instead of none.
        pixels, scores, masks, images, check: as in `sightline.deploy.export.export`.
        batch_size: images per batch of the evaluations.
        progress: show progress bars if stderr is a terminal.
        tell: called with a sentence for each step.

    Returns:
        What was written, with its certificate.

    Raises:
        InputError: as in `export`; the metric is not available on these images; or it drops by more than allowed.
    """
    require_new_file(path)
    if model.takes_cameras:
        raise InputError(
            f"{model.title}: files that take cameras are written in fp32 and without a certificate; "
            "leave precision and data out"
        )
    with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
        whole = Path(folder) / "fp32.onnx"
        written = export(model, whole, pixels=pixels, scores=scores, masks=masks, images=images, check=check, tell=tell)
        judge = _Judge(trial, batch_size, progress)
        where = f"{counted(len(trial.part))} ({trial.split})"
        tell(f"scoring the fp32 file on {where}")
        file = judge.scored(open_exported(whole))
        tell(f"fp32: {judge.shown(file)} on {where}")
        before, after, layers = file, file, 0
        floats: tuple[str, ...] = ()
        if precision != "fp32":
            candidates = _candidates(precision, whole, trial, calibration, progress)
            after, floats, layers = _within(candidates, judge, file, Path(folder), max_drop, precision, tell)
            if judge.drop(file, after) > max_drop and or_float:
                tell(f"{precision} loses more than {max_drop:g}, so the fp32 file is written")
                precision = "fp32"
        if precision == "fp32":
            before, after, floats, layers = judge.scored(model), file, (), 0
        if judge.drop(before, after) > max_drop:
            raise InputError(_refusal(judge, before, after, precision, max_drop, layers))
        assert isinstance(after.model, ExportedModel)
        used = min(calibration, len(trial.calibration)) if precision == "int8" else 0
        found = _scores(before.result, after.result)
        certificate = Certificate(
            precision=precision,
            reference="the model in PyTorch" if precision == "fp32" else "the fp32 file in ONNX Runtime",
            data=trial.place,
            split=trial.split,
            fingerprint=fingerprint(trial.part),
            images=len(trial.part),
            metric=judge.metric(before),
            protocol=_protocol(before.result, judge.metric(before)),
            scores=found,
            max_drop=max_drop,
            lower_is_better=judge.metric(before) in trial.lower_is_better,
            level=LEVEL,
            float_layers=tuple(floats),
            layers=layers,
            calibration=(used, trial.calibration_split if used else ""),
            bytes=(after.model.path.stat().st_size, whole.stat().st_size),
            seconds=_seconds(before.model, after.model, trial),
            versions=_versions(),
            provider=after.model.provider,
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            notes=[*trial.notes, *_notes(trial, precision, floats, used, found[judge.metric(before)])],
        )
        with written_whole(path) as partial:
            shutil.copyfile(after.model.path, partial)
        return replace(
            written,
            path=path,
            megabytes=path.stat().st_size / 1e6,
            certificate=stamp(path, certificate),
            provider=after.model.provider,
        )


class _Judge:
    """Scores models on the images of a trial."""

    def __init__(self, trial: Trial, batch_size: int, progress: bool):
        self.trial, self.batch_size, self.progress = trial, batch_size, progress

    def scored(self, model: Model) -> _Scored:
        """A model with its result."""
        found = evaluate(
            model, self.trial.part, self.trial.measure, self.batch_size, None, self.progress, keep_predictions=False
        )
        self.value(_Scored(model, found))
        return _Scored(model, found)

    def metric(self, scored: _Scored) -> str:
        """The metric that is judged: the first of the headline."""
        return scored.result.headline[0]

    def value(self, scored: _Scored) -> float:
        """The value of this metric.

        Raises:
            InputError: it is not available.
        """
        name = self.metric(scored)
        found = scored.result.metrics[name]
        if found is None:
            reason = scored.result.reasons.get(name, "it is not defined there")
            raise InputError(
                f"{name} is not available on these images ({reason}), so no drop of it can be measured; give labelled "
                "images that have it"
            )
        return found

    def drop(self, before: _Scored, after: _Scored) -> float:
        """How much worse the metric became."""
        lost = self.value(before) - self.value(after)
        return -lost if self.metric(before) in self.trial.lower_is_better else lost

    def shown(self, scored: _Scored) -> str:
        """The metric and its value."""
        return f"{self.metric(scored)} {self.value(scored):.4f}"


Candidates = Callable[[int], tuple[Any, tuple[str, ...], int]]
"""Number of layers to keep in float → content of the file, names of these layers, number of all layers."""


def _candidates(precision: Precision, whole: Path, trial: Trial, calibration: int, progress: bool) -> Candidates:
    """What makes the files to try."""
    import onnx

    from sightline.deploy.exporting.half import in_half_precision
    from sightline.deploy.exporting.quantise import Quantiser

    content = onnx.load(str(whole))
    if precision == "fp16":
        return lambda count: (in_half_precision(content), (), 0)
    arrays = _arrays(trial, calibration, open_exported(whole))
    with progress_bar(len(arrays), "calibrating", progress) as advance:
        quantiser = Quantiser(content, arrays, advance)
    names = [layer.name for layer in quantiser.network.layers]
    ranked: list[str] = []

    def candidate(count: int) -> tuple[Any, tuple[str, ...], int]:
        if count and not ranked:
            with progress_bar(len(names), "measuring layers", progress, "layers") as advance:
                found = quantiser.sensitivities(arrays[:_SENSED], advance)
            ranked.extend(sorted(names, key=lambda name: -found[name]))
        floats = ranked[:count]
        return quantiser.quantised([name for name in names if name not in floats]), tuple(floats), len(names)

    return candidate


def _within(
    candidates: Candidates,
    judge: _Judge,
    before: _Scored,
    folder: Path,
    max_drop: float,
    precision: Precision,
    tell: Callable[[str], None],
) -> tuple[_Scored, tuple[str, ...], int]:
    """The file with the fewest layers in float whose drop is allowed; if there is none, the best one.

    The number of float layers is doubled until the drop is allowed, and then halved between the last two numbers.
    """
    tried: dict[int, tuple[_Scored, tuple[str, ...], int]] = {}

    def drop(count: int) -> float:
        content, floats, layers = candidates(count)
        file = folder / f"{count}.onnx"
        file.write_bytes(content.SerializeToString())
        after = judge.scored(open_exported(file))
        tried[count] = after, floats, layers
        in_float = f", {len(floats)} of {layers} layers in float" if floats else ""
        tell(f"{precision}{in_float}: {judge.shown(after)}")
        return judge.drop(before, after)

    if drop(0) <= max_drop:
        return tried[0]
    most = tried[0][2] - 1  # one layer at least is left to quantise
    low, high = 0, min(1, most)
    while high > low and drop(high) > max_drop:
        low, high = high, min(2 * high, most)
    if high <= low:
        return tried[min(tried, key=lambda count: judge.drop(before, tried[count][0]))]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if drop(middle) <= max_drop else (middle, high)
    return tried[high]


def _refusal(judge: _Judge, before: _Scored, after: _Scored, precision: Precision, max_drop: float, layers: int) -> str:
    advice = {
        "fp32": "export without data to see the largest differences, and report a bug",
        "fp16": "export as fp32",
        "int8": "calibrate on more images (--calibration), or export as fp16 or fp32",
    }[precision]
    kept = ", however many of its layers stay in float" if layers else ""
    return (
        f"{precision} loses {judge.drop(before, after):.4f} of {judge.metric(before)} on these images "
        f"({judge.value(before):.4f} → {judge.value(after):.4f}), more than the {max_drop:g} allowed{kept}; no file "
        f"was written. Allow more (--max-drop), {advice}"
    )


def _arrays(trial: Trial, count: int, model: ExportedModel) -> list[NDArray[Any]]:
    """Evenly spread images for the calibration as the file takes them, [1, C, H, W] each."""
    items = with_training_full_scale(model, trial.calibration)
    total = len(items)
    used = min(count, total)
    return [model.as_input(items[i * total // used][0])[None].numpy() for i in range(used)]


def fingerprint(part: Any) -> str:
    """A hexadecimal fingerprint of images and labels; "unknown" for data that is not a `Dataset`."""
    if not isinstance(part, Dataset):
        return "unknown"
    total = hashlib.blake2b(digest_size=8)
    total.update(ImageKeys.of(part).contents.tobytes())
    total.update(labels_key(part).encode())
    return total.hexdigest()


def _protocol(result: Result, metric: str) -> str:
    values = result.to_dict(details=False)
    return str(values.get("protocols", {}).get(metric) or values.get("protocol", ""))


def _scores(before: Result, after: Result) -> dict[str, Score]:
    """The metrics of the headline of both, with intervals."""
    intervals = paired_intervals(before, after, LEVEL)
    names = [name for name in before.headline if name in after.metrics]
    return {name: Score(before.metrics[name], after.metrics[name], intervals.get(name)) for name in names}


def _seconds(before: Model, after: Model, trial: Trial) -> dict[str, Any]:
    image = with_training_full_scale(before, trial.part)[0][0]
    with torch.inference_mode():
        one, other = seconds_in_turn([lambda: before([image]), lambda: after([image])], _TIMED)
    height, width = (int(side) for side in image.shape[-2:])
    threads = torch.get_num_threads()
    return {"reference": one, "exported": other, "size": [height, width], "threads": threads, "machine": cpu_name()}


def _versions() -> dict[str, str]:
    found = {"sightline": sightline.__version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in ("torch", "onnx", "onnxruntime")}


def _notes(trial: Trial, precision: Precision, floats: Sequence[str], calibrated: int, judged: Score) -> list[str]:
    found = []
    if floats:
        found.append("the layers in float were chosen on these images, so on new ones the drop may be somewhat larger")
    if calibrated and trial.calibration_split == trial.split:
        found.append("the ranges of values were measured on the same images")
    if precision != "fp32" and judged.interval is not None and math.isclose(*judged.interval, abs_tol=1e-9):
        found.append(
            "the interval says nothing about new images, because the difference is the same in every bootstrap sample; "
            "score the file on more images, or on harder ones"
        )
    return found
