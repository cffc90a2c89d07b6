"""Reading `.cfg` files, and what is told of bad ones."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from sightline.errors import InputError
from sightline.models.darknet import DarknetNetwork, darknet, load_darknet
from sightline.models.darknet.cfg import parse_cfg, read_cfg, render_cfg, with_classes
from sightline.models.darknet.weights import count_floats
from sightline.runtime.shapes import shapes_only
from tests.models.darknet import cfgs

NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"


@pytest.mark.parametrize(
    ("text", "parameters", "floats", "layers"),
    # floats: sizes of the published files less their headers, over 4
    [
        (cfgs.yolov3(), 61_949_149, (248_007_048 - 20) // 4, 107),
        (cfgs.yolov3_tiny(), 8_852_366, (35_434_956 - 20) // 4, 24),
        (cfgs.yolov2(), 50_962_889, (203_934_260 - 16) // 4, 32),
    ],
    ids=["yolov3", "yolov3-tiny", "yolov2"],
)
def test_published_networks_have_their_numbers(text: str, parameters: int, floats: int, layers: int) -> None:
    with shapes_only():
        network = DarknetNetwork(parse_cfg(text))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert count_floats(network) == floats
    assert len(network.layers) == layers


def test_counts_of_yolov3_tiny_by_formula() -> None:
    widths = [3, 16, 32, 64, 128, 256, 512, 1024]
    convs = [(a, b, 3) for a, b in pairwise(widths)]
    convs += [(1024, 256, 1), (256, 512, 3), (256, 128, 1), (128 + 256, 256, 3)]
    floats = sum(a * b * k * k + 4 * b for a, b, k in convs) + (512 + 1) * 255 + (256 + 1) * 255
    assert floats == 8_858_734
    with shapes_only():
        network = DarknetNetwork(parse_cfg(cfgs.yolov3_tiny()))
    assert [network.shapes[i] for i in network.heads] == [(255, 13, 13), (255, 26, 26)]


def test_comments_spaces_and_the_first_of_two_values() -> None:
    text = (
        "# a\n[network]\n width = 32 # wide\nheight=16\n;b\nheight=99\n\n[conv]\nfilters=2\n[max]\nsize=2\nstride=2\n"
    )
    net, conv, pool = parse_cfg(text)
    assert (net.whole("width"), net.whole("height")) == (32, 16)
    assert (net.kind, conv.kind, pool.kind) == ("net", "convolutional", "maxpool")
    assert (conv.line, pool.line, conv.lines["filters"]) == (8, 10, 9)
    again = parse_cfg(render_cfg([net, conv, pool]))
    assert [s.options for s in again] == [s.options for s in (net, conv, pool)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            NET + "[convolutionel]\n",
            r"a\.cfg, line 5: \[convolutionel\] is no section .* did you mean 'convolutional'",
        ),
        (NET + "[lstm]\n", r"a\.cfg, line 5: \[lstm\] is no section"),
        (
            NET + "[convolutional]\nfilter=3\n",
            r"line 6, \[convolutional\]: the key filter is unknown; did you mean 'filters'",
        ),
        (NET + "[convolutional]\nbinary=1\n", r"line 6, \[convolutional\]: binary=1 is not supported"),
        (NET + "[convolutional]\nfilters=many\n", r"line 6, \[convolutional\]: filters=many must be numbers"),
        (NET + "[convolutional]\nfilters=inf\n", r"filters=inf must be numbers"),
        (NET + "[convolutional]\nfilters=0\n", r"filters=0 must be one whole number from 1 to"),
        (NET + "[convolutional]\nactivation=lrelu\n", r"line 6, .*activation=lrelu is not supported; known are linear"),
        (NET + "[convolutional]\ngroups=2\n", r"groups=2, but must divide its 3 channels"),
        (NET + "[convolutional]\nsize=40\n", r"line 5, \[convolutional\]: nothing is left of its map of 32×32"),
        (NET + "[maxpool]\nsomething\n", r"a\.cfg, line 6: 'something' is neither"),
        (NET + "[route]\nlayers=-1\n", r"line 5, \[route\]: it takes layer -1, but is layer 0 itself"),
        (NET + "[maxpool]\n[route]\n", r"line 6, \[route\]: layers is missing"),
        (
            NET + "[conv]\n[maxpool]\nsize=2\nstride=2\n[route]\nlayers=0,1\n",
            r"its maps differ in size \(32×32, 16×16\)",
        ),
        (NET + "[conv]\n[reorg]\nstride=2\n", r"\[reorg\]: stride=2 takes a multiple of 4 channels, not 1"),
        (NET + "[region]\nanchors=1,1\nnum=2\n", r"num=2 anchors need 4 numbers above 0, but anchors has 2"),
        (NET + "[region]\nanchors=1,1\nnum=1\ntree=9k.tree\n", r"line 8, \[region\]: tree=9k\.tree: trees"),
        (
            NET + "[conv]\nfilters=5\n[yolo]\nanchors=1,1\nnum=1\nclasses=2\n",
            r"line 7, \[yolo\]: its keys ask for 7×32×32 numbers, but the layer before it gives 5×32×32",
        ),
        (NET + "[net]\n", r"line 5, \[net\]: a second \[net\]"),
        ("[convolutional]\n", r"a\.cfg: it begins with \[convolutional\]"),
        ("width=3\n", r"a\.cfg, line 1: 'width=3' stands before any"),
        (NET, r"there is no layer behind it"),
        ("[net]\nwidth=32\n[maxpool]\n", r"line 1, \[net\]: height is missing"),
    ],
)
def test_bad_files_are_told_by_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.cfg"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_darknet(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.cfg: there is no such file"):
        read_cfg(tmp_path / "none.cfg")


def test_other_classes_widen_the_layer_before_each_head() -> None:
    for text in (cfgs.SMALL_V1, cfgs.SMALL_V2, cfgs.SMALL_V3, cfgs.SMALL_CLASSIFIER):
        model = darknet([f"c{i}" for i in range(7)], cfg=text)
        assert len(model.classes) == 7
        image = torch.zeros(3, 20, 30, dtype=torch.uint8)
        assert model.eval()([image])[0].image_size == (20, 30)
    same = parse_cfg(cfgs.SMALL_V3)
    assert [s.options for s in with_classes(same, 3)] == [s.options for s in same]
    bad = parse_cfg(NET + "[conv]\nfilters=8\n[maxpool]\n[yolo]\nanchors=1,1\nnum=1\nclasses=3\n")
    with pytest.raises(InputError, match=re.escape("[yolo]: [maxpool] stands before it, so it cannot be given 4")):
        with_classes(bad, 4)
