"""Results kept on disk by the content they were computed from, safe against interruption."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.proposals.selective_search import Proposer
from sightline.runtime import reading


class ArrayFolder:
    """A folder of arrays by key, one file each. Several processes may share it.

    A file appears in one step, whole; one that cannot be read counts as missing and is written again.

    Args:
        folder: made when the first array is kept.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file, but results are kept in a folder; give another name")

    def get(self, key: str) -> np.ndarray | None:
        """The array of that key, mapped from the disk; None where there is none."""
        try:
            return reading.read_array(self._file(key), mapped=True)
        except InputError:
            return None

    def keep(self, key: str, array: np.ndarray) -> None:
        """Write an array; one of the same key is replaced.

        Raises:
            InputError: the folder cannot be written.
        """
        file = self._file(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(prefix=".", suffix=".partial", dir=file.parent)
            try:
                with os.fdopen(handle, "wb") as stream:
                    np.save(stream, array, allow_pickle=False)
                os.replace(partial, file)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise InputError(
                f"{self.folder}: results cannot be kept there ({error.strerror or error}); give another folder"
            ) from error

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"


class CachedProposals:
    """A source of proposals that looks in a folder first.

    What is kept is found by the image's pixels and the source's settings: an image under another name is found again, a
    changed one is not.

    Args:
        source: gives the boxes; its `repr` must name its settings, as a dataclass's does.
        folder: where they are kept.
    """

    def __init__(self, source: Proposer, folder: str | Path):
        described = repr(source)
        if " at 0x" in described:
            raise InputError(
                f"the proposals of {described} cannot be kept: its repr does not say what it does; "
                "use a dataclass, or give it a __repr__ with its settings"
            )
        self.source, self.kept = source, ArrayFolder(folder)

    def __call__(self, image: Tensor) -> Tensor:
        """Image [C, H, W] → boxes [P, 4] as the source gives them."""
        key = content_key(image, repr(self.source))
        found = self.kept.get(key)
        if found is not None and found.ndim == 2 and found.shape[1] == 4:
            return torch.from_numpy(np.array(found)).to(image.device)
        boxes = self.source(image)
        self.kept.keep(key, boxes.detach().cpu().numpy())
        return boxes

    def __repr__(self) -> str:
        return f"CachedProposals({self.source!r})"


def content_key(image: Tensor, *settings: str) -> str:
    """A hexadecimal key of an image's shape, dtype and values, and of settings."""
    digest = hashlib.blake2b(digest_size=20)
    for text in (str(image.dtype), str(tuple(image.shape)), *settings):
        digest.update(text.encode() + b"\0")
    digest.update(image.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
