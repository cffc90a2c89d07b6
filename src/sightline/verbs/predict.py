"""Predict images: `predict` and `predict_to_folder`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.verbs.opening import load_model

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from sightline.data.frames import VideoSource
    from sightline.deploy.batch.job import PredictedParquet
    from sightline.deploy.cameras import GivenCamera
    from sightline.deploy.folder import PredictedFolder
    from sightline.deploy.predict import Predictions
    from sightline.deploy.sources import Item
    from sightline.deploy.video import PredictedFrame


@checked_keywords
def predict(
    model: nn.Module | str | Path,
    source: Any,
    *,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    whole_image: bool = True,
    full_scale: int | None = None,
    camera: GivenCamera | None = None,
) -> Any:
    """Predict one image or several; see `sightline.deploy.predict.predict`.

    Args:
        model: a model, a saved file, or a run's folder.
        source: a path, a folder, a glob pattern, a PIL image, an array, a tensor, the bytes of an image file, an open
            file, a dataset, or a list of these.
        threshold: minimum score of objects; by default the score of the highest F1 on the validation images, which
            training saves with the model, else 0.5.
        classes: names of the classes to keep; None for all.
        batch_size: images per batch.
        device: where the model runs; None for the device it is on.
        progress: show a progress bar if stderr is a terminal.
        tile: for class maps and objects: predict in square tiles of this many pixels, for images too large, or with
            objects too small, to be predicted at once.
        overlap: pixels shared by neighbouring tiles; by default 64, or a quarter of a small tile.
        whole_image: with tiles, also predict the whole image, to find objects larger than a tile.
        full_scale: pixel value of white in images of more than 8 bits; by default that of the training images, else
            estimated from the images.
        camera: for models of cuboids and meshes, the camera of the images: "focal=900" (pixels), a [3, 3] matrix, or a
            JSON file; see `sightline.deploy.cameras.with_given_cameras`.

    Returns:
        The result for a single image; otherwise a list of results.
    """
    from sightline.deploy.predict import predict as run

    known = load_model(model)
    if videos := _videos(known, source):
        raise InputError(
            f"{videos[0].name} is a video, but {known.title} predicts images; use sightline.predict_video for its "
            "frames"
        )
    return run(
        known,
        source,
        threshold=threshold,
        classes=classes,
        batch_size=batch_size,
        device=device,
        progress=progress,
        tile=tile,
        overlap=overlap,
        whole_image=whole_image,
        full_scale=full_scale,
        camera=camera,
    )


@checked_keywords
def predict_to_folder(
    model: nn.Module | str | Path,
    source: Any,
    out: str | Path | None = None,
    *,
    draw: Callable[..., Image.Image] | None = None,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    save: str | Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    progress: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    whole_image: bool = True,
    full_scale: int | None = None,
    camera: GivenCamera | None = None,
    every: int = 1,
    track: bool = False,
) -> PredictedFolder:
    """Write the predictions for images to a new folder; see `sightline.deploy.folder.predict_to_folder`.

    Video files are predicted frame by frame, unless the model predicts whole videos; see
    `sightline.deploy.video_folder.predict_videos_to_folder`.

    Args:
        model: a model, a saved file, or a run's folder. Its task decides which files are written.
        source: the images, as for `predict`.
        out: the folder, which must not exist or must be empty; by default predictions/predict1, predict2, …
        draw: draws an image and its result, such as `sightline.draw`; None for no drawings.
        save: formats of the predictions, which replace the default "json": "json", "csv" or, for objects and class
            maps, "yolo".
        threshold, classes, batch_size, device, progress, tile, overlap, whole_image, full_scale, camera: as for
            `predict`.
        every: for videos: predict the first of each `every` frames.
        track: for videos: number the objects, so that each keeps its number from frame to frame.

    Returns:
        A summary of the files written and the images that could not be read.

    Raises:
        InputError: predictions of the model's task cannot be written to files, no image was found or can be read, or
            `out` is not empty.
    """
    from sightline.deploy.folder import predict_to_folder as run
    from sightline.deploy.predict import require_tile
    from sightline.deploy.video_folder import predict_videos_to_folder
    from sightline.tasks import TASKS

    known = load_model(model)
    videos = _videos(known, source)
    if videos:
        if camera is not None:
            raise InputError("the frames of videos are predicted without a camera; leave camera out, or give images")
        if tile is not None:
            raise InputError("the frames of videos are not predicted in tiles; leave tile out, or give images")
        require_tile(tile, overlap, whole_image)
        if full_scale is not None:
            raise InputError("the frames of videos have 8 bits; leave full_scale out, or give images")
        return predict_videos_to_folder(
            known,
            videos,
            out,
            draw=draw,
            every=every,
            track=track,
            threshold=threshold,
            classes=classes,
            save=save,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    if every != 1 or track:
        raise InputError("every and track are for videos and models of images; leave them out")
    name = known.task
    task = TASKS.get(name) if name else next(iter(TASKS.values()))
    if task is None or task.writer is None:
        raise InputError(
            f"predictions of task {name!r} cannot be written to files; use the results of sightline.predict(model, "
            "images) instead"
        )
    return run(
        known,
        source,
        out,
        writer=task.writer,
        draw=draw,
        threshold=threshold,
        classes=classes,
        save=save,
        batch_size=batch_size,
        device=device,
        progress=progress,
        tile=tile,
        overlap=overlap,
        whole_image=whole_image,
        full_scale=full_scale,
        camera=camera,
    )


@checked_keywords
def predict_video(
    model: nn.Module | str | Path,
    source: VideoSource,
    *,
    every: int = 1,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    track: bool = False,
    batch_size: int = 8,
    device: torch.device | str | None = None,
) -> Generator[PredictedFrame, None, None]:
    """Predict a video, a camera or a stream frame by frame; see `sightline.deploy.video.predict_video`.

    Args:
        model: a model of images, a saved file, or a run's folder.
        source: a video file; the number of a camera, from 0; or an address such as "rtsp://camera/live".
        every: predict the first of each `every` frames.
        threshold, classes, device: as for `predict`.
        track: number the objects, so that each keeps its number from frame to frame (the field `tracks`).
        batch_size: frames per batch, for files.

    Yields:
        (time in seconds, frame [3, H, W] uint8, result, number of the frame).
    """
    from sightline.deploy.video import predict_video as run

    return run(
        load_model(model),
        source,
        every=every,
        threshold=threshold,
        classes=classes,
        track=track,
        batch_size=batch_size,
        device=device,
    )


def _videos(model: nn.Module, source: Any) -> list[Item]:
    """The video files among what a user gives to a model of images; empty for a model of videos.

    Raises:
        InputError: there are videos and images.
    """
    from sightline.data.videos import is_video
    from sightline.deploy.sources import find_images
    from sightline.deploy.video import takes_videos

    named = source if isinstance(source, list | tuple) else [source]
    if takes_videos(model) or not all(isinstance(one, str | Path) for one in named):
        return []
    items, _ = find_images(source, tell=False)
    videos = [item for item in items if isinstance(item.image, Path) and is_video(item.image)]
    others = [item for item in items if item not in videos]
    if videos and others:
        raise InputError(
            f"{videos[0].name} is a video, but {others[0].name} is an image; predict them one after the other"
        )
    return videos


@checked_keywords
def predict_to_parquet(
    model: nn.Module | str | Path,
    source: Any,
    out: str | Path,
    *,
    threshold: float | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 8,
    device: torch.device | str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    whole_image: bool = True,
    full_scale: int | None = None,
    runtime: Literal["onnxruntime", "openvino"] | None = None,
    engine: Literal["process", "ray"] = "process",
    workers: int = 1,
    part_size: int | None = None,
    progress: bool = False,
) -> PredictedParquet:
    """Write the predictions for many images as Parquet, by several workers; repeated, it continues where it stopped.

    See `sightline.deploy.batch.job.predict_to_parquet`.

    Args:
        model: a saved or exported file, or a run's folder; with one worker also a model.
        source: paths, folders or patterns, on this machine or as URIs (s3://bucket/folder), or a list of these.
        out: path or URI of the folder. Images that it has already are left out.
        threshold, classes, batch_size, device, tile, overlap, whole_image, full_scale: as for `predict`.
        runtime: what runs an exported file; "onnxruntime" by default.
        engine: "process", processes on this machine; or "ray", Ray Data, on the machines of a Ray cluster.
        workers: number of processes, each with its own model.
        part_size: images per part; by default up to 1000, such that each worker has several parts.
        progress: show a progress bar if stderr is a terminal.

    Returns:
        A summary of what was written, and the images that could not be predicted.

    Raises:
        InputError: no image was found, an argument or the model does not fit, or the folder holds something else.
    """
    from sightline.deploy.batch.job import predict_to_parquet as run

    return run(
        model,
        source,
        out,
        threshold=threshold,
        classes=classes,
        batch_size=batch_size,
        device=device,
        tile=tile,
        overlap=overlap,
        whole_image=whole_image,
        full_scale=full_scale,
        runtime=runtime,
        engine=engine,
        workers=workers,
        part_size=part_size,
        progress=progress,
    )


@checked_keywords
def read_predictions(path: str | Path) -> Predictions:
    """Read the results that `predict_to_parquet` has written.

    Args:
        path: path or URI of the folder.

    Returns:
        One result per image, as `predict` returns it, without the probability maps of class maps. `.errors` has the
        reason for each image that could not be predicted.

    Raises:
        InputError: the folder has no predictions, or they cannot be read.
    """
    from sightline.deploy.batch.reading import read_predictions as run

    return run(path)
