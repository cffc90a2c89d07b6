"""Predict a chunk of images and write its part: what every worker does, in whatever process it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from sightline.deploy.batch.files import Folder, item_of
from sightline.deploy.batch.tables import Part
from sightline.deploy.predict import predict_each
from sightline.errors import InputError
from sightline.models.model import Model

FOLDERS = ("objects", "errors", "images")
"""The folders of a dataset of predictions, in the order in which a part is written."""


def file_of(part: int) -> str:
    """The name of a part's file in each folder."""
    return f"part-{part:06d}.parquet"


@dataclass(frozen=True)
class Settings:
    """What workers need to know of a job; plain values, which can be sent to any process.

    Attributes:
        model: a saved or exported file, or a run's folder.
        out: path or URI of the dataset of predictions.
        threshold, classes, batch_size, device, full_scale, tile, overlap, whole_image: as for `predict`.
        runtime: what runs an exported file.
    """

    model: str
    out: str
    threshold: float
    classes: tuple[str, ...] | None = None
    batch_size: int = 8
    device: str | None = None
    full_scale: int | None = None
    runtime: str | None = None
    tile: int | None = None
    overlap: int | None = None
    whole_image: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """The settings that `to_dict` returned."""
        classes = values["classes"]
        return cls(**{**values, "classes": None if classes is None else tuple(classes)})


@dataclass(frozen=True)
class Chunk:
    """Some images of a job, whose results become one part.

    Attributes:
        part: number of the part.
        names: paths or URIs of the images.
    """

    part: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What became of a chunk.

    Attributes:
        part: number of the part.
        images: number of images predicted.
        objects: number of rows in objects/.
        errors: the reason for each image that could not be predicted.
    """

    part: int
    images: int
    objects: int
    errors: dict[str, str]


def predict_chunk(model: Model, settings: Settings, chunk: Chunk) -> Done:
    """Predict the images of a chunk and write its part.

    The file in images/ is written last: with it, the part is complete. Images that cannot be read are listed in
    errors/.

    Raises:
        InputError: results of the model cannot be written.
    """
    part = Part()
    predictions = predict_each(
        model,
        [item_of(name) for name in chunk.names],
        settings.threshold,
        settings.batch_size,
        settings.device,
        tile=settings.tile,
        overlap=settings.overlap,
        whole_image=settings.whole_image,
        full_scale=settings.full_scale,
        classes=settings.classes,
    )
    for name, prediction in zip(chunk.names, predictions, strict=True):
        if prediction.image is None or prediction.result is None:
            part.fail(name, str(prediction.error))
        else:
            size = (int(prediction.image.shape[-2]), int(prediction.image.shape[-1]))
            part.add(name, size, prediction.result)
    return write_part(Folder(settings.out), chunk.part, part)


def write_part(folder: Folder, number: int, part: Part) -> Done:
    """Write a part of a dataset, in place of what an interrupted attempt has left."""
    from pyarrow import parquet

    tables = part.tables()
    for name in FOLDERS:
        if name in tables:
            table = tables[name]
            folder.write(f"{name}/{file_of(number)}", partial(parquet.write_table, table))
        else:
            folder.remove(f"{name}/{file_of(number)}")
    errors = part.errors.values
    failed = dict(zip(errors.get("source", ()), errors.get("error", ()), strict=True))
    return Done(number, part.images.length, part.objects.length, failed)


def failed_chunk(settings: Settings, chunk: Chunk, error: str) -> Done:
    """Write the part of a chunk whose images cannot be predicted, with the reason."""
    part = Part()
    for name in chunk.names:
        part.fail(name, error)
    return write_part(Folder(settings.out), chunk.part, part)


def load_model(settings: Settings) -> Model:
    """The model of a job.

    Raises:
        InputError: it cannot be loaded.
    """
    from sightline.models.saving import load

    if settings.model.endswith(".onnx"):
        from sightline.deploy.runtimes import open_exported

        return open_exported(settings.model, settings.runtime or "onnxruntime", settings.device)
    if settings.runtime is not None:
        raise InputError(f"{settings.model}: runtime {settings.runtime!r} runs exported files (.onnx); leave it out")
    return load(settings.model)
