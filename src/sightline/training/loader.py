"""From a dataset to batches: the order of images, the augmentation of each, and the packing between processes.

Everything random here is a pure function of the seed, the epoch and the image's position, so that a run can be resumed
anywhere, and the number of worker processes changes nothing.
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
from sightline.data.transforms.base import Augmentation, Transform, as_transform
from sightline.data.transforms.mosaic import Remembered
from sightline.data.transforms.objects import objects_within
from sightline.data.transforms.targets import within_image
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.structures import Classes, Instances, Size, Target

Item = tuple[int, ...]
"""What a batch is asked by: epoch and position of an image, and whether its augmentation is closed (`EpochBatches`)."""


class Items(Protocol):
    """What training needs of a dataset."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]: ...


@singledispatch
def trainable(target: Any) -> Any:
    """The target without what teaches a detector nothing: crowd regions, and boxes without area in the image.

    Boxes are clipped to the image; see `within_image`. A crowd region is no object, and a box of zero width or height
    has an IoU of zero with everything and log-sizes of minus infinity. Other types of target come back as they are.
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
    """Batches of (epoch, position) pairs, in an order that is a pure function of the seed and the epoch.

    The epoch travels with each position, for worker processes outlive the epochs. The last batch may be smaller. One
    that would hold a single image is left out of that epoch (another image is left out in the next): batch norm has
    no statistics over one image's 1 × 1 map, and poor ones over one image.

    Args:
        length: images of the dataset.
        batch_size: images a batch.
        seed: of the order.
        shuffle: False keeps the dataset's order and every image.

    Attributes:
        closing: tells, of an epoch and a batch, whether the augmentation of its images is the one for the training's
            last part; such an image is a triple (epoch, position, True).
    """

    drop_last = False
    closing: Callable[[int, int], bool] | None = None

    def __init__(self, length: int, batch_size: int, seed: int = 0, shuffle: bool = True):
        self.length, self.batch_size, self.seed, self.shuffle = length, batch_size, seed, shuffle
        self.epoch = self.first = 0
        whole, rest = divmod(length, batch_size)
        lonely = shuffle and rest == 1 and whole > 0
        self.count = whole + (1 if rest and not lonely else 0)

    def begin(self, epoch: int, first: int = 0) -> None:
        """Make the next iteration give the batches of `epoch` from the batch `first` on."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return self.count - self.first

    def __iter__(self) -> Iterator[list[Item]]:
        order: list[int] = list(range(self.length))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length).tolist()
        for batch in range(self.first, self.count):
            closed = (True,) if self.closing is not None and self.closing(self.epoch, batch) else ()
            yield [(self.epoch, i, *closed) for i in order[batch * self.batch_size : (batch + 1) * self.batch_size]]


class Samples(Dataset[Any]):
    """One augmented image with its target for each `Item`; what fails is handed on, not raised.

    The augmentation is bound to the data set, and replaced by what its `closed()` gives where the item says so.

    An error raised inside a worker process would reach the user wrapped in a traceback of another process, so the batch
    carries it home.
    """

    def __init__(self, data: Items, transform: Augmentation | None = None, seed: int = 0, size: Size | None = None):
        bound: Transform | None = None
        if transform is not None:
            whole = as_transform(transform)
            if whole.combines:
                data = Remembered(data)  # each image is wanted several times an epoch
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
    """Images of their own sizes with their targets, on the way from a worker process to the device.

    Targets travel pickled: each tensor sent on its own would keep a file descriptor open, and a few hundred small ones
    in the queue exhaust a process's usual limit of 1024.
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
        """Called by the loader where copies to a GPU shall overlap with its work."""
        self.images = [image.pin_memory() for image in self.images]
        return self

    def to(self, device: torch.device | str, non_blocking: bool = False) -> tuple[list[Tensor], list[Target]]:
        """Unpack onto `device`: images and targets.

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


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process decides
    torch.set_num_threads(1)


@contextmanager
def worker_errors() -> Iterator[None]:
    """Within it, the end of a process that reads images is an `InputError`; PyTorch's own is a `RuntimeError`."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        why = " ".join(str(error).split())[:160]
        raise InputError(
            f"a process that reads images was ended from outside, for want of memory perhaps ({why}); "
            "give workers=0 or fewer, and resume the run"
        ) from error


def worker_count(data: Items, asked: int | None) -> int:
    """Processes that read images: as asked, or none for a set in memory, else the cores but one, two at most."""
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
    """A loader of `Batch` objects in the order given.

    Args:
        data: images with targets.
        order: the batches; its seed is the augmentation's, too.
        transform: augmentation, or None.
        workers: see `worker_count`.
        pin_memory: keep images in page-locked memory (with a GPU).
        persistent: keep the worker processes from epoch to epoch.
        size: (height, width) that the model sees images at, for augmentations that make images of several.
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
        generator=torch.Generator(),  # its own, so that starting an epoch draws nothing from the model's stream
    )


def require_fitting(model: Model, data: Items, validation: Items | None) -> None:
    """Refuse data that holds no images, or is of other classes or channels than the model.

    Raises:
        InputError: naming the set and the difference.
    """
    for items, name in ((data, "the training set"), (validation, "the validation set")):
        if items is None:
            continue
        if len(items) == 0:
            raise InputError(f"{name} holds no images; give one that does, or another split")
        if isinstance(items, JointData) and not model.takes_labels:
            raise InputError(
                f"{name} holds images with boxes and images with labels alone, which this model cannot learn from; "
                "take YOLO9000, or the images with boxes alone"
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
