"""Vision transformer, Swin and ConvNeXt against loops, PyTorch's attention and the papers' tables."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.backbone_parts import backbone_parts
from sightline.models.creation import create_model
from sightline.models.published import find_published
from sightline.nn.backbones.convnext import ConvNeXt, ConvNeXtBlock
from sightline.nn.backbones.swin import Swin, SwinBlock, WindowAttention, relative_positions
from sightline.nn.backbones.vit import PatchMap, SelfAttention, VisionTransformer, resized_positions
from sightline.nn.layers import MapNorm
from sightline.runtime.shapes import shapes_only


def test_self_attention_is_pytorch_s() -> None:
    torch.manual_seed(0)
    ours, theirs = SelfAttention(64, 2), nn.MultiheadAttention(64, 2, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 64)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])


def test_positions_of_another_grid_are_interpolated() -> None:
    torch.manual_seed(0)
    positions = torch.rand(1, 16, 8)
    assert torch.equal(resized_positions(positions, (4, 4)), positions.reshape(1, 4, 4, 8))
    ramp = torch.arange(8.0)[None, :].expand(8, 8).reshape(1, 64, 1)
    finer = resized_positions(ramp, (8, 16))[0, :, :, 0]
    assert finer.shape == (8, 16)
    ramp_again = torch.arange(16.0) / 2 - 0.25  # which bicubic interpolation follows up to 0.05
    torch.testing.assert_close(finer[:, 4:-4], ramp_again[4:-4].expand(8, -1), atol=0.06, rtol=0)


def test_a_patch_s_position_goes_with_its_place() -> None:
    projection = nn.Conv2d(1, 3, 16, 16)
    nn.init.zeros_(projection.weight)
    nn.init.zeros_(projection.bias)
    table = nn.Parameter(torch.rand(1, 1 + 6 * 6, 3))
    found = PatchMap(projection, table)(torch.rand(2, 1, 96, 90))  # padded to 96 × 96
    for i, j in itertools.product(range(6), range(6)):
        assert torch.equal(found[1, i, j], table[0, 1 + 6 * i + j])


def test_older_files_and_files_of_other_grids_fit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"width": 64, "depth": 1}
    model = create_model("vit_b_16", ["a", "b"], grid=6, **small)
    state = model.network.state_dict()
    older = {k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v for k, v in state.items()}
    torch.save(older, tmp_path / "older.pth")
    again = create_model("vit_b_16", ["a", "b"], tmp_path / "older.pth", grid=6, **small)
    assert all(torch.equal(v, state[k]) for k, v in again.network.state_dict().items())
    other = create_model("vit_b_16", ["a", "b"], tmp_path / "older.pth", **small)
    assert other.weights_report.adapted == ["network.encoder.pos_embedding"]
    wanted = resized_positions(state["encoder.pos_embedding"][:, 1:], (14, 14)).flatten(1, 2)
    assert torch.equal(other.network.encoder.pos_embedding[:, 1:], wanted)


@pytest.mark.parametrize("trainable", [0, 1, 2])
def test_only_the_last_parts_of_a_transformer_learn(trainable: int) -> None:
    """The pyramid, for which no weights are published, always does."""
    body = VisionTransformer(16, 3, width=64, depth=3).maps((8, 16), trainable)
    learning = {key.split(".")[0] for key, p in body.named_parameters() if p.requires_grad}
    assert learning == {"up8", *({"ln"} if trainable else ()), *(f"encoder_layer_{i}" for i in range(3 - trainable, 3))}


def test_the_class_token_learns_with_the_patches() -> None:
    for trainable, learns in ((2, False), (3, True)):
        model = create_model("vit_b_16", ["a", "b"], width=64, depth=2, trainable_layers=trainable)
        assert model.network.class_token.requires_grad is learns
        assert {"network.class_token", "network.encoder.pos_embedding"} <= set(backbone_parts(model)[0].keys)


def test_weights_of_larger_images_have_positions_for_them() -> None:
    published = find_published("vit_b_16", "imagenet_swag")
    assert published is not None
    assert published.licence == "CC-BY-NC-4.0"
    with torch.device("meta"):
        model = create_model("vit_b_16", ["a", "b"], **published.arguments)
    assert (model.crop, model.network.encoder.pos_embedding.shape[1]) == (384, 24**2 + 1)


@pytest.mark.parametrize(("size", "shift"), [((6, 6), 0), ((6, 6), 1), ((6, 3), 1), ((5, 7), 1)])
def test_window_attention_by_a_loop(size: tuple[int, int], shift: int) -> None:
    """Each cell attends to those of its window that were not brought there by rolling."""
    torch.manual_seed(0)
    window, (height, width) = 3, size
    layer = WindowAttention(64, 2, window, shift).eval()
    x = torch.randn(1, height, width, 64)
    rows, columns = -(-height // window) * window, -(-width // window) * window
    padded = torch.zeros(rows, columns, 64)
    padded[:height, :width] = x[0]
    q, k, v = layer.qkv(padded).unflatten(-1, (3, 2, 32)).unbind(2)  # [rows, columns, heads, 32]
    down, across = (shift if side > window else 0 for side in (rows, columns))

    def window_of(i: int, j: int) -> tuple[int, ...]:
        """The window of a cell, and for each axis whether the cell is at the beginning, which is rolled to the end."""
        return (i - down) % rows // window, (j - across) % columns // window, i < down, j < across

    cells = list(itertools.product(range(rows), range(columns)))
    wanted = torch.zeros(rows, columns, 64)
    for i, j in cells:
        seen = [(a, b) for a, b in cells if window_of(a, b) == window_of(i, j)]
        at = [((i - down) % rows % window, (j - across) % columns % window)]
        at += [((a - down) % rows % window, (b - across) % columns % window) for a, b in seen]
        for head in range(2):
            logits = []
            for (a, b), (di, dj) in zip(seen, at[1:], strict=True):
                place = (at[0][0] - di + window - 1) * (2 * window - 1) + at[0][1] - dj + window - 1
                bias = layer.relative_position_bias_table[place, head]
                logits.append(q[i, j, head] @ k[a, b, head] / 32**0.5 + bias)
            weights = torch.stack(logits).softmax(0)
            mixed = sum(w * v[a, b, head] for w, (a, b) in zip(weights, seen, strict=True))
            wanted[i, j, 32 * head : 32 * (head + 1)] = mixed
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], layer.proj(wanted)[:height, :width])


def test_relative_positions_are_numbered_row_by_row() -> None:
    table = relative_positions(2)
    assert table.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_every_second_block_is_shifted_by_half_a_window() -> None:
    with shapes_only():
        blocks = [m for m in Swin(32, (2, 2, 3, 1)).modules() if isinstance(m, SwinBlock)]
    assert [block.attn.shift for block in blocks] == [0, 3, 0, 3, 0, 3, 0, 0]
    assert [block.attn.heads for block in blocks] == [1, 1, 2, 2, 4, 4, 4, 8]
    assert [block.stochastic_depth.prob for block in blocks] == pytest.approx([0.2 * i / 7 for i in range(8)])


def test_layer_scale_lets_a_network_begin_as_its_stem() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 7, 7)
    torch.testing.assert_close(ConvNeXtBlock(8, 0.0)(x), x, atol=1e-4, rtol=0)
    scaled = ConvNeXtBlock(8, 0.0, scale=0.5)
    torch.testing.assert_close(scaled(x) - x, 0.5 * scaled.block(x))
    with shapes_only():
        blocks = [m for m in ConvNeXt(8, (1, 2, 1, 1)).modules() if isinstance(m, ConvNeXtBlock)]
    assert [block.stochastic_depth.prob for block in blocks] == pytest.approx([0.025 * i for i in range(5)])


def test_a_map_is_normalised_cell_by_cell() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 3, 4) * 5 + 2
    found = MapNorm(6)(x)
    for cell in itertools.product(range(2), range(3), range(4)):
        values = x[cell[0], :, cell[1], cell[2]]
        wanted = (values - values.mean()) / (values.var(correction=0) + 1e-6).sqrt()
        torch.testing.assert_close(found[cell[0], :, cell[1], cell[2]], wanted)


def test_widths_that_do_not_fit_the_heads_are_refused() -> None:
    with pytest.raises(InputError, match="width is 48, but must be a multiple of 32"):
        Swin(48, (1, 1, 1, 1))
    with pytest.raises(InputError, match="width is 96, depth 1 and grid 14, but width must be a multiple of 64"):
        VisionTransformer(16, width=96, depth=1)
