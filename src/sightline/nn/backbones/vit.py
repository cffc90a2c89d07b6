"""Vision transformer: Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at scale",
ICLR 2021; as a backbone with the simple feature pyramid of Li, Mao, Girshick, He, "Exploring plain vision transformer
backbones for object detection", ECCV 2022.

Images of any size: the image is padded to whole patches, and the position embeddings are interpolated to their number.
Departures of the backbone from Li et al.: attention stays global, so its cost grows with the square of the number of
patches; there is a map of stride 2 for U-Nets; a detector's own neck takes the place of the last two convolutions.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.nn.backbones.features import Branch, FeatureMaps, Network, Stage
from sightline.nn.layers import MapNorm, Permute, feed_forward, normal_start


class SelfAttention(nn.Module):
    """Multi-head self-attention (appendix A): each token becomes a mean of all tokens, weighted by likeness.

    Args:
        channels: number of channels C of a token.
        heads: number of heads, which have C / heads channels each.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, C] → [N, L, C]."""
        n, length, channels = x.shape
        x = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = x.reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [N, heads, L, C / heads] each
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(x.transpose(1, 2).reshape(n, length, channels))


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers with GELU, each normalised before and with a shortcut (equations 2, 3)."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(channels, eps=1e-6)
        self.self_attention = SelfAttention(channels, heads)
        self.ln_2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = feed_forward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [N, L, C], or those of a map [N, h, w, C] → the same shape."""
        tokens = x.flatten(1, -2)
        tokens = tokens + self.self_attention(self.ln_1(tokens))
        tokens = tokens + self.mlp(self.ln_2(tokens))
        return tokens.reshape(x.shape)


class Encoder(nn.Module):
    """Position embeddings, layers, normalisation (figure 1)."""

    def __init__(self, positions: int, channels: int, depth: int, heads: int):
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, positions, channels).normal_(std=0.02))
        self.layers = nn.Sequential(
            OrderedDict({f"encoder_layer_{i}": EncoderLayer(channels, heads) for i in range(depth)})
        )
        self.ln = nn.LayerNorm(channels, eps=1e-6)


class PatchMap(nn.Module):
    """The patches of an image as tokens, with their position embeddings: [N, C, H, W] → [N, ⌈H / p⌉, ⌈W / p⌉, width].

    Args:
        projection: convolution of a patch's size and stride p.
        pos_embedding: [1, 1 + G², width], the first for the class token, the others for a grid of G × G patches. For
            another number of patches, they are interpolated bicubically (section 3.2).
    """

    def __init__(self, projection: nn.Conv2d, pos_embedding: nn.Parameter):
        super().__init__()
        self.conv_proj, self.pos_embedding = projection, pos_embedding

    def forward(self, x: Tensor) -> Tensor:
        patch = int(self.conv_proj.stride[0])
        x = self.conv_proj(F.pad(x, (0, -x.shape[-1] % patch, 0, -x.shape[-2] % patch)))
        return x.permute(0, 2, 3, 1) + resized_positions(self.pos_embedding[:, 1:], (x.shape[-2], x.shape[-1]))


def resized_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """Position embeddings [1, G², C] of a grid of G × G patches, interpolated to `size` = (h, w): [1, h, w, C]."""
    grid = math.isqrt(positions.shape[1])
    found = positions.unflatten(1, (grid, grid))
    if size == (grid, grid):
        return found
    found = F.interpolate(found.permute(0, 3, 1, 2), size, mode="bicubic", align_corners=False)
    return found.permute(0, 2, 3, 1)


