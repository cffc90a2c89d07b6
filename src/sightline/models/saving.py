"""Saving a model to one file: safetensors, with metadata in JSON from which the model can be built again."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch

import sightline
from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.creation import create_model
from sightline.models.model import Model
from sightline.models.saved_metadata import saved_arguments, saved_classes, saved_entry
from sightline.models.weights import read_checkpoint
from sightline.runtime.devices import require_device
from sightline.runtime.files import written_whole
from sightline.runtime.values import short

FORMAT = "sightline model 1"
OWN_FACTS = ("trained_on", "threshold", "full_scale", "keypoint_names", "keypoint_swap")
"""Entries of the metadata that are saved again with the model."""


@checked_keywords
def save(model: Model, path: str | Path, metadata: dict[str, Any] | None = None) -> Path:
    """Save a model of the catalog to one `.safetensors` file, which `load` reads.

    Args:
        model: model created by `create_model` or `load`.
        path: path of the file. An existing file is replaced atomically.
        metadata: additional JSON values to store, such as metrics or the name of the dataset. The training images of
            the model and its score threshold for `predict` are always stored.

    Returns:
        The path of the file.

    Raises:
        InputError: the model is not from the catalog or was exported, the name does not end in .safetensors, or the
            file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a saved model's file ends in .safetensors; name it {path.stem}.safetensors")
    if not isinstance(model, Model) or not model.name:
        raise InputError(
            "only models created by create_model can be saved to one file; save state_dict() with torch.save instead"
        )
    if model.unsaveable:
        raise InputError(model.unsaveable)
    if model.norms_folded:
        raise InputError(
            "this model's norms were folded into its convolutions by fuse(), so its file could not be loaded again; "
            "save the original model, and call fuse() after load()"
        )
    header = {
        "format": FORMAT,
        "version": sightline.__version__,
        "model": model.name,
        "task": model.task,
        "arguments": json.dumps(plain_arguments(model)),
        "classes": json.dumps(list(model.classes)),
        "preprocess": model.preprocess.extra_repr(),
        "metadata": json.dumps(own_facts(model) | (metadata or {}), default=str),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    with written_whole(path, "the model") as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode
        try:
            save_file(tensors, partial, header)
        except SafetensorError as error:  # which also reports a full disk
            raise OSError(str(error)) from error
        partial.chmod(mode)  # safetensors creates files that only their owner can read
    return path


@checked_keywords
def load(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a saved model, in evaluation mode.

    Args:
        path: a file written by `save`, or the folder of a run, whose best model is loaded.
        device: device of the model.

    Returns:
        The model. `model.metadata` holds the metadata saved with it.

    Raises:
        InputError: there is no such file, it was not written by `save`, or the device does not exist.
    """
    require_device(device)
    state, header = _read(path)
    where = str(_model_file(path))
    arguments, classes = saved_arguments(header, where), saved_classes(header, where)
    metadata = saved_entry(header, "metadata", where, dict)
    try:
        model = create_model(header["model"], classes, **arguments)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    _require_same_state(model.state_dict(), state, where)
    model.load_state_dict(state)
    model.metadata = metadata
    return model.eval().to(device)


def model_and_arguments(path: str | Path) -> tuple[str, dict[str, Any]]:
    """The catalog name of a saved model, and the arguments of its builder. Path and errors are those of `load`."""
    _, header = _read(path)
    return header["model"], saved_arguments(header, str(_model_file(path)))


def _read(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The state dict and the header of a saved model's file."""
    path = _model_file(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder; give a run's folder or a .safetensors file")
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path}: not a saved Sightline model (.safetensors); "
            "for other checkpoints use create_model(name, classes, weights=path)"
        )
    state, header = read_checkpoint(path)
    if not header.get("format", "").startswith("sightline model"):
        raise InputError(
            f"{path}: this file does not say which model it holds; use create_model(name, classes, weights=path)"
        )
    if header["format"] != FORMAT:
        raise InputError(
            f"{path}: written by Sightline {header.get('version', 'of a later version')} as {header['format']!r}, "
            f"which this version {sightline.__version__} does not know; install a later version"
        )
    return state, header


def _model_file(path: str | Path) -> Path:
    """The model file at a path: the file itself, or the best model in the folder of a run."""
    if not isinstance(path, str | os.PathLike):
        given = short(path)
        if given.endswith("…"):  # such as the pair that `optimize` returns, with a whole network
            of = f" ({', '.join(type(part).__name__ for part in path)})" if isinstance(path, tuple) else ""
            given = f"an object of type {type(path).__name__}{of}"
        raise InputError(f"a model is loaded from the path of a run's folder or a saved file, not from {given}")
    path = Path(path)
    if not path.is_dir():
        return path
    found = [path / n for n in ("best.safetensors", "last.safetensors") if (path / n).is_file()]
    if not found:
        raise InputError(
            f"{path}: this folder holds no trained model (best.safetensors); give a run's folder or a model file"
        )
    return found[0]


def _require_same_state(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], where: str) -> None:
    """Check that a file's tensors have the names and shapes of the model's, and are floating point where these are."""
    for name in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(name), theirs.get(name)
        if here is None or there is None or here.shape != there.shape:
            have = "absent" if there is None else list(there.shape)
            need = "absent" if here is None else list(here.shape)
            raise InputError(
                f"{where}: the entry {name!r} is {have} in the file, but {need} in the model that it names; "
                "the file is damaged or was changed: save it again"
            )
        if here.is_floating_point() != there.is_floating_point():
            raise InputError(
                f"{where}: the entry {name!r} is of {there.dtype}, but the model's is of {here.dtype}; save it again"
            )


def metadata_of(path: str | Path) -> dict[str, Any]:
    """The metadata saved with a model, without building it. Path and errors are those of `load`."""
    _, header = _read(path)
    metadata: dict[str, Any] = saved_entry(header, "metadata", str(_model_file(path)), dict)
    return metadata


def plain_arguments(model: Model) -> dict[str, Any]:
    """The arguments that a model was built with, as JSON values; empty for a model that is not from the catalog."""
    found: dict[str, Any] = json.loads(json.dumps(model.arguments, default=_as_json))
    return found


def own_facts(model: Model) -> dict[str, Any]:
    """The part of a model's metadata that describes its weights."""
    return {k: model.metadata[k] for k in OWN_FACTS if k in model.metadata}


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise InputError(f"argument {value!r} of the model cannot be saved; build the model from plain values")
