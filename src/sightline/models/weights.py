"""Loading weights into models: weights of the whole model, or of a classifier into the backbone.

Entries that do not fit are skipped and listed in a `LoadReport`. Weights of a different model raise an error.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.class_outputs import copy_of_same_outputs
from sightline.models.load_report import LoadReport
from sightline.models.model import Model
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sightline.nn.backbones import efficientnet_lite
from sightline.nn.backbones.vit import resized_positions
from sightline.runtime import reading

log = logging.getLogger("sightline")


def shared_keys(network: nn.Module, model: nn.Module) -> dict[str, str | None]:
    """Map the state dict keys of a classification network to those of a model built from its layers.

    A key maps to None if the model does not use its tensor, such as that of the classifier's last layer. Tensors are
    compared by identity, so the layers may be regrouped in any way. Call this before moving either to a device.
    """
    own = {id(tensor): key for key, tensor in model.state_dict(keep_vars=True).items()}
    return {key: own.get(id(tensor)) for key, tensor in network.state_dict(keep_vars=True).items()}


def require_weights(path: str | Path) -> Path:
    """The file of weights that a path refers to: the path itself, or the best model in a run's folder.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    if path.is_dir():  # the folder of a run
        path = next((path / n for n in ("best.safetensors", "last.safetensors") if (path / n).is_file()), path)
    if path.is_dir():
        raise InputError(
            f"weights {path}: this folder holds no trained model (best.safetensors); give a run's folder or a file"
        )
    if not path.is_file():
        if reading.unusual_kind(path):
            reading.require_file(path)
        raise InputError(f"weights {path}: there is no such file; give a path, or a published name such as 'imagenet'")
    return path


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the state dict of a `.safetensors` or PyTorch file, and the metadata of a `.safetensors` file.

    Raises:
        InputError: there is no such file, or it does not contain a state dict.
    """
    path = require_weights(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        reading.require_file(path)
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, UnicodeError) as error:
            raise InputError(
                f"weights {path}: not a readable safetensors file ({error}); download or save it again"
            ) from error
    content = read_torch(path, f"weights {path}")
    for name in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"weights {path}: the file holds no tensors by name; give a network's state dict")
    tensors = {k.removeprefix("module."): v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return tensors, {}


def read_torch(path: str | Path, what: str) -> Any:
    """Read a file written by `torch.save`. Only tensors and plain values are loaded; no code is executed or imported.

    Args:
        path: path of the file.
        what: start of the error message.

    Raises:
        InputError: the file cannot be read, or contains other objects.
    """
    reading.require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles, which are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whose words are of files in general, and many
        raise InputError(
            f"{what}: not a readable PyTorch checkpoint of plain tensors ({type(error).__name__}); give a file "
            "of torch.save(model.state_dict()), a .safetensors file, or a run's folder"
        ) from error


def load_weights(
    model: Model,
    state: dict[str, Tensor],
    source: str,
    *,
    same_classes: bool = True,
    trained: Model | None = None,
    note: str = "",
) -> LoadReport:
    """Load a state dict of the whole model, or of the classifier that its backbone is made from.

    Args:
        model: model to load into, changed in place. Its attributes `backbone_keys`, `class_layers` and
            `from_classifier` describe how a state dict fits it, see `Model`.
        state: state dict with the keys of the model, of an older version of it, or of the backbone's classifier.
        source: the file, for the report.
        same_classes: whether the layers that depend on the classes are loaded. With False they are skipped, even if
            their shapes fit, except for what `trained` allows.
        trained: the model that the state dict belongs to, on any device, if its classes differ. Of layers that depend
            on the classes, the outputs of classes with the same names are loaded (case does not matter, and "_" is a
            space), and with them those of no class, such as the background's.
        note: note for the report if layers that depend on the classes were loaded.

    Returns:
        A report on what was loaded and what was not. A warning is logged if anything was skipped or assumed.

    Raises:
        InputError: the weights belong to a different model: at least a quarter of the entries of the model (or of its
            backbone) are missing or have a different shape, or at least a tenth of the file's entries are unknown.
    """
    own = model.state_dict()
    keys = model.backbone_keys
    if efficientnet_lite.is_published(state):
        state = efficientnet_lite.from_published(state, *normalisation(model))
    state, as_backbone = _named_for(state, own.keys(), keys.keys())
    if as_backbone and model.from_classifier is not None:
        state = model.from_classifier(state)
    report = LoadReport(source, total=len(own))
    partly: dict[str, Tensor] = {}
    chosen: dict[str, Tensor] = {}
    unknown = 0
    for key, value in state.items():
        if key.endswith("num_batches_tracked") and key not in (keys if as_backbone else own):
            continue  # frozen batch norm does not count batches
        if as_backbone and key in keys and keys[key] is None:
            report.left_out.append(f"{key} (only the classifier uses it)")
            continue
        target = keys.get(key) if as_backbone else key
        if target is None or target not in own:
            unknown += 1
            report.left_out.append(f"{key} (the model has no such entry)")
            continue
        if not same_classes and _depends_on_classes(model, target):
            same = None if trained is None else _of_same_classes(model, trained, target, value, own[target])
            if same is not None:
                partly[target] = same[0]
                report.kept_classes = list(dict.fromkeys([*report.kept_classes, *same[1]]))
                continue
            report.left_out.append(f"{key} (of other classes)")
            continue
        fitted = _fit(value, own[target])
        if fitted is None:
            reason = "of other classes: " if _depends_on_classes(model, target) else ""
            report.left_out.append(f"{key} ({reason}shape {list(value.shape)}, the model's {list(own[target].shape)})")
            continue
        if fitted.shape != value.shape:
            report.adapted.append(key)
        chosen[target] = fitted
    expected = {key for key in keys.values() if key is not None} if as_backbone else set(own)
    expected = {k for k in expected if not k.endswith("num_batches_tracked") and not _depends_on_classes(model, k)}
    fits = len(chosen.keys() & expected)
    if fits <= 0.75 * len(expected) or unknown >= 0.1 * len(state):
        what = "its backbone's" if as_backbone else "the model's"
        foreign = f", and {unknown} of the file's {len(state)} belong to layers it does not have" if unknown else ""
        raise InputError(
            f"{source}: these are weights of another model than {model.title}: {fits} of {what} {len(expected)} "
            f"entries are there in the right shape{foreign} (the file begins with {_first(state)}); "
            "choose the model they belong to"
        )
    model.load_state_dict(chosen | partly, strict=False)
    report.loaded, report.partly = len(chosen), list(partly)
    report.fresh = [k for k in own if k not in chosen | partly and not k.endswith("num_batches_tracked")]
    report.note = note if any(_depends_on_classes(model, key) for key in chosen) else ""
    unexpected = [entry for entry in report.left_out if not entry.endswith("(only the classifier uses it)")]
    notable = unexpected or report.adapted or report.partly or report.note
    if notable:
        log.warning("%s", report)
    else:
        log.info("%s", report.summary)
    return report


def _of_same_classes(
    model: Model, trained: Model, key: str, value: Tensor, own: Tensor
) -> tuple[Tensor, list[str]] | None:
    """The model's entry with the trained outputs of the classes that both models have, and these classes; or None."""
    return copy_of_same_outputs(
        value,
        own,
        trained.class_outputs(key, value.shape),
        model.class_outputs(key, own.shape),
        competing=model.competing_classes,
    )


