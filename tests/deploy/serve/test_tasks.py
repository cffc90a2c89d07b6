"""A model of every task is served, and an exported one, with nothing of the tasks in the server (`pytest -m slow`)."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.tasks import TASKS

pytest.importorskip("httpx")
from fastapi.testclient import TestClient

RCNN = {"min_size": 96, "max_size": 160}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "detection": ("mask_rcnn_mobilenet_v2_fpn", RCNN),
    "proposal": ("region_proposal_network_mobilenet_v2", RCNN),
    "segmentation": ("lraspp_mobilenet_v3_large", {}),
    "classification": ("mobilenet_v2", {"image_size": 64}),
    "dense_captioning": ("densecap_mobilenet_v2", {**RCNN, "words": ["a", "red", "ball"]}),
    "scene_graph": ("scene_graph_mobilenet_v2_fpn", {**RCNN, "predicates": ["on", "near"]}),
    "cuboids": ("cube_rcnn_mobilenet_v2_fpn", RCNN),
    "video_captioning": ("video_captioner_mobilenet_v2", {"image_size": 64, "frames": 4, "words": ["runs", "jumps"]}),
    "meshes": ("mesh_rcnn_mobilenet_v2_fpn", {**RCNN, "grid": 8}),
}


def uploaded(task: str, folder: Path) -> tuple[str, bytes]:
    """The name and the bytes of a file for models of a task."""
    random = np.random.default_rng(0)
    if task == "video_captioning":
        pytest.importorskip("av")
        from sightline.data.videos import write_video

        write_video(folder / "film.mp4", random.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), 8.0)
        return "film.mp4", (folder / "film.mp4").read_bytes()
    out = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (72, 96, 3), dtype=np.uint8)).save(out, "PNG")
    return "photo.png", out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_answered_as_it_is_written_to_files(task: str, tmp_path: Path) -> None:
    name, arguments = MODELS[task]
    torch.manual_seed(0)
    model = sl.create_model(name, ["a", "b"], **arguments).eval()
    file, data = uploaded(task, tmp_path)
    (tmp_path / file).write_bytes(data)
    with TestClient(sl.server_app(model)) as client:
        for threshold in (0.0, 0.4):
            sl.predict_to_folder(model, tmp_path / file, tmp_path / f"out{threshold}", threshold=threshold)
            wanted = json.loads((tmp_path / f"out{threshold}" / "predictions.json").read_text(encoding="utf-8"))
            answer = client.post(f"/predict?threshold={threshold}&files=true", files={"image": (file, data)})
            assert answer.status_code == 200, answer.text
            found = answer.json()
            assert found["task"] == task
            if task == "video_captioning":  # by the names of the files
                wanted, found["prediction"] = (list(each.values()) for each in (wanted, found["prediction"]))
            own = json.dumps(found["prediction"]).replace("meshes/image_", "meshes/photo_")
            assert own == json.dumps(wanted)
        drawn = client.post("/draw?threshold=0.4", content=data)
        assert drawn.headers["content-type"] == "image/png", drawn.text
        if task != "video_captioning":
            refused = client.post("/predict", content=b"\x1aE\xdf\xa3" * 9)
            assert refused.status_code == 422
            assert "the video upload" in refused.json()["error"]


@pytest.mark.slow
def test_an_exported_model_is_served(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model = sl.create_model("mobilenet_v2", ["cat", "dog"], image_size=64).eval()
    sl.export(model, tmp_path / "net.onnx")
    data = uploaded("classification", tmp_path)[1]
    with TestClient(sl.server_app({"net": tmp_path / "net.onnx", "own": model})) as client:
        exported, own = (client.post(f"/predict?model={name}", content=data).json() for name in ("net", "own"))
        (one,), (other,) = (answer["prediction"]["images"] for answer in (exported, own))
        assert [best["category"] for best in one["predictions"]] == [best["category"] for best in other["predictions"]]
        for a, b in zip(one["predictions"], other["predictions"], strict=True):
            assert a["score"] == pytest.approx(b["score"], abs=1e-3)
        assert "CPUExecutionProvider" in client.get("/models").json()[0]["model"]
        refused = client.post("/explain?model=net", content=data)
        assert refused.status_code == 404
        assert "cannot be explained; serve the model that it was made from" in refused.json()["error"]
        assert client.post("/models/net/reload").status_code == 200
