"""The table of a model's layers: worked counts, published operation counts, and a model that stays as it was."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sightline as sl
from sightline.errors import InputError
from sightline.models.catalog import ENTRIES
from sightline.models.entry import Entry


def worked() -> nn.Module:
    """The worked example of batch normalisation: 271,346 parameters, of which 268,978 are trainable."""
    layers: list[nn.Module] = [nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 300), nn.BatchNorm1d(300)]
    return nn.Sequential(*layers, nn.Linear(300, 100), nn.BatchNorm1d(100), nn.Linear(100, 10))


def test_the_worked_example() -> None:
    found = sl.summary(worked(), 28)
    assert (found.total, found.trainable, found.fixed) == (271_346, 268_978, 2368)
    assert (found.parameters, found.averages) == (268_978, 2368)
    assert [layer.trainable + layer.fixed for layer in found.layers] == [0, 3136, 235_500, 1200, 30_100, 400, 1010]
    assert found.flops == 2 * (784 * 300 + 300 * 100 + 100 * 10)
    assert found.multiply_adds == found.flops // 2
    assert (found.image, found.layers[2].shapes) == ((1, 28, 28), [(1, 300)])
    text = "268,978 parameters; with 2,368 moving averages 271,346: 268,978 trainable, 2,368 not"
    assert text in str(found)
    frozen = worked().requires_grad_(False)
    assert (sl.summary(frozen, 28).parameters, sl.summary(frozen, 28).fixed) == (268_978, 271_346)


def test_the_printed_table_is_readable() -> None:
    """DenseNet-121 has 2, 3, 15 and 78 rows at depth 1, 2, 3 and 4."""
    found = sl.summary("densenet121", 32)
    text = str(found)
    assert len(found.layers) > 300
    assert [row.name for row in found.shown] == [row.name for row in sl.summary("densenet121", 32, depth=3).layers]
    assert len(text.splitlines()) < 30
    assert "7,978,856 parameters; with " in text
    for count in ("trainable", "fixed", "averages", "flops"):
        assert sum(getattr(row, count) for row in found.shown) == getattr(found, count)


@pytest.mark.parametrize(
    ("name", "giga", "parameters"),
    [("resnet18", 1.814, 11_689_512), ("mobilenet_v2", 0.301, 3_504_872), ("vgg16", 15.470, 138_357_544)],
)
def test_operations_as_published(name: str, giga: float, parameters: int) -> None:
    """torchvision publishes multiply-adds at 224 pixels ("GFLOPS" of its weights)."""
    found = sl.summary(name, depth=2)
    assert found.trainable == found.parameters == parameters
    assert found.multiply_adds / 1e9 == pytest.approx(giga, abs=6e-4)
    assert max(len(line) for line in str(found).splitlines()) <= 120


@pytest.mark.parametrize(
    ("name", "giga"), [("mobilenet_v2", 0.301), ("efficientnet_b0", 0.386), ("mobilenet_v3_large", 0.217)]
)
def test_operations_of_layers_that_a_cpu_computes_with_their_activation(name: str, giga: float) -> None:
    """A model with weights on a CPU runs other operators than one that only has shapes; both are counted."""
    model = sl.create_model(name, [f"class {k}" for k in range(1000)], weights="none")
    found = sl.summary(model, (3, 224, 224))
    assert found.multiply_adds / 1e9 == pytest.approx(giga, abs=6e-4)


def test_the_default_detector_and_segmenter_have_operations() -> None:
    detector, segmenter = (sl.create_model(n, ["a", "b"], weights="none") for n in ("sightline_lite0", "unet_lite0"))
    assert sl.summary(detector, (3, 64, 64)).flops > 1e8
    assert sl.summary(segmenter, (3, 64, 64)).flops > 1e7


def test_depth_moves_counts_up_and_loses_none() -> None:
    tables = [sl.summary("resnet18", depth=depth) for depth in (1, 2, 3, None)]
    assert len({(table.trainable, table.fixed, table.flops) for table in tables}) == 1
    assert [len(table.layers) for table in tables] == [
        1,
        10,
        14,
        52,
    ]  # eight blocks of five, three shortcuts of two, and six
    assert [layer.name for layer in tables[0].layers] == ["network"]
    assert tables[1].layers[4].shapes == [(1, 64, 56, 56)]
    json.dumps(tables[1].to_dict())


class Odd(nn.Module):
    """A layer that is used twice, one that is never called, one whose weight is used outside of it, and its own."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(2, 2, 1, bias=False)
        self.never = nn.Linear(5, 7, bias=False)
        self.borrowed = nn.Conv2d(2, 3, 1, bias=False)
        self.scale = nn.Parameter(torch.ones(4), requires_grad=False)
        self.tied = self.twice

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        found = self.tied(self.twice(batch))
        return {"a": F.conv2d(found, self.borrowed.weight), "b": found}


