"""Proposals kept on disk: found again by content, whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.proposals import ArrayFolder, CachedProposals


@dataclass
class Counted:
    """Two boxes of the image, and how often it was asked."""

    offset: float = 0.0
    asked: list[int] = field(default_factory=list, repr=False)

    def __call__(self, image: Tensor) -> Tensor:
        self.asked.append(1)
        height, width = image.shape[-2:]
        return torch.tensor([[0, 0, width, height], [self.offset, 0, width / 2, height]])


def test_found_by_content(tmp_path: Path) -> None:
    source = Counted()
    cached = CachedProposals(source, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8)
    first = cached(image)
    assert torch.equal(first, cached(image.clone()))
    assert len(source.asked) == 1
    assert torch.equal(first, CachedProposals(Counted(), tmp_path / "kept")(image))
    changed = image.clone()
    changed[0, 0, 0] ^= 1
    cached(changed)
    cached(image.transpose(1, 2))
    cached(image.float())
    assert len(source.asked) == 4
    other = Counted(1.0)
    CachedProposals(other, tmp_path / "kept")(image)
    assert len(other.asked) == 1
    assert not list(tmp_path.rglob("*.partial"))


def test_broken_files_are_written_anew(tmp_path: Path) -> None:
    source = Counted()
    cached = CachedProposals(source, tmp_path)
    image = torch.zeros(3, 8, 9)
    boxes = cached(image)
    file = next(tmp_path.rglob("*.npy"))
    for content in (b"", file.read_bytes()[:-7], b"not an array"):
        file.write_bytes(content)
        assert torch.equal(cached(image), boxes)
        assert np.load(file).shape == (2, 4)
    assert len(source.asked) == 4


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    kept = ArrayFolder(tmp_path)
    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        kept.keep("abcdef", np.zeros(3))
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert kept.get("abcdef") is None


def test_empty_results_are_kept(tmp_path: Path) -> None:
    kept = ArrayFolder(tmp_path)
    kept.keep("abcdef", np.zeros((0, 4), np.float32))
    found = kept.get("abcdef")
    assert found is not None
    assert found.shape == (0, 4)


def test_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file, but results are kept in a folder"):
        ArrayFolder(file)
    with pytest.raises(InputError, match="cannot be kept there"):
        ArrayFolder(file / "below").keep("abc", np.zeros(1))
    with pytest.raises(InputError, match="its repr does not say what it does"):
        CachedProposals(lambda image: image, tmp_path)
