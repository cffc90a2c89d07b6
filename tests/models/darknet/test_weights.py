"""`.weights` files: every float in its place, and files of another length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.darknet import (
    DarknetNetwork,
    load_darknet,
    load_darknet_weights,
    network_of,
    save_darknet_weights,
)
from sightline.models.darknet.cfg import parse_cfg
from sightline.models.darknet.layers import MaxPool, ReverseReorg
from sightline.models.darknet.weights import Header, read_weights
from tests.models.darknet import cfgs, reference
from tests.models.darknet.reference import Writer

NETWORKS = [
    (cfgs.SMALL_V1, reference.small_v1, 32),
    (cfgs.SMALL_V2, reference.small_v2, 64),
    (cfgs.SMALL_V3, reference.small_v3, 64),
    (cfgs.SMALL_CLASSIFIER, reference.small_classifier, 32),
]
Reference = Callable[[Writer, Tensor], list[Tensor]]


@pytest.mark.parametrize(("text", "network", "side"), NETWORKS, ids=["v1", "v2", "v3", "classifier"])
def test_outputs_are_those_of_a_network_by_hand(text: str, network: Reference, side: int, tmp_path: Path) -> None:
    writer, x = Writer(), torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    wanted = network(writer, x)
    file = writer.write(tmp_path / "a.weights")
    model = load_darknet(text, file)
    with torch.no_grad():
        found = network_of(model)(x)
    found = [found] if isinstance(found, Tensor) else found
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.flatten(1), b.flatten(1), rtol=1e-4, atol=1e-4 * float(b.abs().max()))
    again = save_darknet_weights(network_of(model), tmp_path / "b.weights", seen=32_013_312)
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("size", [(2, 1), (2, 2), (3, 2), (5, 1), (3, 3)])
@pytest.mark.parametrize("cells", [(7, 6), (4, 5)])
def test_max_pooling_pads_as_darknet(size: tuple[int, int], cells: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *cells)
    assert torch.equal(MaxPool(*size, size[0] - 1)(x), reference.maxpool(x, *size))


def test_reorg_in_both_directions() -> None:
    x = torch.randn(2, 8, 4, 6)
    section = "[net]\nwidth=6\nheight=4\nchannels=8\n[reorg]\nstride=2\n[maxpool]\n"
    network = DarknetNetwork(parse_cfg(section))
    assert torch.equal(network.layers[0](x), reference.reorg(x, 2))
    assert torch.equal(ReverseReorg(2)(x), reference.reorg(x, 2, reverse=True))
    assert not torch.equal(ReverseReorg(2)(network.layers[0](x)), x)  # darknet's two directions do not undo each other


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (3, r"3 more than the network has \(\d+\): it goes on behind layer 2 \(\[convolutional\], line 18 of cfg\)"),
        (-1, r"1 fewer than .*: it ends in layer 2 \(\[convolutional\], line 18 of cfg\), 39 of the 40 weights"),
        (-46, r"46 fewer than .*: it ends in layer 0 \(\[convolutional\], line 7 of cfg\), 215 of the 216 weights"),
    ],
)
def test_files_of_another_length_are_refused(extra: int, message: str, tmp_path: Path) -> None:
    writer = Writer()
    reference.small_classifier(writer, torch.zeros(1, 3, 32, 32))
    file = writer.write(tmp_path / "a.weights", extra=extra)
    text = cfgs.SMALL_CLASSIFIER
    network = DarknetNetwork(parse_cfg(text))
    before = [p.clone() for p in network.parameters()]
    lines = [n for n, line in enumerate(text.splitlines(), 1) if line == "[convolutional]"]
    message = message.replace("line 18", f"line {lines[1]}").replace("line 7", f"line {lines[0]}")
    with pytest.raises(InputError, match=message):
        load_darknet_weights(network, file)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    # with just the first layer's own floats, layers=2 takes them
    cut = Writer()
    cut.conv(torch.zeros(1, 3, 32, 32), 8)
    load_darknet_weights(network, cut.write(tmp_path / "cut.weights"), layers=2)
    assert torch.equal(network.layers[0].norm.bias, torch.from_numpy(cut.floats[0]))
    # of a whole file, too; but not of one that is neither
    whole = Writer()
    reference.small_classifier(whole, torch.zeros(1, 3, 32, 32))
    load_darknet_weights(network, whole.write(tmp_path / "whole.weights"), layers=2)
    assert torch.equal(network.layers[0].norm.bias, torch.from_numpy(whole.floats[0]))
    with pytest.raises(InputError, match=r"3 more than its chosen layers have .* or another number of layers"):
        load_darknet_weights(network, cut.write(tmp_path / "long.weights", extra=3), layers=2)


def test_the_catalog_reads_them(tmp_path: Path) -> None:
    given = create_model("darknet", ["a", "b", "c"], cfg=cfgs.SMALL_V3)
    file = save_darknet_weights(network_of(given), tmp_path / "a.weights")
    again = create_model("darknet", ["a", "b", "c"], file, cfg=cfgs.SMALL_V3)
    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), again.parameters(), strict=True))
    with pytest.raises(InputError, match="fewer than the network has"):
        create_model("darknet", ["a", "b", "c", "d"], file, cfg=cfgs.SMALL_V3)


def test_headers_of_old_and_new_files(tmp_path: Path) -> None:
    text = "[net]\nwidth=1\nheight=1\nchannels=2\n[connected]\noutput=3\nactivation=linear\n"
    values = np.arange(9, dtype=np.float32)
    layouts = {
        (0, 1): struct.pack("<iiiI", 0, 1, 0, 7),
        (0, 2): struct.pack("<iiiQ", 0, 2, 0, 2**40),
        (2000, 0): struct.pack("<iiiI", 2000, 0, 0, 9),
    }
    for (major, minor), header in layouts.items():
        file = tmp_path / "a.weights"
        file.write_bytes(header + values.tobytes())
        network = DarknetNetwork(parse_cfg(text))
        read = load_darknet_weights(network, file)
        assert (read.major, read.minor) == (major, minor)
        assert read.seen == {(0, 1): 7, (0, 2): 2**40, (2000, 0): 9}[major, minor]
        assert read.to_bytes() == header
        dense = network.layers[0].dense
        assert dense.bias.tolist() == [0, 1, 2]
        wanted = [[3, 5, 7], [4, 6, 8]] if major < 1000 else [[3, 4, 5], [6, 7, 8]]
        assert dense.weight.T.tolist() == wanted
    assert Header().to_bytes() == struct.pack("<iiiQ", 0, 2, 0, 0)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.weights"
    with pytest.raises(InputError, match=r"there is no file .*a\.weights"):
        read_weights(file)
    file.write_bytes(b"short")
    with pytest.raises(InputError, match="5 bytes are too few for the header"):
        read_weights(file)
    file.write_bytes(Header().to_bytes() + b"12345")
    with pytest.raises(InputError, match="after the header are 5 bytes, which is not a whole number of floats"):
        read_weights(file)
    with pytest.raises(InputError, match=r"a\.weights: the file exists"):
        save_darknet_weights(DarknetNetwork(parse_cfg(cfgs.SMALL_V3)), file)
