"""Explain images: `explain_images` and `explain_to_folder`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.verbs.explained import default_method, target_of
from sightline.verbs.opening import load_model
from sightline.words import counted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sightline.deploy.cameras import GivenCamera
    from sightline.deploy.sources import Item
    from sightline.explain.explanation import Explanation
    from sightline.explain.method import Method
    from sightline.explain.targets import Target
    from sightline.models.model import Model

EXPLANATIONS = "explanations"
"""The folder that contains the output folders if none is given."""
JSON_FILE = "explanations.json"
_LISTED = 20
"""The number of explanations that a summary lists."""
_FLAT = "the same everywhere; try another layer or method"
"""What a summary says of a heat map without a peak."""
_SIDE = 480
"""The longer side of each picture in pixels."""


@dataclass
class ExplainedFolder:
    """A summary of what `explain_to_folder` wrote.

    Attributes:
        folder: the folder.
        explanations: one per image and method, without their heat maps if there are many images.
        pictures: paths of the pictures, one per image, relative to the folder.
        errors: for each image that was left out, the reason in one sentence.
    """

    folder: Path
    explanations: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.folder}: {counted(len(self.pictures), 'picture')} and {JSON_FILE}"]
        for own in self.explanations[:_LISTED]:
            peak, layer = own["peak"], f", layer {own['layer']}" if own["layer"] else ""
            place = f"peak at x {peak[1]}, y {peak[0]}" if peak else _FLAT
            lines.append(f"{own['file_name']}: {own['method']} for {own['target']}{layer}: {place}")
        if len(self.explanations) > _LISTED:
            lines.append(f"and {len(self.explanations) - _LISTED} more, see {JSON_FILE}")
        return "\n".join([*lines, *(f"left out: {sentence}" for sentence in self.errors.values())])


@checked_keywords
def explain_images(
    model: nn.Module | str | Path,
    source: Any,
    *,
    methods: str | Method | Sequence[str | Method] | None = None,
    target: str | Target | None = None,
    layer: str | None = None,
    samples: int | None = None,
    baseline: str | None = None,
    seed: int = 0,
    batch_size: int = 16,
    device: torch.device | str | None = None,
    progress: bool = False,
    full_scale: int | None = None,
    camera: GivenCamera | None = None,
) -> list[Explanation]:
    """Explain what a model sees in images: heat maps in pixels of the images.

    Args:
        model: a model, a saved file, or a run's folder. It comes back as it was.
        source: the images, as for `predict`.
        methods: names of methods (`sightline.explain.methods.METHODS`), also in one text ("grad_cam,rise"), or methods
            with settings of their own; by default Grad-CAM, and Layer-CAM for detectors, whose Grad-CAM also shows
            other objects of the class.
        target: what is explained: a target (`sightline.explain.targets`), or its text, such as "dog", "box:0" or
            "class:road"; by default the best class or object of each image.
        layer: path of a layer of the model, for the methods that need one; by default the model's default layer.
        samples: number of changed copies, masks, steps or channels of the methods given by name that have it.
        baseline: what replaces removed pixels: "zero", "mean" or "blur".
        seed: seed of the random choices.
        batch_size: changed copies per batch.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.
        full_scale: pixel value of white in images of more than 8 bits, as for `predict`.
        camera: for models of cuboids and meshes, the camera of the images, as for `predict`.

    Returns:
        One explanation per image and method, in this order. Images of a folder, pattern or list that cannot be read,
        or do not have the target, are left out with a warning.

    Raises:
        InputError: a method, target or layer does not exist, no image can be explained, or the camera is none.
    """
    from sightline.deploy.cameras import with_given_cameras
    from sightline.deploy.sources import find_images
    from sightline.deploy.video import require_images

    known = load_model(model)
    chosen = chosen_methods(known, methods, layer, samples, baseline, seed, batch_size, progress)
    items = with_given_cameras(find_images(source)[0], camera, known)
    require_images(known, items)
    found: list[Explanation] = []
    errors: dict[str, str] = {}
    with closing(_explained(known, items, chosen, target, layer, device, progress, full_scale)) as each:
        for explained in each:
            found += explained.explanations
            errors |= {str(explained.item.name): str(explained.error)} if explained.error is not None else {}
    if errors:
        warnings.warn(
            f"{len(errors)} of {counted(len(items))} are left out: {'; '.join(list(errors.values())[:3])}", stacklevel=2
        )
    return found


@checked_keywords
def explain_to_folder(
    model: nn.Module | str | Path,
    source: Any,
    out: str | Path | None = None,
    *,
    methods: str | Method | Sequence[str | Method] | None = None,
    target: str | Target | None = None,
    layer: str | None = None,
    samples: int | None = None,
    baseline: str | None = None,
    seed: int = 0,
    batch_size: int = 16,
    device: torch.device | str | None = None,
    progress: bool = False,
    full_scale: int | None = None,
    camera: GivenCamera | None = None,
) -> ExplainedFolder:
    """Explain images as `explain_images` does, and write a picture per image and explanations.json to a new folder.

    Args:
        model: a model, a saved file, or a run's folder.
        source: the images, as for `predict`.
        out: the folder, which must not exist or must be empty; by default explanations/explain1, explain2, …
        methods, target, layer, samples, baseline, seed, batch_size, device, progress, full_scale, camera: as for
            `explain_images`.

    Returns:
        A summary of what was written.

    Raises:
        InputError: as for `explain_images`, or `out` is not empty.
    """
    from sightline.deploy.cameras import with_given_cameras
    from sightline.deploy.folder import relative_paths
    from sightline.deploy.sources import find_images
    from sightline.deploy.video import require_images
    from sightline.report.drawing import draw_explanations
    from sightline.training.metrics_log import atomic_write
    from sightline.training.run import new_folder, numbered_folder, removed_if_empty

    known = load_model(model)
    chosen = chosen_methods(known, methods, layer, samples, baseline, seed, batch_size, progress)
    items = with_given_cameras(find_images(source)[0], camera, known)
    require_images(known, items)
    done: ExplainedFolder | None = None
    paths, errors = relative_paths(items), {}
    with closing(_explained(known, items, chosen, target, layer, device, progress, full_scale)) as each:
        for path, explained in zip(paths, each, strict=True):
            if explained.image is None or explained.error is not None:
                errors[str(explained.item.name)] = str(explained.error)
                continue
            if done is None:  # the folder is made when there is something to write
                folder = (
                    numbered_folder(EXPLANATIONS, "explain") if out is None else new_folder(out, "give another --out")
                )
                done = ExplainedFolder(folder)
            place = path.with_suffix(".png")
            while place.as_posix() in done.pictures:  # photo.jpg and photo.png
                place = place.with_stem(f"{place.stem}-2")
            with removed_if_empty(done.folder):
                (done.folder / place).parent.mkdir(parents=True, exist_ok=True)
                draw_explanations(explained.image, explained.explanations, size=_SIDE).save(done.folder / place)
            done.pictures.append(place.as_posix())
            done.explanations += [{"file_name": path.as_posix(), **own.to_dict()} for own in explained.explanations]
    assert done is not None  # otherwise _explained has raised an error
    done.errors = errors
    content = json.dumps({"explanations": done.explanations}, ensure_ascii=False, indent=1)
    with atomic_write(done.folder / JSON_FILE) as file:
        file.write_text(content, encoding="utf-8")
    return done


@dataclass(frozen=True)
class _Explained:
    """The explanations of one image, or why there are none."""

    item: Item
    image: Tensor | None = None
    explanations: Sequence[Explanation] = ()
    error: InputError | None = None


def _explained(
    model: Model,
    items: list[Item],
    methods: Sequence[Method],
    target: str | Target | None,
    layer: str | None,
    device: torch.device | str | None,
    progress: bool,
    full_scale: int | None,
) -> Generator[_Explained]:
    """Explain images one by one.

    Raises:
        InputError: the first error, if no image can be explained.
    """
    from sightline.data.facts import full_scale_of
    from sightline.deploy.sources import common_scale
    from sightline.explain.explanation import explain_image
    from sightline.explain.hooks import unchanged
    from sightline.progress import progress_bar

    scale = common_scale(items, full_scale if full_scale is not None else full_scale_of(model))
    first: InputError | None = None
    failed = 0
    outer = progress and not any(getattr(method, "progress", False) for method in methods)  # or they show a bar
    with unchanged(model, device) as place, progress_bar(len(items), "explaining", outer) as advance:
        for item in items:
            image = None
            try:
                image = item.read(model.in_channels, scale, model.takes_cameras).to(place)
                what = target_of(model, image, target)
                own = [explain_image(model, image, method, what, layer, source=item.name) for method in methods]
                yield _Explained(item, image, own)
            except InputError as error:
                first, failed = first or error, failed + 1
                if failed == len(items):
                    raise (
                        first
                        if len(items) == 1
                        else InputError(f"none of the {len(items)} images can be explained; the first: {first}")
                    ) from None
                yield _Explained(item, image, error=error)
            advance(1)


def chosen_methods(
    model: Model,
    methods: str | Method | Sequence[str | Method] | None,
    layer: str | None,
    samples: int | None,
    baseline: str | None,
    seed: int,
    batch_size: int,
    progress: bool,
) -> list[Method]:
    """The methods; those given by name with the settings that they have. None stands for the default of the model.

    Raises:
        InputError: a method does not exist, or no method has a setting that is given or needs the layer.
    """
    from sightline.explain.method import Method
    from sightline.explain.methods import METHODS, method_named, settings_of

    if methods is None:
        methods = default_method(model)
    if isinstance(methods, str):
        methods = [name.strip() for name in methods.split(",") if name.strip()]
    names = [methods] if isinstance(methods, Method) else list(methods) if isinstance(methods, Sequence) else []
    if not all(isinstance(name, str | Method) for name in names) or not names:
        raise InputError(f"methods is {methods!r}, but must be one or several of {', '.join(METHODS)}")
    given: dict[str, Any] = {"samples": samples, "baseline": baseline}
    settings: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "progress": progress}
    settings |= {name: value for name, value in given.items() if value is not None}
    chosen: list[Method] = []
    used: set[str] = set()
    for name in names:
        if isinstance(name, Method):
            chosen.append(name)
            continue
        own = {key: value for key, value in settings.items() if key in settings_of(method_named(name))}
        chosen.append(method_named(name, **own))
        used |= set(own)
    if layer is not None and not any(method.needs_layer for method in chosen):
        having = [key for key, method in METHODS.items() if method.needs_layer]
        raise InputError(f"layer is {layer!r}, but only {', '.join(having)} explain the maps of a layer; leave it out")
    for name, value in given.items():
        if value is not None and name not in used:
            having = [key for key, method in METHODS.items() if name in settings_of(method)]
            raise InputError(f"{name} is {value!r}, but only {', '.join(having)} have this setting; leave it out")
    return chosen
