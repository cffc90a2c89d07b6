"""Look inside a model: activations, filters, the patches that activate a channel most, and the latent space."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.verbs.opening import ClassesGiven, data_for, load_model
from sightline.words import did_you_mean

if TYPE_CHECKING:
    import torch

    from sightline.explain.activations import Activations
    from sightline.explain.filters import Filters
    from sightline.explain.latent import LatentSpace, Reduction
    from sightline.explain.patches import ChannelPatches
    from sightline.models.model import Model

LOOKS = ("activations", "filters", "patches", "latent")
"""What `look_inside` shows."""
FOLDER = "inside"
"""The folder that `look_inside` writes to by default, in a numbered folder of its own."""


@checked_keywords
def activations(
    model: nn.Module | str | Path,
    image: Any,
    layer: str | None = None,
    *,
    which: int = 0,
    full_scale: int | None = None,
    device: torch.device | str | None = None,
) -> Activations:
    """The activations of a layer for one image; `sightline.report.inside.activation_wall` draws them.

    Args:
        model: a model, a saved file, or a run's folder.
        image: one image, as for `sightline.predict`.
        layer: path of a module, such as "backbone.body.layer2"; by default the layer that explanations use.
        which: which map, from 0, if the layer returns several.
        full_scale: pixel value of white in an image of more than 8 bits, as for `sightline.predict`.
        device: where the model runs; None for the device it is on.

    Raises:
        InputError: the image cannot be read, there is no such layer, or it returns no map.
    """
    return _activations(load_model(model), image, layer, which, full_scale, device)[0]


def _activations(
    model: Model,
    image: Any,
    layer: str | None,
    which: int,
    full_scale: int | None,
    device: torch.device | str | None,
) -> tuple[Activations, torch.Tensor]:
    from sightline.data.facts import full_scale_of
    from sightline.deploy.sources import find_images
    from sightline.deploy.video import require_images
    from sightline.explain.activations import activations as run

    items, _ = find_images(image)
    require_images(model, items)
    pixels = items[0].read(model.in_channels, full_scale_of(model) if full_scale is None else full_scale)
    return run(model, pixels, layer, which=which, device=device), pixels


@checked_keywords
def first_filters(model: nn.Module | str | Path, layer: str | None = None) -> Filters:
    """The filters of a convolution; `sightline.report.inside.filter_wall` draws them.

    Args:
        model: a model, a saved file, or a run's folder.
        layer: path of a convolution; by default the first, which sees the pixels.

    Raises:
        InputError: there is no such layer, or it is not a convolution.
    """
    from sightline.explain.filters import first_filters as run

    return run(load_model(model), layer)


@checked_keywords
def strongest_patches(
    model: nn.Module | str | Path,
    data: Any = None,
    layer: str | None = None,
    *,
    split: str | None = None,
    channels: Sequence[int] | None = None,
    count: int = 8,
    top: int = 9,
    limit: int | None = 1000,
    which: int = 0,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> ChannelPatches:
    """The patches of a data set that activate channels of a layer most; see `sightline.explain.patches`.

    `sightline.report.inside.patch_wall` draws them.

    Args:
        model: a model, a saved file, or a run's folder.
        data: a dataset or its path; by default the data that the model was trained on.
        layer: path of a module; by default the layer that explanations use.
        split: the split to search; None for all images.
        channels: the channels; by default the `count` most active ones.
        count, top: number of channels, and of patches per channel.
        limit: maximum number of images, chosen by `seed`; None for all.
        which: which map, from 0, if the layer returns several.
        classes, open_args, batch_size, device, progress: as for `sightline.evaluate`.
        seed: seed of the choice of images.

    Raises:
        InputError: the data cannot be opened, or there is no such layer, channel or split.
    """
    from sightline.explain.patches import strongest_patches as run

    known = load_model(model)
    return run(
        known,
        _part(data_for(known, model, data, classes, open_args), split),
        layer,
        channels=channels,
        count=count,
        top=top,
        limit=limit,
        which=which,
        batch_size=batch_size,
        seed=seed,
        device=device,
        progress=progress,
    )


@checked_keywords
def latent_space(
    model: nn.Module | str | Path,
    data: Any = None,
    layer: str | None = None,
    *,
    split: str | None = None,
    method: Reduction = "pca",
    limit: int | None = 1000,
    perplexity: float = 30.0,
    which: int = 0,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> LatentSpace:
    """The features of a layer for the images or objects of a data set in two dimensions.

    See `sightline.explain.latent`. `sightline.report.latent.latent_picture` and
    `sightline.report.latent_page.latent_page` draw it. Needs the extra `explain`.

    Args:
        model: a model, a saved file, or a run's folder.
        data: a dataset or its path; by default the data that the model was trained on. Its classes need not be those of
            the model.
        layer: path of a module; by default the layer that explanations use.
        split: the split to show; None for all images.
        method: "pca" for principal components, "tsne" for t-SNE.
        limit: maximum number of images, and of objects, chosen by `seed`; None for all.
        perplexity: of t-SNE.
        which: which map, from 0, if the layer returns several.
        classes, open_args, batch_size, device, progress: as for `sightline.evaluate`.
        seed: seed of the choice of images and of t-SNE.

    Raises:
        InputError: scikit-learn is not installed, the data cannot be opened, or there is no such layer or split.
    """
    from sightline.explain.latent import latent_space as run

    known = load_model(model)
    return run(
        known,
        _part(data_for(known, model, data, classes, open_args), split),
        layer,
        method=method,
        limit=limit,
        perplexity=perplexity,
        which=which,
        batch_size=batch_size,
        seed=seed,
        device=device,
        progress=progress,
    )


def _part(data: Any, split: str | None) -> Any:
    return data if split in (None, "all") else data[split]


@dataclass(frozen=True)
class InsideFolder:
    """What `look_inside` wrote.

    Attributes:
        found: what was found, such as a `LatentSpace`.
        files: the files: a picture, a JSON file, and for the latent space a page.
    """

    found: Any
    files: list[Path]


@checked_keywords
def look_inside(
    model: nn.Module | str | Path,
    data: Any = None,
    what: str = "activations",
    out: str | Path | None = None,
    *,
    layer: str | None = None,
    channels: Sequence[int] | None = None,
    which: int = 0,
    method: Reduction = "pca",
    split: str | None = None,
    limit: int | None = 1000,
    full_scale: int | None = None,
    classes: ClassesGiven | None = None,
    open_args: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> InsideFolder:
    """Write pictures of the inside of a model to a new folder.

    Args:
        model: a model, a saved file, or a run's folder.
        data: for "activations" an image; for "patches" and "latent" a dataset or its path, by default the data that the
            model was trained on; not used for "filters".
        what: "activations", "filters", "patches" or "latent".
        out: the folder, which must not exist or must be empty; by default inside/activations1, inside/activations2, …
        layer: path of a module; by default the layer that explanations use, for filters the first convolution.
        channels: for "activations" and "patches", the channels to draw; by default the most active ones.
        which: which map, from 0, if the layer returns several.
        method: for "latent", "pca" or "tsne".
        full_scale: pixel value of white in images of more than 8 bits; for "patches" and "latent" only together with a
            path.
        split, limit, classes, open_args, seed, progress: for "patches" and "latent", as for `latent_space`.
        device: where the model runs; None for the device it is on.

    Raises:
        InputError: `what` is unknown, the folder is not empty, arguments for data are given with an image, or an error
            of the function that looks.
    """
    from sightline.report import inside
    from sightline.report.latent import latent_picture
    from sightline.report.latent_page import latent_page
    from sightline.training.metrics_log import atomic_write
    from sightline.training.run import new_folder, numbered_folder, removed_if_empty

    if what not in LOOKS:
        repair = did_you_mean(what, LOOKS, f"give one of {', '.join(LOOKS)}")
        raise InputError(f"there is nothing called {what!r} to look at; {repair}")
    if what == "activations" and data is None:
        raise InputError("activations are those of one image; give the path of an image as the data")
    given = {"classes": classes, **(open_args or {}), "split": split}
    unused = [name for name, value in given.items() if value is not None]
    if unused and what in LOOKS[:2]:
        raise InputError(f"{unused[0]} belongs to the data of patches and latent, not to {what}; leave it out")
    known = load_model(model)
    with nullcontext() if out is None else removed_if_empty(new_folder(out, "give another --out")):
        found: Any
        page = None
        if what == "activations":
            found, pixels = _activations(known, data, layer, which, full_scale, device)
            picture = inside.activation_wall(found, pixels, channels=channels)
        elif what == "filters":
            found = first_filters(known, layer)
            picture = inside.filter_wall(found)
        else:
            opened = data_for(known, model, data, classes, {**(open_args or {}), "full_scale": full_scale})
            part = _part(opened, split)
            shared: dict[str, Any] = {"limit": limit, "which": which, "seed": seed}
            shared |= {"device": device, "progress": progress}
            if what == "patches":
                found = strongest_patches(known, part, layer, channels=channels, **shared)
                picture = inside.patch_wall(found, part)
            else:
                found = latent_space(known, part, layer, method=method, **shared)
                picture = latent_picture(found, part)
                page = latent_page(found, part, f"Latent space of {known.title}")
        folder = numbered_folder(FOLDER, what) if out is None else Path(out)
        files = [folder / f"{what}.png", folder / f"{what}.json"]
        with removed_if_empty(folder):
            with atomic_write(files[0]) as path:
                picture.save(path)
            with atomic_write(files[1]) as path:
                path.write_text(json.dumps(found.to_dict(), indent=1), encoding="utf-8")
            if page is not None:
                files.append(folder / f"{what}.html")
                with atomic_write(files[-1]) as path:
                    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    return InsideFolder(found, files)
