"""The small networks once more, from functions and loops, inventing their numbers in the order of the file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Writer:
    """Invents a layer's numbers, computes the layer with them, and remembers them for the file."""

    def __init__(self, seed: int = 0):
        self.random = np.random.default_rng(seed)
        self.floats: list[np.ndarray] = []

    def take(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        values = self.random.uniform(low, high, shape).astype(np.float32)
        self.floats.append(values.ravel())
        return torch.from_numpy(values)

    def write(self, path: Path, *, extra: int = 0) -> Path:
        values = np.concatenate(self.floats)
        values = values[:extra] if extra < 0 else np.concatenate([values, np.zeros(extra, np.float32)])
        path.write_bytes(struct.pack("<iiiQ", 0, 2, 0, 32_013_312) + struct.pack(f"<{len(values)}f", *values))
        return path

    def conv(
        self,
        x: Tensor,
        out: int,
        size: int = 3,
        stride: int = 1,
        act: Callable[[Tensor], Tensor] | None = None,
        normalize: bool = True,
        groups: int = 1,
    ) -> Tensor:
        bias = self.take(out)
        if normalize:
            scale, mean, variance = self.take(out), self.take(out), self.take(out, low=0.3, high=2.0)
        weight = self.take(out, x.shape[1] // groups, size, size)
        x = F.conv2d(x, weight, stride=stride, padding=size // 2, groups=groups)
        if normalize:
            x = (x - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None] * scale[:, None, None]
        x = x + bias[:, None, None]
        return leaky(x) if act is None else act(x)

    def connected(self, x: Tensor, out: int, act: Callable[[Tensor], Tensor]) -> Tensor:
        bias = self.take(out)
        weight = self.take(out, x[0].numel())
        return act(x.flatten(1) @ weight.T + bias)

    def local(self, x: Tensor, out: int) -> Tensor:
        """A 3×3 filter of its own at each place, stride 1, a border of zeros."""
        n, c, h, w = x.shape
        bias, weight = self.take(out, h, w), self.take(h * w, out, c * 9)
        padded = F.pad(x, (1, 1, 1, 1))
        result = torch.zeros(n, out, h, w)
        for row in range(h):
            for column in range(w):
                patch = padded[:, :, row : row + 3, column : column + 3].reshape(n, -1)
                result[:, :, row, column] = patch @ weight[row * w + column].T
        return leaky(result + bias)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.1 * x)


def linear(x: Tensor) -> Tensor:
    return x


def mish(x: Tensor) -> Tensor:
    return x * torch.tanh(torch.log1p(torch.exp(x)))


def maxpool(x: Tensor, size: int, stride: int) -> Tensor:
    """As the C program: windows begin at −(size − 1) / 2, cut to a whole number; what lies outside does not count."""
    n, c, h, w = x.shape
    padding = size - 1
    out_h, out_w = (h + padding - size) // stride + 1, (w + padding - size) // stride + 1
    result = torch.full((n, c, out_h, out_w), -float("inf"))
    for i in range(out_h):
        for j in range(out_w):
            for a in range(size):
                for b in range(size):
                    row, column = -(padding // 2) + i * stride + a, -(padding // 2) + j * stride + b
                    if 0 <= row < h and 0 <= column < w:
                        result[:, :, i, j] = torch.maximum(result[:, :, i, j], x[:, :, row, column])
    return result


def reorg(x: Tensor, stride: int, reverse: bool = False) -> Tensor:
    """As the C program, index by index."""
    n, c, h, w = x.shape
    out_c = c // stride**2
    flat = x.reshape(-1)
    result = torch.zeros_like(flat)
    for b in range(n):
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    near = i + w * (j + h * (k + c * b))
                    c2, offset = k % out_c, k // out_c
                    w2, h2 = i * stride + offset % stride, j * stride + offset // stride
                    far = w2 + w * stride * (h2 + h * stride * (c2 + out_c * b))
                    if reverse:
                        result[far] = flat[near]
                    else:
                        result[near] = flat[far]
    if reverse:
        return result.reshape(n, out_c, h * stride, w * stride)
    return result.reshape(n, c * stride**2, h // stride, w // stride)


def small_v1(w: Writer, x: Tensor) -> list[Tensor]:
    x = maxpool(w.conv(x, 4, 3, 2), 2, 2)
    x = maxpool(w.conv(x, 6, act=torch.relu), 2, 2)
    x = w.connected(w.local(x, 5), 16, leaky)
    return [w.connected(x, 2 * 2 * 13, linear)]


def small_v2(w: Writer, x: Tensor) -> list[Tensor]:
    fine = w.conv(maxpool(w.conv(x, 8), 8, 8), 12)
    coarse = w.conv(maxpool(fine, 2, 2), 16)
    passed = reorg(w.conv(fine, 8, 1), 2)
    x = w.conv(torch.cat([passed, coarse], 1), 16)
    return [w.conv(x, 16, 1, act=linear, normalize=False)]


def small_v3(w: Writer, x: Tensor) -> list[Tensor]:
    first = w.conv(x, 8, 3, 4)
    added = leaky(first + w.conv(w.conv(first, 4, 1), 8, act=mish))
    coarse = maxpool(w.conv(maxpool(added, 2, 2), 16, groups=2), 2, 1)
    one = w.conv(coarse, 16, 1, act=linear, normalize=False)
    larger = torch.zeros(len(x), 16, 16, 16)
    for i in range(16):
        for j in range(16):
            larger[:, :, i, j] = coarse[:, :, i // 2, j // 2]
    both = torch.cat([larger, added], 1)[:, 12:]
    two = w.conv(w.conv(both, 8, act=torch.sigmoid), 16, 1, act=linear, normalize=False)
    return [one, two]


def small_classifier(w: Writer, x: Tensor) -> list[Tensor]:
    x = w.conv(maxpool(w.conv(x, 8), 2, 2), 5, 1, act=linear, normalize=False)
    return [x.mean((2, 3))]
