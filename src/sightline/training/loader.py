"""Make batches from a dataset: the order of the images, their augmentation, and the transfer between processes.

All randomness is a pure function of the seed, the epoch and the image's index. A run can therefore be resumed anywhere,
and the number of worker processes has no effect on the result.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.data.joint import JointData
from sightline.data.transforms.base import Augmentation, FunctionTransform, Transform, as_transform
from sightline.data.transforms.mosaic import CachedSamples
from sightline.data.transforms.objects import objects_within
from sightline.data.transforms.targets import within_image
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.runtime.sharing import Share
from sightline.structures import Classes, Instances, Size, Target

Item = tuple[int, ...]
"""How the loader asks for an image: epoch, index, and optionally True for closed augmentation (see `EpochBatches`)."""


class Items(Protocol):
    """The dataset interface that training needs."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]: ...


@singledispatch
def trainable(target: Any) -> Any:
    """Remove what a detector cannot learn from: crowd regions, and boxes without area inside the image.

    Boxes are clipped to the image; see `within_image`. A crowd region is not an object, and a box of zero width or
    height has an IoU of zero with every box and log-sizes of minus infinity. Other types of target are returned
    unchanged.
    """
    return target


@trainable.register
def _(target: Instances) -> Instances:
    target = objects_within(target)
    if "boxes" not in target or not len(target):
        return target
    boxes = target.boxes
    keep = (boxes[:, 2:] > boxes[:, :2]).all(1)
    if "crowd" in target:
        keep &= ~target.crowd
    return target if bool(keep.all()) else target[keep]


