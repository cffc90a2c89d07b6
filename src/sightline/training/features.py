"""Train on cached features: the frozen part of a network runs once per image and view, the rest learns from the result.

As R-CNN caches the features of its proposals, but for every model whose backbone is a sequence of layers: the outputs
of the frozen layers (`sightline.models.trunk`) of a few fixed views of each image are computed before the training, and
take the place of these layers in each step. Steps of a classifier with a frozen backbone take milliseconds.

Departures from a training run that computes them in each step: there are as many views as asked for, not a new one in
each epoch; images of different sizes are padded after the frozen layers instead of before them; dropout between a
frozen classification network and its last layer has no effect; auxiliary heads have no losses.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sightline.data.transforms.base import Augmentation
from sightline.errors import InputError
from sightline.models.model import Losses, Model
from sightline.models.trunk import Trunk, joined_values
from sightline.structures import ImageBatch, Target
from sightline.training.loader import EpochBatches, Item, Items, make_loader, one_process_collate

ROOM = 1 << 30
"""Bytes of features that are kept in memory; the others are read from the file in each epoch."""


@dataclass(frozen=True)
class Entry:
    """A view of an image as the trainable part of a model takes it.

    Attributes:
        values: outputs of the frozen layers, [1, …] each.
        batch: the prepared batch of this image alone, whose tensor has no pixels.
        prepared: its target, as `Model.prepare` returns it.
        target: the target itself.
    """

    values: Mapping[str, Tensor]
    batch: ImageBatch
    prepared: Sequence[Any]
    target: Target


class CachedFeatures:
    """The features of the views of a dataset's images, in memory and, beyond `room` bytes, in a file.

    Several processes compute those of different images. Each reads those of the others from their files.

    Args:
        trunk: the frozen layers.
        file: the file to create.
        length: number of images.
        room: see `ROOM`.
    """

    def __init__(self, trunk: Trunk, file: Path, length: int, room: int = ROOM):
        self.trunk, self.file, self.length, self.room = trunk, file, length, room
        self.size = 0
        self._held = 0
        self._kept: dict[int, Entry] = {}
        self._places: dict[int, tuple[str, int]] = {}  # file and offset by the number of the entry
        self._readers: dict[str, BinaryIO] = {}
        file.write_bytes(b"")  # a process that was killed may have left one

    @property
    def views(self) -> int:
        """Number of views of each image."""
        return len(self._places) // self.length

    @torch.no_grad()
    def compute(self, model: Model, loader: Any, order: EpochBatches, accelerator: Any) -> None:
        """Add one view of every image.

        Args:
            model: the model on its device; its mode is restored.
            loader: batches of this process's images, in the order.
            order: decides which images these are; not shuffled.
            accelerator: gives device, precision and the other processes.
        """
        first = self.views * self.length
        own = [i for batch in range(order.count) for i in order.positions(batch)]
        training = model.training
        model.eval()
        try:
            with self.file.open("ab") as out:
                samples = (pair for batch in loader for pair in zip(*batch.to(accelerator.device), strict=True))
                for i, (image, target) in zip(own, samples, strict=False):  # not those that stand in for no image
                    with accelerator.autocast():
                        self._add(first + i, self._entry(model, image, target), out)
        finally:
            model.train(training)
        self._exchange(first, accelerator)

    def _exchange(self, first: int, accelerator: Any) -> None:
        """Learn where the other processes have put the entries from `first` on."""
        if accelerator.num_processes == 1:
            return
        from accelerate.utils import gather_object

        own = {number: place for number, place in self._places.items() if number >= first}
        for number, part in enumerate(gather_object([(own, self.size)])):
            self._places |= part[0]
            files = {place[0] for place in part[0].values()}
            if any(not Path(file).is_file() for file in files):
                raise InputError(
                    f"the features that process {number} computed are in {files.pop()}, which is not on this machine; "
                    "put the run's folder on a disk that all machines share, or leave cache_features out"
                )

    def _entry(self, model: Model, image: Tensor, target: Target) -> Entry:
        batch, prepared = model.prepare([image], [target])
        if not isinstance(prepared, list):
            raise InputError(
                f"the features of {model.title} cannot be cached, because its targets are not one per image; leave "
                "cache_features out"
            )
        with self.trunk.recorded(model) as values:
            model.batch_losses(batch, prepared)
        found = {name: value.float().cpu() for name, value in values.items()}
        if not all(len(value) == 1 for value in found.values()):
            raise InputError(
                f"the features of {model.title} cannot be cached, because its network takes regions, not images; leave "
                "cache_features out"
            )
        own = {f.name: getattr(batch, f.name) for f in fields(batch) if f.name != "tensor"}
        empty = type(batch)(tensor=_without_pixels(batch.tensor.shape, batch.tensor.device), **own)
        return Entry(found, empty, prepared, target)

    def _add(self, number: int, entry: Entry, out: BinaryIO) -> None:
        self._places[number] = (str(self.file), out.tell())
        data = pickle.dumps(entry, protocol=pickle.HIGHEST_PROTOCOL)
        out.write(data)
        self.size += len(data)
        self._keep(number, entry, len(data))

    def _keep(self, number: int, entry: Entry, size: int) -> None:
        if self._held + size <= self.room:
            self._held += size
            self._kept[number] = entry

    def __getitem__(self, number: int) -> Entry:
        """The entry `number`: that of image `number % length` in view `number // length`."""
        if number in self._kept:
            return self._kept[number]
        name, offset = self._places[number]
        if name not in self._readers:
            self._readers[name] = open(name, "rb")  # noqa: SIM115 (closed by `remove`)
        reader = self._readers[name]
        reader.seek(offset)
        entry: Entry = pickle.load(reader)  # of a file that this training has written
        self._keep(number, entry, reader.tell() - offset)
        return entry

    def step(self, model: Any, images: Sequence[Tensor], targets: Sequence[Any]) -> Losses:
        """The losses of a batch: a training step in which the images are the numbers of entries."""
        entries = [self[int(number)] for number in images]
        device = next(model.parameters()).device
        values = {name: value.to(device) for name, value in joined_values([e.values for e in entries]).items()}
        batch = _joined_batches([entry.batch for entry in entries], device)
        prepared = [target.to(device) if hasattr(target, "to") else target for e in entries for target in e.prepared]
        with self.trunk.replaced(model, values):
            losses: Losses = model.batch_losses(batch, prepared)
        return losses

    def loader(self, order: EpochBatches) -> DataLoader[Any]:
        """Batches of entry numbers in an order; an epoch takes the view of its number, and then the first one again."""
        return DataLoader(
            _Numbers(self), batch_sampler=order, collate_fn=one_process_collate, generator=torch.Generator()
        )

    def remove(self) -> None:
        """Delete the file of this process."""
        for reader in self._readers.values():
            reader.close()
        self.file.unlink(missing_ok=True)


class _Numbers(torch.utils.data.Dataset[Any]):
    def __init__(self, features: CachedFeatures):
        self.features = features

    def __getitem__(self, item: Item) -> tuple[Tensor, Target]:
        epoch, index = item[:2]
        number = epoch % self.features.views * self.features.length + index
        return torch.tensor(number), self.features[number].target


def cached_features(
    model: Model,
    trunk: Trunk,
    data: Items,
    file: Path,
    accelerator: Any,
    *,
    views: int,
    transform: Augmentation | None,
    batch_size: int,
    workers: int | None,
    seed: int,
) -> CachedFeatures:
    """Compute the features of the images themselves and of `views` − 1 augmented views of each.

    Args:
        model: the model on its device.
        trunk: its frozen layers.
        data: the images.
        file: the file for them; several processes add their numbers to its name.
        accelerator: gives device and precision.
        views: number of views.
        transform: augmentation of the views after the first one.
        batch_size, workers, seed: as in the recipe.
    """
    processes, index = accelerator.num_processes, accelerator.process_index
    features = CachedFeatures(trunk, file.with_stem(f"{file.stem}-{index}") if processes > 1 else file, len(data))
    for view in range(views):
        order = EpochBatches(len(data), batch_size, seed, shuffle=False, processes=processes, index=index)
        order.begin(view)
        changed = transform if view else None
        loader = make_loader(data, order, changed, workers, persistent=False, size=model.seen_size)
        features.compute(model, loader, order, accelerator)
    return features


def _without_pixels(shape: Sequence[int], device: Any) -> Tensor:
    """A tensor that stands for a batch's pixels: it has their shape, and a single number in memory."""
    return torch.zeros((), device=device).expand(*shape)


def _joined_batches(batches: list[ImageBatch], device: Any) -> ImageBatch:
    """The batch of several images that were prepared alone."""
    first = batches[0]
    sizes = [max(sizes) for sizes in zip(*(batch.tensor.shape[1:] for batch in batches), strict=True)]
    own = {
        f.name: [_moved(item, device) for batch in batches for item in getattr(batch, f.name)]
        for f in fields(first)
        if f.name != "tensor"
    }
    return type(first)(tensor=_without_pixels((len(batches), *sizes), device), **own)


def _moved(item: Any, device: Any) -> Any:
    return item.to(device) if hasattr(item, "to") else item