def normalisation(model: Model) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of red, green and blue that the model subtracts and divides by."""
    own = getattr(model, "preprocess", None)
    if own is not None and own.channels == 3:
        return own.mean.cpu(), own.std.cpu()
    return torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)


def _named_for(
    state: dict[str, Tensor], own: Collection[str], backbone: Collection[str]
) -> tuple[dict[str, Tensor], bool]:
    """The state dict with current keys, and whether these are the keys of the backbone's classifier."""
    state = {_current_key(key, state): value for key, value in state.items()}
    inside = {key.removeprefix("network."): value for key, value in state.items()}  # if a model wraps the network
    around = {f"network.{key}": value for key, value in inside.items()}
    candidates = [(state, own, False), (around, own, False), (inside, backbone, True)]
    best = max(candidates, key=lambda c: len(c[0].keys() & set(c[1])))
    return best[0], best[2]


def _fit(value: Tensor, own: Tensor) -> Tensor | None:
    """`value` in the shape of `own`, or None if the two differ in more than what can be adapted.

    That is the number of input channels of a first convolution, and the grid of a vision transformer's positions.
    """
    if value.shape == own.shape:
        return value
    if value.ndim == own.ndim == 3 and value.shape[::2] == own.shape[::2] and value.shape[0] == 1:
        grid = math.isqrt(own.shape[1] - 1)
        resized = resized_positions(value[:, 1:].float(), (grid, grid)).flatten(1, 2)
        return torch.cat([value[:, :1], resized.to(value.dtype)], 1)
    first = value.ndim == 4 and own.ndim == 4 and value.shape[1] == 3 and value.shape[0] == own.shape[0]
    if first and value.shape[2:] == own.shape[2:]:
        channels = own.shape[1]
        mean = value.mean(1, keepdim=True)
        # gives the same output for a grey image as for its three equal channels; more channels share the weights
        return mean.expand(-1, channels, -1, -1) * (3 / channels)
    return None


def head_fits(model: Model, state: dict[str, Tensor]) -> bool:
    """Whether a state dict has all layers of the model that depend on the classes, with the same shapes."""
    own = model.state_dict()
    state, _ = _named_for(state, own.keys(), ())
    layers = [key for key in own if _depends_on_classes(model, key)]
    return all(key in state and state[key].shape == own[key].shape for key in layers)


def _depends_on_classes(model: Model, key: str) -> bool:
    return bool(model.class_layers and re.search(model.class_layers, key))


def _current_key(key: str, state: Collection[str]) -> str:
    """The current key of an entry of an older published checkpoint with the entries `state`."""
    parts = key.split(".")
    if "denselayer" in key:  # `norm.1` and `conv.2` of DenseNets
        return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
    if "mlp.linear_" in key:  # of vision transformers
        return key.replace("mlp.linear_1.", "mlp.0.").replace("mlp.linear_2.", "mlp.3.")
    if re.match(r"head\.(classification|regression)_head\.conv\.[0246]\.\w+$", key):
        # older RetinaNet heads number convolutions and activations together, as FCOS's heads still do
        if ".".join([*parts[:3], "1.weight"]) in state:
            return key
        return ".".join([*parts[:3], str(int(parts[3]) // 2), "0", parts[4]])
    if len(parts) >= 3 and parts[-3] in ("inner_blocks", "layer_blocks") and parts[-2].isdigit():
        return ".".join([*parts[:-1], "0", parts[-1]])
    if len(parts) == 4 and parts[1] == "mask_head" and parts[2].startswith("mask_fcn"):
        return ".".join([*parts[:2], str(int(parts[2].removeprefix("mask_fcn")) - 1), "0", parts[3]])
    if key in ("rpn.head.conv.weight", "rpn.head.conv.bias"):
        return key.replace("conv.", "conv.0.0.")
    return key


def _first(state: dict[str, Any]) -> str:
    return repr(next(iter(state), "nothing"))
