"""The examples that show how to change the library run, and do what they say."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from sightline.ops.boxes import box_iou
from sightline.structures import Instances

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_replaced_assignment_equals_a_loop_over_objects() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = []
    for count, side in ((300, 20.0), (120, 40.0), (30, 80.0)):
        centres = torch.rand(count, 2, generator=generator) * 200
        sides = side * (0.7 + 0.6 * torch.rand(count, 2, generator=generator))
        levels.append(torch.cat([centres - sides / 2, centres + sides / 2], 1))
    corners = torch.rand(5, 2, generator=generator) * 120
    sides = 15 + torch.rand(5, 2, generator=generator) * 60
    target = Instances((200, 200), boxes=torch.cat([corners, corners + sides], 1), labels=[1, 1, 2, 3, 1])
    empty = Instances((200, 200), boxes=torch.zeros(0, 4), labels=[])

    anchors = torch.cat(levels)
    taken = [(0.0, -1)] * len(anchors)  # overlap and object of each anchor
    for g, box in enumerate(target.boxes):
        centre = (box[:2] + box[2:]) / 2
        near, start = [], 0
        for level in levels:
            apart = ((level[:, :2] + level[:, 2:]) / 2 - centre).norm(dim=1).tolist()
            near += [start + n for n in sorted(range(len(level)), key=apart.__getitem__)[:81]]
            start += len(level)
        overlaps = [float(box_iou(box[None], anchors[n : n + 1])) for n in near]
        mean = sum(overlaps) / len(overlaps)
        threshold = mean + math.sqrt(sum((v - mean) ** 2 for v in overlaps) / (len(overlaps) - 1))
        for n, overlap in zip(near, overlaps, strict=True):
            x, y = ((anchors[n, :2] + anchors[n, 2:]) / 2).tolist()
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            if overlap >= threshold and inside and overlap > taken[n][0]:
                taken[n] = (overlap, g)
    assert {g for _, g in taken} == {-1, 0, 1, 2, 3, 4}
    found = example("replace_assignment").assign(levels, [target, empty])
    assert found[0].tolist() == [g for _, g in taken]
    assert set(found[1].tolist()) == {-1}


def test_retinanet_trains_with_the_replaced_assignment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = {"batch_size": 4, "workers": 0, "warmup_steps": 1, "progress": False, "device": "cpu", "report": False}
    found = example("replace_assignment").main(epochs=1, images=8, runs=tmp_path, **quick)
    assert list(found) == ["two thresholds", "spread of overlaps"]
    assert all(0 <= value <= 1 for value in found.values())
    assert "spread of overlaps: AP50" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 2


def test_the_checkerboard_is_there_and_gone(tmp_path: Path) -> None:
    found = example("checkerboard").main(tmp_path / "board.png")
    uneven, even, resized = found.values()
    assert uneven[0] > 1
    assert even[0] == pytest.approx(0, abs=1e-6)
    assert resized[0] == pytest.approx(0, abs=1e-6)
    assert resized[1] < 0.1 * min(uneven[1], 2 * even[1])
    with Image.open(tmp_path / "board.png") as picture:
        assert picture.width > picture.height > 300