def test_each_parameter_and_operation_is_counted_once() -> None:
    found = sl.summary(Odd(), (4, 5))
    rows = {layer.name: layer for layer in found.layers}
    assert set(rows) == {"", "twice", "never", "borrowed"}
    assert (rows["twice"].calls, rows["twice"].flops, rows["twice"].trainable) == (2, 2 * 2 * 4 * 20, 4)
    assert (rows[""].flops, rows[""].fixed) == (2 * 6 * 20, 4)  # the borrowed weight is used by the model itself
    assert rows[""].shapes == [(1, 3, 4, 5), (1, 2, 4, 5)]
    assert (rows["never"].calls, rows["never"].trainable, rows["borrowed"].trainable) == (0, 35, 6)
    assert "[1, 2, 4, 5], 2 calls" in str(found)


def test_the_model_stays_as_it_was() -> None:
    model = worked().train()
    assert isinstance(model, nn.Sequential)
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sl.summary(model, 28)
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with pytest.raises(InputError, match=r"cannot take a batch of shape \[1, 1, 30, 30\].*give image_size"):
        sl.summary(model, (1, 30, 30))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.training


def test_lazy_layers_need_a_forward_pass_before() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(InputError, match=r"has lazy layers, .* run it on one image first"):
        sl.summary(lazy, 8)
    assert all(isinstance(parameter, nn.UninitializedParameter) for parameter in lazy.parameters())
    lazy(torch.zeros(2, 3, 8, 8))
    built = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    assert sl.summary(lazy, 8).to_dict() == sl.summary(built, 8).to_dict()


def test_attention_is_counted() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Flatten(2), layer)  # [1, 3, 2, 4] → 3 tokens of 8 numbers
    tokens, width = 3, 8
    products = tokens * width * (3 * width + width + 16 + 16)  # query, key and value; output; two layers
    attention = 2 * tokens * tokens * width
    assert sl.summary(model, (3, 2, 4)).flops == 2 * (products + attention)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": (1, 2, 3, 4)}, "image_size is"),
        ({"image_size": "big"}, "image_size is 'big'"),
        ({"depth": 0}, "depth is 0"),
    ],
)
def test_bad_arguments(given: dict[str, object], what: str) -> None:
    with pytest.raises(InputError, match=what):
        sl.summary(worked(), **given)  # type: ignore[arg-type]


def test_no_model() -> None:
    with pytest.raises(InputError, match="did you mean resnet18"):
        sl.summary("resnet18x")
    with pytest.raises(InputError, match="not a int"):
        sl.summary(3)  # type: ignore[arg-type]


def test_a_detector_with_regions() -> None:
    model = sl.create_model("faster_rcnn_mobilenet_v2_fpn", ["a", "b"], min_size=64, max_size=64)
    found = sl.summary(model, (48, 64), depth=2)
    assert found.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found.image == (3, 48, 64)
    rows = {layer.name: layer for layer in found.layers}
    assert rows["preprocess"].shapes == [(1, 3, 64, 64)]
    assert rows["roi_heads.box_head"].flops > 0


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_model_of_the_catalog(entry: Entry) -> None:
    found = sl.summary(entry.name, depth=2)
    assert found.flops > 0
    assert max(len(line) for line in str(found).splitlines()) <= 120
