"""Load saved and exported models: `load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sightline.errors import InputError
from sightline.keywords import checked_keywords
from sightline.models.model import Model

if TYPE_CHECKING:
    import torch


@checked_keywords
def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    runtime: Literal["onnxruntime", "openvino"] | None = None,
) -> Model:
    """Load a saved or exported model, in evaluation mode.

    Args:
        path: a file written by `save`, the folder of a run, whose best model is loaded, or an .onnx file written by
            `export`.
        device: device of the model.
        runtime: what runs an exported file; "onnxruntime" by default.

    Returns:
        The model. `model.metadata` holds the metadata saved with it. An exported model also has `model.provider`, what
        runs it.

    Raises:
        InputError: there is no such file, it was written by something else, or the runtime is missing.
    """
    from sightline.deploy.runtimes import open_exported
    from sightline.models.saving import load as run

    if isinstance(path, str | Path) and Path(path).suffix == ".onnx":
        return open_exported(path, runtime or "onnxruntime", device)
    if runtime is not None:
        raise InputError(
            f"{path}: runtime {runtime!r} runs exported files (.onnx); export the model first, or leave runtime out"
        )
    return run(path, device)
