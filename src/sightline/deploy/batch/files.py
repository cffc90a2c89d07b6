"""Files on local and remote file systems: paths, and URIs such as s3://bucket/folder."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.data.full_scale import Scale
from sightline.data.images import is_image
from sightline.deploy.sources import Item, find_images
from sightline.errors import InputError
from sightline.runtime.optional import require

_OBJECT_STORES = ("s3", "gcs", "gs", "abfs", "abfss", "az")
"""File systems on which a file appears when it is complete, and that cannot rename."""
_MAGIC = "*?["


def is_uri(path: str) -> bool:
    """Whether a path names its file system, as in s3://bucket/folder."""
    return "://" in path


def require_pyarrow() -> None:
    """Check that pyarrow is installed.

    Raises:
        InputError: it is not.
    """
    require("pyarrow", "pyarrow", "parquet", "writing and reading predictions as Parquet")


@cache
def opened(uri: str) -> tuple[Any, str]:
    """The file system of a path or URI, of pyarrow or else of fsspec, and the path on it.

    Raises:
        InputError: there is no such file system, or its package or credentials are missing.
    """
    from pyarrow import fs

    if not is_uri(uri):
        return fs.LocalFileSystem(), os.path.abspath(uri)
    try:
        system, path = fs.FileSystem.from_uri(uri)
        return system, path
    except Exception as by_arrow:  # a scheme that pyarrow does not know, or one that it cannot connect to
        try:
            import fsspec

            system, path = fsspec.core.url_to_fs(uri)
        except Exception as error:
            why = error if isinstance(by_arrow, ImportError | ValueError) else by_arrow
            raise InputError(f"{uri} cannot be reached ({short(why)}); check the address and the credentials") from None
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def short(error: BaseException) -> str:
    """The first words of an error's message."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@dataclass(frozen=True)
class StoredImage(Item):
    """An image on a remote file system, which is read when it is needed."""

    image: bytes = b""

    def _read(self, channels: int, full_scale: Scale) -> Tensor:
        return self._loaded()._read(channels, full_scale)

    def highest(self) -> int | None:
        with suppress(InputError):  # it is reported when it is predicted
            return self._loaded().highest()
        return None

    def _loaded(self) -> Item:
        assert self.name is not None
        return Item(self.name, read_bytes(self.name))


def read_bytes(uri: str) -> bytes:
    """The contents of a file.

    Raises:
        InputError: it cannot be read.
    """
    system, path = opened(uri)
    try:
        with system.open_input_stream(path) as file:
            return bytes(file.read())
    except OSError as error:
        raise InputError(f"{uri} cannot be read ({short(error)}); check that it is there") from None


def item_of(name: str) -> Item:
    """The image of a path or URI."""
    return StoredImage(name) if is_uri(name) else find_images(name)[0][0]


def find_names(source: Any) -> list[str]:
    """The paths or URIs of the images that a user gives, each once: files, folders, patterns, or a list of these.

    Raises:
        InputError: there are none, or an image in memory is given.
    """
    given = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(given, Iterable) or isinstance(given, bytes | np.ndarray | Tensor | Image.Image):
        raise InputError("the images must be files, which the workers read: give paths, folders, patterns or URIs")
    names: dict[str, None] = {}
    for one in given:
        if isinstance(one, str) and is_uri(one):
            names.update(dict.fromkeys(_remote(one)))
            continue
        if not isinstance(one, str | os.PathLike):
            raise InputError(
                f"an image is given as {type(one).__name__}, but must be a file, which the workers read: give paths, "
                "folders, patterns or URIs"
            )
        names.update((str(item.name), None) for item in find_images(one)[0])
    if not names:
        raise InputError("the list of images is empty; give at least one")
    return list(names)


def _remote(uri: str) -> list[str]:
    """The URIs of the images that a URI names: a file, all images below a folder, or those that match a pattern."""
    from pyarrow import fs

    start = next((i for i, letter in enumerate(uri) if letter in _MAGIC), len(uri))
    pattern = uri if start < len(uri) else None
    folder = uri if pattern is None else uri[:start].rpartition("/")[0]
    system, path = opened(folder)
    try:
        info = system.get_file_info(path)
        if info.type == fs.FileType.File:
            return [uri]
        below = [] if info.type == fs.FileType.NotFound else system.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise InputError(f"{uri} cannot be listed ({short(error)}); check the address and the credentials") from None
    base = folder.rstrip("/")
    root = path.rstrip("/")
    found = sorted(
        base + entry.path.removeprefix(root) if entry.path.startswith(root) else f"{base}/{entry.base_name}"
        for entry in below
        if entry.type == fs.FileType.File and is_image(entry.base_name)
    )
    if pattern is not None:
        found = [name for name in found if _matches(name, pattern)]
    if not found:
        raise InputError(f"no image was found at {uri}; correct the address, or give a pattern such as {base}/*.jpg")
    return found


def _matches(name: str, pattern: str) -> bool:
    """Whether a URI matches a pattern; * stays within a folder, ** does not."""
    names, patterns = name.split("/"), pattern.split("/")
    if "**" not in patterns:
        return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))
    at = patterns.index("**")
    head, tail = patterns[:at], "/".join(patterns[at + 1 :]) or "*"
    if not all(map(fnmatch.fnmatchcase, names, head)) or len(names) < len(head):
        return False
    return any(_matches("/".join(names[k:]), tail) for k in range(len(head), len(names)))


class Folder:
    """A folder of files on a local or remote file system.

    Args:
        uri: a path or URI.
    """

    def __init__(self, uri: str):
        self.uri = uri.rstrip("/") if is_uri(uri) else uri
        self.system, self.path = opened(self.uri)

    @property
    def local(self) -> bool:
        """Whether it is on a disk of this machine."""
        return bool(self.system.type_name == "local")

    def create(self) -> None:
        """Create the folder.

        Raises:
            InputError: it cannot be created, or is a file.
        """
        from pyarrow import fs

        try:
            if self.system.get_file_info(self.path).type == fs.FileType.File:
                raise InputError(f"{self.uri} is a file, but the output needs a folder; give another --out")
            self.system.create_dir(self.path, recursive=True)
        except OSError as error:
            raise InputError(f"the folder {self.uri} cannot be created ({short(error)}); give another --out") from None

    def files(self, folder: str = "") -> list[str]:
        """The names of the files directly in it, or in a folder in it, sorted."""
        from pyarrow import fs

        place = f"{self.path}/{folder}" if folder else self.path
        if self.system.get_file_info(place).type != fs.FileType.Directory:
            return []
        entries = self.system.get_file_info(fs.FileSelector(place))
        return sorted(entry.base_name for entry in entries if entry.type == fs.FileType.File)

    def names(self) -> list[str]:
        """The names of the files and folders directly in it, sorted."""
        from pyarrow import fs

        selector = fs.FileSelector(self.path, allow_not_found=True)
        return sorted(entry.base_name for entry in self.system.get_file_info(selector))

    def read(self, name: str) -> bytes:
        """The contents of a file."""
        with self.system.open_input_stream(f"{self.path}/{name}") as file:
            return bytes(file.read())

    def write(self, name: str, fill: Callable[[Any], object]) -> None:
        """Write a file so that readers see all of it or nothing; an earlier file of this name is replaced.

        Args:
            name: the file, relative to the folder.
            fill: writes to an open file.

        Raises:
            InputError: it cannot be written, such as on a full disk.
        """
        try:
            self._write(f"{self.path}/{name}", fill)
        except OSError as error:
            raise InputError(
                f"{self.uri}/{name} cannot be written ({short(error)}); free some space or get access, then repeat the "
                "command: it continues with what is left"
            ) from None

    def _write(self, place: str, fill: Callable[[Any], object]) -> None:
        self.system.create_dir(place.rpartition("/")[0], recursive=True)
        if self.system.type_name.rpartition("+")[2] in _OBJECT_STORES:
            with self.system.open_output_stream(place) as file:
                fill(file)
            return
        folder, _, base = place.rpartition("/")
        partial = f"{folder}/.{base}.{os.getpid()}.partial"  # hidden from readers of the folder
        try:
            with self.system.open_output_stream(partial) as file:
                fill(file)
            if self.local:
                os.replace(partial, place)
            else:
                self.system.move(partial, place)
        except BaseException:
            with suppress(OSError):
                self.system.delete_file(partial)
            raise

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        with suppress(OSError):
            self.system.delete_file(f"{self.path}/{name}")
