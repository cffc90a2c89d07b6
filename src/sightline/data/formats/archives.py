"""Datasets in zip and tar archives, unpacked once into a hidden folder beside the archive.

`data.zip` is unpacked into `.data.zip.sightline/data/`. The folder is reused as long as the archive's size and
modification time are unchanged; it may be deleted at any time. It appears only when everything is unpacked: an
interruption leaves nothing that looks complete. If the archive's folder is not writable, the user's cache is used
(~/.cache/sightline).

No file is written outside this folder: an archive that contains an absolute path, a path with "..", a link or a device
is refused. The number of entries and the unpacked size are limited by `sightline.runtime.limits`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from lzma import LZMAError
from pathlib import Path
from typing import IO, NamedTuple

from sightline.errors import InputError
from sightline.runtime.limits import limits, require_within
from sightline.runtime.reading import shown

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_STAMP = "unpacked.json"
_PIECE = 2**20
_SMALL = 2**30
"""Unpacked size in bytes that is always allowed, however small the archive is: labels compress a hundredfold."""
_PASSED_OVER = ("__MACOSX", ".DS_Store", "Thumbs.db")
_LOG = logging.getLogger(__name__)


class _Entry(NamedTuple):
    """A file in an archive: its safe path, its declared size, and how to read it."""

    parts: tuple[str, ...]
    size: int
    open: IO[bytes]


def is_archive(path: Path) -> bool:
    """Whether the file name has the extension of an archive (the file is not read)."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def unpacked(archive: Path) -> Path:
    """The folder with an archive's files; it is created if the archive has not been unpacked yet.

    Raises:
        InputError: the archive is damaged, encrypted, unsafe or too large, or the disk is full.
    """
    return filled_beside(archive, lambda folder: _unpack(archive, folder, archive.stat().st_size))


def filled_beside(file: Path, fill: Callable[[Path], None]) -> Path:
    """A folder that caches data derived from a file; `fill` is called to create it if the file is new or has changed.

    Raises:
        InputError: the folder cannot be created; and whatever `fill` raises.
    """
    file = file.absolute()
    home = _home(file)
    inside = home / _stem(file.name)
    state = file.stat()
    stamp = {"archive": file.name, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    if _is_of(home, stamp) and inside.is_dir():
        return inside
    part = home.with_name(f"{home.name}.{os.getpid()}.part")
    _LOG.warning("%s is unpacked into %s, once", file, inside)
    try:
        shutil.rmtree(part, ignore_errors=True)
        (part / inside.name).mkdir(parents=True)
        fill(part / inside.name)
        (part / _STAMP).write_text(json.dumps(stamp), encoding="utf-8")
        if home.exists() and not _is_of(home, stamp):
            _remove(home)
        try:
            part.rename(home)
        except OSError:
            if not _is_of(home, stamp):  # another process was faster
                raise
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{shown(file)} cannot be unpacked into {home}: {reason}; unpack it yourself") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return inside


def _home(archive: Path) -> Path:
    name = f".{archive.name}.sightline"
    if os.access(archive.parent, os.W_OK) or (archive.parent / name).is_dir():
        return archive.parent / name
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sightline"
    return cache / f"{hashlib.sha256(os.fsencode(archive)).hexdigest()[:12]}{name}"


def _stem(name: str) -> str:
    suffix = max((s for s in (*SUFFIXES, ".parquet") if name.lower().endswith(s)), key=len)
    return name[: -len(suffix)] or "data"


def _is_of(home: Path, stamp: dict[str, object]) -> bool:
    try:
        known: object = json.loads((home / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return known == stamp


def _remove(home: Path) -> None:
    """Remove the files unpacked from an earlier version of the archive, and nothing else."""
    if not (home / _STAMP).is_file():
        raise InputError(f"{home} is in the way of unpacking, but was not created by it; move it elsewhere")
    shutil.rmtree(home)


def _unpack(archive: Path, out: Path, size: int) -> None:
    count = total = 0
    seen: set[tuple[str, ...]] = set()
    most = limits().archive_bytes
    try:
        with closing(_zipped(archive) if archive.name.lower().endswith(".zip") else _tarred(archive)) as entries:
            for entry in entries:
                count += 1
                require_within(f"the number of files in {shown(archive)}", count, "archive_entries")
                if entry.parts in seen:
                    raise InputError(f"{shown(archive)} contains {shown('/'.join(entry.parts))} twice; pack it again")
                seen.add(entry.parts)
                path = out.joinpath(*entry.parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                with entry.open as source, open(path, "xb") as target:
                    while piece := source.read(_PIECE):
                        total += len(piece)
                        if total > min(most, max(_SMALL, size * limits().archive_ratio)):
                            raise _too_large(archive, total, size)
                        target.write(piece)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, LZMAError, NotImplementedError) as error:
        raise InputError(f"{shown(archive)} is damaged or not an archive ({error}); download it again") from None
    except RuntimeError as error:  # raised by zipfile for encrypted files
        raise InputError(f"{shown(archive)} cannot be unpacked: {error}; unpack it yourself") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{shown(archive)} contains the path {error.filename} twice; pack it again") from None
    if not count:
        raise InputError(f"{shown(archive)} contains no files; give an archive with a dataset in it")


def _too_large(archive: Path, total: int, size: int) -> InputError:
    require_within(f"the expanded size of {shown(archive)}", total, "archive_bytes", "bytes")
    ratio = limits().archive_ratio
    return InputError(
        f"{shown(archive)} expands to more than {ratio} times its {size} bytes, like archives made to fill a disk; if "
        "it is valid, unpack it yourself"
    )


def _zipped(archive: Path) -> Generator[_Entry, None, None]:
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
        require_within(f"the number of files in {shown(archive)}", len(entries), "archive_entries")
        declared = sum(entry.file_size for entry in entries)
        require_within(f"the expanded size of {shown(archive)}", declared, "archive_bytes", "bytes")
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _special(archive, entry.filename)
            parts = _safe(archive, entry.filename)
            if parts and not entry.is_dir():
                yield _Entry(parts, entry.file_size, opened.open(entry))


def _tarred(archive: Path) -> Generator[_Entry, None, None]:
    with tarfile.open(archive, "r:*") as opened:
        for entry in opened:
            if not (entry.isfile() or entry.isdir()):
                raise _special(archive, entry.name)
            parts = _safe(archive, entry.name)
            if parts and entry.isfile():
                content = opened.extractfile(entry)
                assert content is not None, "a regular file has content"
                yield _Entry(parts, entry.size, content)


def _safe(archive: Path, name: str) -> tuple[str, ...]:
    """The parts of an entry's path; empty for entries that are skipped.

    Raises:
        InputError: the path leads out of the folder that the archive is unpacked into.
    """
    plain = name.replace("\\", "/")
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    if plain.startswith("/") or ".." in parts or (parts and ":" in parts[0]) or "\0" in name:
        raise InputError(
            f"{shown(archive)} contains the path {shown(name)!r}, which leads out of the folder it is unpacked into; "
            "it was not unpacked: pack it again with plain paths"
        )
    return () if any(part in _PASSED_OVER or part.startswith("._") for part in parts) else parts


def _special(archive: Path, name: str) -> InputError:
    return InputError(
        f"{shown(archive)} contains {shown(name)!r}, which is a link or a device; it was not unpacked: pack it again "
        "with regular files only"
    )