class VisionTransformer(Network):
    """Patches and a class token as tokens, a transformer, one dense layer on the class token (figure 1).

    As a backbone, there is no class token, and all maps are made from the last one: finer ones by transposed
    convolutions, the coarsest by max pooling (Li et al., section 3).

    Args:
        patch: side of a patch in pixels, 16 or 32.
        num_classes: outputs of the last layer.
        in_channels: number of channels of the image.
        width: channels of a token, a multiple of 64; there is one attention head per 64.
        depth: number of layers.
        grid: patches per side that there are position embeddings for, those of the images of the pretraining.
    """

    def __init__(
        self,
        patch: int,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        width: int = 768,
        depth: int = 12,
        grid: int = 14,
    ):
        super().__init__()
        if width < 64 or width % 64 or depth < 1 or grid < 1:
            raise InputError(
                f"width is {width}, depth {depth} and grid {grid}, but width must be a multiple of 64, an attention "
                "head's channels, and the others at least 1"
            )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(in_channels, width, patch, patch)
        self.encoder = Encoder(grid**2 + 1, width, depth, width // 64)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, num_classes)))
        self.last_patches = nn.Identity()
        finer = [stride for stride in (2, 4, 8, 16) if stride < patch]
        self.stages = [Stage(f"up{stride}", width * stride // patch, stride) for stride in finer]
        self.stages += [Stage("ln", width, patch), *([Stage("pooled", width, 32)] if patch < 32 else [])]
        self.parts = ("patches", *(f"encoder_layer_{i}" for i in range(depth)))
        self.apply(normal_start)

    def layers(self) -> dict[str, nn.Module]:
        """The layers up to the last feature map, by name, in order, without class token; the pyramid is beside them."""
        found: dict[str, nn.Module] = {"patches": PatchMap(self.conv_proj, self.encoder.pos_embedding)}
        found |= dict(self.encoder.layers.named_children())
        found["ln"] = nn.Sequential(self.encoder.ln, Permute(0, 3, 1, 2))
        channels, patch = self.conv_proj.out_channels, int(self.conv_proj.stride[0])
        for stage in self.stages:
            if stage.stride < patch:
                found[stage.layer] = finer_map(channels, patch // stage.stride)
        return found | ({"pooled": nn.MaxPool2d(2)} if patch < 32 else {})

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        patches = PatchMap(self.conv_proj, self.encoder.pos_embedding)(x)
        token = (self.class_token + self.encoder.pos_embedding[:, :1]).expand(x.shape[0], -1, -1)
        *layers, last = self.encoder.layers
        tokens = nn.Sequential(*layers)(torch.cat([token, patches.flatten(1, 2)], 1))
        seen = self.last_patches(tokens[:, 1:].reshape(patches.shape).permute(0, 3, 1, 2))
        tokens = torch.cat([tokens[:, :1], seen.flatten(2).transpose(1, 2)], 1)
        return self.heads(self.encoder.ln(last(tokens))[:, 0])

    def map_layers(self) -> list[nn.Module]:
        """The layer that returns the map of the patches before the last encoder layer, for explanations.

        After that layer, only the class token is read.
        """
        return [self.last_patches]

    def maps_of(self, stages: Sequence[Stage], trainable_layers: int | None = None) -> FeatureMaps:
        """As of every network; the class token, which only the classifier has, learns with the patches."""
        body = super().maps_of(stages, trainable_layers)
        self.class_token.requires_grad_(self.conv_proj.weight.requires_grad)
        return body

    def part_layers(self) -> dict[str, list[nn.Module]]:
        """As of every network; the class token belongs to the patches."""
        found = super().part_layers()
        found["patches"].append(nn.ParameterList([self.class_token]))
        return found


def finer_map(channels: int, factor: int) -> Branch:
    """Transposed convolutions that each double the size of a map and halve its channels, normalisation between them."""
    layers: list[nn.Module] = []
    for i in range(factor.bit_length() - 1):
        if i:
            layers += [MapNorm(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
        channels //= 2
    return Branch(*layers)


def vit_b_16(
    num_classes: int = 1000, *, in_channels: int = 3, width: int = 768, depth: int = 12, grid: int = 14
) -> VisionTransformer:
    """ViT-B/16: 86,567,656 parameters with 1000 classes."""
    return VisionTransformer(16, num_classes, in_channels=in_channels, width=width, depth=depth, grid=grid)


def vit_b_32(
    num_classes: int = 1000, *, in_channels: int = 3, width: int = 768, depth: int = 12, grid: int = 7
) -> VisionTransformer:
    """ViT-B/32: 88,224,232 parameters with 1000 classes."""
    return VisionTransformer(32, num_classes, in_channels=in_channels, width=width, depth=depth, grid=grid)
