"""The numbers that a saved model's file does not hold, and that its meaning depends on.

A file holds tensors and the arguments that were given. The rest comes from the builder when the file is loaded: the
default arguments, and inside the network strides, dilations, epsilons, anchors' sizes and thresholds. A change of one
of them loads every old file as another model, without any message. Those of today are written down in `frozen.json`;
`python tests/models/test_frozen.py` writes it anew, after a change that is meant and that the changelog tells of.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from sightline.models.catalog import ENTRIES, find
from sightline.models.creation import create_model
from sightline.models.entry import Entry
from sightline.models.preprocess import Preprocess
from sightline.runtime.shapes import shapes_only

FILE = Path(__file__).with_name("frozen.json")
# larger ones of the same code are left out: only their default arguments are compared
SKIPPED: tuple[str, ...] = tuple(entry.name for entry in ENTRIES if entry.takes_backbones and entry.classifier())
SKIPPED += ("resnet34", "resnet101", "resnet152", "vgg16_bn", "vgg19", "darknet53")
SKIPPED += ("fcn_resnet101", "deeplabv3_resnet101")
SKIPPED += ("resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "senet154")
SKIPPED += ("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg19_bn")
SKIPPED += ("densenet161", "densenet169", "densenet201", "squeezenet1_0", "vit_b_32", "nasnet_large")
SKIPPED += ("darknet", "sightline_s", "sightline_m", "r_fcn_resnet101", "overfeat_accurate", "sliding_window_resnet18")
SKIPPED += tuple(f"efficientnet_b{i}" for i in range(1, 8)) + tuple(f"efficientdet_d{i}" for i in range(1, 8))
SKIPPED += ("mask_rcnn_resnet50_fpn_v2", "grid_sliding_resnet18", "r_cnn_resnet18", "localiser_resnet18")
SKIPPED += tuple(
    entry.name
    for entry in ENTRIES
    if entry.name.endswith(("_mask", "_pose")) and not entry.name.startswith("sightline_n_")
)
BUILT = [entry.name for entry in ENTRIES if entry.name not in SKIPPED]


def plain(value: Any) -> Any:
    """A setting as JSON holds it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value if isinstance(value, int | float | str | None) else repr(value)


def defaults(entry: Entry) -> dict[str, Any]:
    """The model's default arguments."""
    return {name: plain(argument.default) for name, argument in entry.arguments.items()}


def numbers(value: Any) -> Iterator[str]:
    """The numbers within a setting."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, bool | int | float):
        yield repr(value)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from numbers(part)


def parts(model: nn.Module) -> dict[str, str]:
    """Each part's numbers, in short: how many parameters, and a digest of the settings within its modules."""
    found = {}
    for part, module in model.named_children():
        held: Counter[str] = Counter()
        for inner in module.modules():
            own = {name: v for name, v in vars(inner).items() if not name.startswith("_") and name != "training"}
            held.update(f"{type(inner).__name__} {number}" for number in numbers(own))
        digest = hashlib.sha256(repr(sorted(held.items())).encode()).hexdigest()[:8]
        found[part] = f"{sum(p.numel() for p in module.parameters())} {digest}"
    settings = [v for k, v in sorted(vars(model).items()) if "settings" in k]
    return found | {"": ",".join(numbers(settings)), "preprocess": ",".join(numbers(model.given))}


def built(name: str) -> nn.Module:
    """The model without memory for its numbers; `given` is what its preprocessing was made of, mean and std as well."""
    given: list[Any] = []
    start = Preprocess.__init__

    def recording(self: Preprocess, *arguments: Any, **named: Any) -> None:
        given.extend([*arguments, *(named[name] for name in sorted(named))])
        start(self, *arguments, **named)

    with shapes_only(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Preprocess, "__init__", recording)
        model = create_model(name, ["circle", "square"])
    model.given = given  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_default_arguments_stay(entry: Entry) -> None:
    assert defaults(entry) == json.loads(FILE.read_text())["defaults"][entry.name]


@pytest.mark.parametrize("name", BUILT)
def test_numbers_within_the_network_stay(name: str) -> None:
    assert parts(built(name)) == json.loads(FILE.read_text())["parts"][name]


if __name__ == "__main__":
    whole = {
        "defaults": {entry.name: defaults(entry) for entry in ENTRIES},
        "parts": {name: parts(built(find(name).name)) for name in BUILT},
    }
    FILE.write_text(json.dumps(whole, indent=1) + "\n")
