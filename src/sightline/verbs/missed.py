"""Why was it missed? The objects that a detector does not find, with the cause of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.detection.detector import Detector
from sightline.models.model import Model
from sightline.verbs.held_out import select_images
from sightline.verbs.labels import for_task
from sightline.verbs.opening import ClassesGiven, data_for, load_model

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from sightline.explain.box_targets import DetectedBox
    from sightline.explain.missed import Missed, MissedObjects


@checked_keywords
def missed_objects(
    model: nn.Module | str | Path,
    data: Any = None,
    split: str | None = None,
    *,
    threshold: float | None = None,
    iou: float = 0.5,
    limit: int | None = None,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> MissedObjects:
    """The labelled objects that a detector misses, with the cause of each; see `sightline.explain.missed`.

    Args:
        model: a detector, a saved file, or a run's folder.
        data, split, classes, open_args, batch_size, device, progress: as for `sightline.evaluate`.
        threshold: minimum score of a detection; by default the score of the highest F1 on the validation images, which
            training saves with the model, else 0.5.
        iou: minimum IoU of a detection and its object.
        limit: maximum number of images; None for all.

    Raises:
        InputError: the model is not a detector or does not expose its candidates, or an error of `sightline.evaluate`.
    """
    return _missed(
        load_model(model), model, data, split, threshold, iou, limit, classes, open_args, batch_size, device, progress
    )[0]


@dataclass(frozen=True)
class MissedFolder:
    """What `explain_missed` wrote.

    Attributes:
        found: the missed objects.
        files: missed.json, missed.html, and a picture per cause.
        notes: remarks on the choice of the images, one sentence each.
    """

    found: MissedObjects
    files: list[Path]
    notes: list[str]


class _HeatMaps:
    """Draws what a detector looked at instead of a missed object: the heat map of the candidate of its record.

    Attributes:
        error: why the last heat map could not be made; None without an error.
    """

    def __init__(self, model: Detector, method: str, device: torch.device | str | None):
        from sightline.explain.methods import method_named

        self.model, self.method, self.device = model, method_named(method), device
        self.drawn: dict[tuple[int, int, int], Image.Image] = {}
        self.error: InputError | None = None

    def __call__(self, missed: Missed, image: torch.Tensor) -> Image.Image | None:
        from sightline.explain.explanation import explain_image
        from sightline.report.drawing import draw

        if missed.row < 0 or missed.origin is None:
            return None
        key = (missed.image, missed.row, missed.class_id)
        try:
            if key not in self.drawn:
                found = explain_image(self.model, image, self.method, self.target(missed), device=self.device)
                self.drawn[key] = draw(image, found, names=False)
            return self.drawn[key]
        except InputError as error:
            self.error = error
            return None

    def target(self, missed: Missed) -> DetectedBox:
        import torch

        from sightline.explain.box_targets import DetectedBox
        from sightline.explain.target import as_box

        region = missed.origin if self.model.scores_regions else None
        frame = None if region is None else self.model.region_frame(torch.tensor(region))
        frame_box = None if frame is None else as_box(frame)
        return DetectedBox(missed.row, missed.class_id, region, missed.level, frame=frame_box)


@checked_keywords
def explain_missed(
    model: nn.Module | str | Path,
    data: Any = None,
    out: str | Path | None = None,
    split: str | None = None,
    *,
    threshold: float | None = None,
    iou: float = 0.5,
    limit: int | None = None,
    method: str | None = "layer_cam",
    count: int = 24,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> MissedFolder:
    """Write to a new folder why objects are missed: a page, a picture per cause, and all records as JSON.

    Args:
        out: the folder, which must not exist or must be empty; by default "missed" in the run's folder, so that the
            run's report shows the causes too (`sightline report RUN`), or else in the current folder.
        method: the explanation method of the heat maps of what the model looked at instead; None for no heat maps.
        count: maximum number of objects shown per cause.
        model, data, split, threshold, iou, limit, classes, open_args, batch_size, device, progress: as for
            `missed_objects`.

    Raises:
        InputError: the folder is not empty, or an error of `missed_objects`.
    """
    from sightline.report.missed import FOLDER, JSON_FILE, PAGE_FILE, missed_page, missed_walls
    from sightline.training.run import new_folder, removed_if_empty

    known = load_model(model)
    run = isinstance(model, str | Path) and Path(model).is_dir()
    folder = new_folder(out or (Path(str(model)) / FOLDER if run else FOLDER))
    with removed_if_empty(folder):
        found, part, notes = _missed(
            known, model, data, split, threshold, iou, limit, classes, open_args, batch_size, device, progress
        )
        heat = _HeatMaps(known, method, device) if method is not None and isinstance(known, Detector) else None
        files = [folder / JSON_FILE, folder / PAGE_FILE]
        files[0].write_text(json.dumps(found.to_dict(), indent=1), encoding="utf-8")
        text = missed_page(found, part, heat, title=f"What {known.title} misses", count=count)
        files[1].write_text(text, encoding="utf-8", errors="backslashreplace")
        for cause, wall in missed_walls(found, part, heat, count=count).items():
            files.append(folder / f"{cause.replace(' ', '_')}.png")
            wall.save(files[-1])
    if heat is not None and heat.error is not None:
        notes = [*notes, f"some or all heat maps are left out: {heat.error}"]
    return MissedFolder(found, files, notes)


def _missed(
    known: Model,
    given: Any,
    data: Any,
    split: str | None,
    threshold: float | None,
    iou: float,
    limit: int | None,
    classes: ClassesGiven | None,
    open_args: Mapping[str, Any] | None,
    batch_size: int,
    device: torch.device | str | None,
    progress: bool,
) -> tuple[MissedObjects, Any, list[str]]:
    """The missed objects, the images, and notes on their choice."""
    from sightline.deploy.thresholds import score_threshold
    from sightline.explain.missed import missed_objects as run

    chosen = select_images(known, for_task(data_for(known, given, data, classes, open_args), known), split)
    found = run(
        known,
        chosen.part,
        threshold=score_threshold(known, threshold),
        iou=iou,
        limit=limit,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    return found, chosen.part, chosen.notes
