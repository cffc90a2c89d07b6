"""Darknet's `.weights` files: a short header, then every float32 of the network, layer by layer, without names."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.darknet.network import DarknetNetwork
from sightline.runtime import reading
from sightline.runtime.files import written_whole


@dataclass(frozen=True)
class Header:
    """What a file begins with.

    Attributes:
        major, minor, revision: version of the format.
        seen: images that the network was trained on.
    """

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def wide(self) -> bool:
        """Whether `seen` takes 64 bits: from version 0.2 on."""
        return self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000

    @property
    def transposed(self) -> bool:
        """Whether dense layers are stored as [in, out]: in some old files."""
        return self.major > 1000 or self.minor > 1000

    def to_bytes(self) -> bytes:
        return struct.pack("<iii" + ("Q" if self.wide else "I"), self.major, self.minor, self.revision, self.seen)


def read_weights(path: str | Path) -> tuple[Header, np.ndarray]:
    """The header and all floats of a file: [M] float32.

    Raises:
        InputError: there is no such file, or it ends within the header or within a float.
    """
    path = Path(path)
    content = reading.read_bytes(path)
    if len(content) < 12:
        raise InputError(f"{path}: {len(content)} bytes are too few for the header of a .weights file")
    header = Header(*struct.unpack_from("<iii", content))
    kind, start = ("<Q", 20) if header.wide else ("<I", 16)
    if len(content) < start:
        raise InputError(f"{path}: {len(content)} bytes are too few for the header of a .weights file")
    header = Header(header.major, header.minor, header.revision, struct.unpack_from(kind, content, 12)[0])
    if (len(content) - start) % 4:
        raise InputError(
            f"{path}: after the header are {len(content) - start} bytes, which is not a whole number of floats; the "
            "file is truncated or of another kind"
        )
    return header, np.frombuffer(content, "<f4", offset=start)


@torch.no_grad()
def load_darknet_weights(network: DarknetNetwork, path: str | Path, layers: int | None = None) -> Header:
    """Set all parameters and statistics of a network from a file.

    Args:
        network: changed in place, unless the file is refused.
        path: of the `.weights` file.
        layers: load only this number of first layers, from a truncated file such as that of a backbone
            ("darknet53.conv.74" contains layers 0 … 73) or from a complete file. None loads all layers.

    Returns:
        The file's header.

    Raises:
        InputError: the file is unreadable, or does not hold just as many floats as the layers; the sentence says by
            how many it is too short or too long, and at which layer it ends.
    """
    header, floats = read_weights(path)
    chosen = [(i, layer) for i, layer in network.weighted() if layers is None or i < layers]
    total = sum(tensor.numel() for _, layer in chosen for _, tensor in layer.in_file())
    whole = layers is not None and len(floats) == count_floats(network)  # of which the first layers are taken
    if len(floats) != total and not whole:
        raise InputError(_wrong_length(network, str(path), len(floats), total, [i for i, _ in chosen]))
    at = 0
    for _, layer in chosen:
        for name, tensor in layer.in_file():
            values = torch.from_numpy(floats[at : at + tensor.numel()].astype(np.float32))
            at += tensor.numel()
            dense = name == "weights" and tensor.ndim == 2
            shaped = (
                values.reshape(tensor.shape[::-1]).T if dense and header.transposed else values.reshape(tensor.shape)
            )
            tensor.copy_(shaped)
    return header


def save_darknet_weights(
    network: DarknetNetwork, path: str | Path, *, seen: int = 0, layers: int | None = None, overwrite: bool = False
) -> Path:
    """Write a network as a `.weights` file of version 0.2, which darknet reads with the same `.cfg`.

    Args:
        network: whose numbers are written.
        path: of the file.
        seen: images that it was trained on.
        layers: write only this number of first layers; None writes all layers.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path}: the file exists; give another name, or overwrite=True")
    with written_whole(path) as partial, partial.open("wb") as file:
        file.write(Header(seen=seen).to_bytes())
        for i, layer in network.weighted():
            if layers is None or i < layers:
                for _, tensor in layer.in_file():
                    file.write(_as_floats(tensor).tobytes())
    return path


def count_floats(network: DarknetNetwork) -> int:
    """Floats of the network's `.weights` file: its parameters and the statistics of its normalisations."""
    return sum(tensor.numel() for _, layer in network.weighted() for _, tensor in layer.in_file())


def _as_floats(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().contiguous().numpy().astype("<f4")


def _wrong_length(network: DarknetNetwork, path: str, held: int, total: int, chosen: list[int]) -> str:
    if held > total:
        last = f"layer {chosen[-1]} {_name(network, chosen[-1])}" if chosen else "no layer"
        part, repair = "the network has", "give the .cfg file that it was trained with"
        if len(chosen) < len(network.weighted()):
            part, repair = "its chosen layers have", f"{repair}, or another number of layers"
        return f"{path}: {held} floats, {held - total} more than {part} ({total}): it goes on behind {last}; {repair}"
    at = 0
    for i, layer in network.weighted():
        for name, tensor in layer.in_file():
            if at + tensor.numel() > held:
                return (
                    f"{path}: {held} floats, {total - held} fewer than the network has ({total}): it ends in layer {i} "
                    f"{_name(network, i)}, {held - at} of the {tensor.numel()} {name}; give the .cfg file that it was "
                    f"trained with, or layers={i} if it was cut off there on purpose"
                )
            at += tensor.numel()
    raise AssertionError  # held < total


def _name(network: DarknetNetwork, i: int) -> str:
    section = network.sections[i]
    return f"([{section.kind}], line {section.line} of {section.source})"