class EpochBatches(Sampler[list[Item]]):
    """Batch sampler whose order is a pure function of the seed and the epoch.

    Each item is a pair (epoch, index); the epoch is part of the item because worker processes outlive the epochs. The
    last batch may be smaller. A last batch of a single image is skipped in that epoch (another image is skipped in the
    next), because batch norm cannot compute statistics of a 1 × 1 map of one image and computes poor ones of one image.

    Several processes share each batch: it has `batch_size` images per process, and is the batch that a single process
    with `processes` times the batch size would have. The parts of a smaller last batch differ by at most one image; a
    last batch of less than two images per process is skipped.

    Args:
        length: number of images in the dataset.
        batch_size: images per batch and process.
        seed: seed of the order.
        shuffle: False keeps the dataset's order and all images.
        processes: number of processes that share the batches.
        index: number of this process.

    Attributes:
        closing: called with an epoch and a batch; returns True once the augmentation is closed (the last part of the
            training). The items of such a batch are triples (epoch, index, True).
    """

    drop_last = False
    closing: Callable[[int, int], bool] | None = None

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        processes: int = 1,
        index: int = 0,
    ):
        self.length, self.batch_size, self.seed, self.shuffle = length, batch_size, seed, shuffle
        self.processes, self.index = processes, index
        self.epoch = self.first = 0
        whole, rest = divmod(length, self.whole)
        lonely = shuffle and rest < 2 * processes and whole > 0
        self.count = whole + (1 if rest and not lonely else 0)

    @property
    def whole(self) -> int:
        """Number of images of a full batch in all processes."""
        return self.batch_size * self.processes

    def positions(self, batch: int) -> range:
        """The positions in the order whose images this process takes of a batch; empty if none is left for it."""
        first = batch * self.whole
        total = min(self.whole, self.length - first)
        part, parts = self.index, self.processes
        return range(first + total * part // parts, first + total * (part + 1) // parts)

    def share(self, batch: int) -> Share:
        """The part of a batch that this process takes."""
        return Share(len(self.positions(batch)), min(self.whole, self.length - batch * self.whole))

    def begin(self, epoch: int, first: int = 0) -> None:
        """Start the next iteration at batch `first` of `epoch`."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return self.count - self.first

    def __iter__(self) -> Iterator[list[Item]]:
        order: list[int] = list(range(self.length))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length).tolist()
        for batch in range(self.first, self.count):
            closed = (True,) if self.closing is not None and self.closing(self.epoch, batch) else ()
            # without an image of its own, the process computes the first of the batch, whose loss then has weight 0
            own = self.positions(batch) or range(batch * self.whole, batch * self.whole + 1)
            yield [(self.epoch, i, *closed) for i in order[own.start : own.stop]]


class Samples(Dataset[Any]):
    """Dataset that returns one augmented image with its target for each `Item`.

    The augmentation is bound to the dataset. Where the item asks for it, its `closed()` form is used instead. Images
    that were read from files are kept in memory, up to a limit, unless the augmentation is a function of the user's,
    which might change them in place.

    An `InputError` is returned, not raised: raised in a worker process, it would reach the user wrapped in the
    traceback of another process. The batch raises it in the main process.
    """

    def __init__(self, data: Items, transform: Augmentation | None = None, seed: int = 0, size: Size | None = None):
        bound: Transform | None = None
        if transform is not None:
            whole = as_transform(transform)
            files = getattr(data, "root", None) is not None
            if whole.combines or (files and not isinstance(whole, FunctionTransform)):
                data = CachedSamples(data)  # reading a file takes up to half of the time that an image takes here
            bound = whole.bind(data, size)
        self.data, self.seed, self.transform = data, seed, bound
        self.closed = None if bound is None else bound.closed()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, item: Item) -> tuple[Tensor, Target] | InputError:
        epoch, index, *closed = item
        transform = self.closed if closed else self.transform
        try:
            image, target = self.data[index]
            if transform is not None:
                image, target = transform(image, within_image(target), np.random.default_rng([self.seed, epoch, index]))
            return image, trainable(target)
        except InputError as error:
            return error


class Batch:
    """Images of different sizes with their targets, on the way from a worker process to the device.

    Targets are pickled: each tensor sent separately would keep a file descriptor open, and a few hundred small tensors
    in the queue would exceed the usual limit of 1024 per process.
    """

    def __init__(self, samples: list[tuple[Tensor, Target] | InputError], packed: bool):
        self.error: InputError | None = None
        self.images: list[Tensor] = []
        targets: list[Target] = []
        for sample in samples:
            if isinstance(sample, InputError):
                self.error = self.error or sample
            else:
                self.images.append(sample[0])
                targets.append(sample[1])
        self.targets: list[Target] | bytes = pickle.dumps(targets) if packed else targets

    def pin_memory(self) -> Batch:
        """Pin the images' memory; the loader calls this so that copies to a GPU overlap with computation."""
        self.images = [image.pin_memory() for image in self.images]
        return self

    def to(self, device: torch.device | str, non_blocking: bool = False) -> tuple[list[Tensor], list[Target]]:
        """Unpack the batch onto `device`; returns images and targets.

        Raises:
            InputError: an image or a label of the batch could not be read.
        """
        if self.error is not None:
            raise self.error
        targets: list[Target] = pickle.loads(self.targets) if isinstance(self.targets, bytes) else self.targets
        if torch.device(device).type != "cpu":
            targets = [target.to(device) for target in targets]
        return [image.to(device, non_blocking=non_blocking) for image in self.images], targets


class _Collate:
    def __init__(self, packed: bool):
        self.packed = packed

    def __call__(self, samples: list[tuple[Tensor, Target] | InputError]) -> Batch:
        return Batch(samples, self.packed)


one_process_collate = _Collate(packed=False)
"""Makes batches in the process that uses them."""


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the main process handles it
    torch.set_num_threads(1)


@contextmanager
def worker_errors() -> Iterator[None]:
    """Turn PyTorch's RuntimeError about a killed worker process into an `InputError`."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        why = " ".join(str(error).split())[:160]
        raise InputError(
            f"a process that reads images was killed, possibly because memory ran out ({why}); use fewer workers, or "
            "workers=0, and resume the run"
        ) from error


def worker_count(data: Items, asked: int | None) -> int:
    """Number of worker processes: `asked`; by default 0 for data in memory, else one less than the cores, at most 2."""
    if asked is not None:
        return asked
    if getattr(data, "root", None) is None:
        return 0
    return max(0, min(2, (os.cpu_count() or 1) - 1))


def make_loader(
    data: Items,
    order: EpochBatches,
    transform: Augmentation | None = None,
    workers: int | None = None,
    pin_memory: bool = False,
    persistent: bool = True,
    size: Size | None = None,
) -> DataLoader[Any]:
    """Create a loader of `Batch` objects in the given order.

    Args:
        data: a dataset of images with targets.
        order: the batch sampler; its seed is also that of the augmentation.
        transform: augmentation, or None.
        workers: number of worker processes; see `worker_count`.
        pin_memory: keep images in page-locked memory (for a GPU).
        persistent: keep the worker processes between epochs.
        size: (height, width) at which the model sees images, for augmentations that combine several images.
    """
    count = worker_count(data, workers)
    return DataLoader(
        Samples(data, transform, order.seed, size),
        batch_sampler=order,
        collate_fn=_Collate(packed=count > 0),
        num_workers=count,
        worker_init_fn=_start_worker,
        persistent_workers=persistent and count > 0,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # separate, so that starting an epoch draws nothing from the model's generator
    )


def require_fitting(model: Model, data: Items, validation: Items | None) -> None:
    """Check that data has images, and the classes and channels of the model.

    Raises:
        InputError: the data is empty or does not fit; the message names the dataset and the difference.
    """
    for items, name in ((data, "the training set"), (validation, "the validation set")):
        if items is None:
            continue
        if len(items) == 0:
            raise InputError(f"{name} holds no images; choose other data or another split")
        if isinstance(items, JointData) and not model.takes_labels:
            raise InputError(
                f"{name} has images with boxes and images with class labels only, which this model cannot learn from; "
                "use YOLO9000, or only the images with boxes"
            )
        theirs = getattr(items, "classes", None)
        if model.classes and isinstance(theirs, Classes):
            model.classes.require_same(theirs, "the model", name)
        channels, image = model.in_channels, items[0][0]
        if image.shape[0] != channels:
            raise InputError(
                f"the first image of {name} has {image.shape[0]} channels, but the model takes {channels}; "
                f"make the model with in_channels={image.shape[0]}, or convert the images"
            )
