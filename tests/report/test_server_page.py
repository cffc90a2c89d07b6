"""The page of a server: nothing comes from elsewhere, and its script reads what the writers write."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sightline.report
from sightline.deploy.writers.base import PredictedImage
from sightline.ops.masks import mask_to_rle
from sightline.report.server_page import server_page
from sightline.structures import Classes, ClassScores, Instances
from sightline.tasks import TASKS

SCRIPT = Path(sightline.report.__file__).parent / "server_page.js"
CHECK = Path(__file__).with_name("server_page_check.js")


def test_the_page_is_one_file():
    page = server_page()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "@import" not in page
    assert "innerHTML" not in page  # names of classes and files are text
    ids = set(re.findall(r'id="(\w+)"', page))
    assert set(re.findall(r'at\("(\w+)"\)', page)) <= ids
    assert page.count("<script>") == page.count("</script>") == 1


def written(task: str, result: Any, classes: Classes, folder: Path) -> Any:
    """The contents of predictions.json for a result of an image of 6×9 pixels."""
    writer = TASKS[task].writer
    assert writer is not None
    folder.mkdir()
    writing = writer.begin(folder, [Path("image.png")], classes, writer.formats[:1])
    writing.add(PredictedImage(1, 0, Path("image.png"), (6, 9)), result, None)
    writing.finish(0.5, True)
    return json.loads((folder / "predictions.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's script")
def test_the_script_reads_what_is_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    masks = [random.random((6, 9)) < share for share in (0, 0.1, 0.5, 0.9, 1)]
    masks += [random.random((130, 70)) < 0.4, np.pad(np.ones((200, 300), bool), 150)]  # long and short runs
    classes = Classes(["cat", "dog"])
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 1.0, 8.0, 5.0]])
    fields = {"boxes": boxes, "labels": [1, 1], "scores": [0.75, 0.25], "masks": torch.from_numpy(np.stack(masks[2:4]))}
    objects = Instances((6, 9), classes=classes, **fields)
    scores = ClassScores((6, 9), scores=torch.tensor([0.2, 0.8]), classes=classes)
    cases = {
        "masks": [mask_to_rle(mask) for mask in masks],
        "predictions": [
            written("detection", objects, classes, tmp_path / "a"),
            written("classification", scores, classes, tmp_path / "b"),
            {"film": {"duration": 9, "timestamps": [[1, 2.5]], "sentences": ["a cat"], "scores": [0.5]}},
            {
                "images": [{"id": 1, "relations": [[5, "on", 4]], "relation_scores": [0.5]}],
                "annotations": [{"id": 4, "category": "mat"}, {"id": 5, "category": "cat"}],
            },
        ],
        "thresholds": [0, 0.25, 0.5, 0.8],
    }
    ran = subprocess.run(
        ["node", CHECK, SCRIPT], input=json.dumps(cases), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for mask, pixels in zip(masks, found["masks"], strict=True):
        columns_first = np.argwhere(mask.T)
        assert pixels == columns_first.tolist()
    first, second, third, fourth = found["contents"]
    assert [one["score"] for one in first["annotations"]] == [0.75, 0.25]
    assert (first["width"], first["height"]) == (9, 6)
    assert [(one["category"], one["score"]) for one in second["scores"]] == [("dog", 0.8), ("cat", 0.2)]
    assert third["events"] == [{"times": [1, 2.5], "text": "a cat", "score": 0.5}]
    assert fourth["relations"] == [{"text": "cat 1 on mat 0", "score": 0.5, "between": [5, 4]}]
    assert found["relations"] == [1, 0]  # with both objects, and with one of them hidden
    assert found["numbered"] == [False, False, False, True]  # relations name the numbers of objects
    assert found["shown"] == [2, 2, 1, 0]
    assert found["colours"] == ["a", "b"]  # masks of one class have a colour each
