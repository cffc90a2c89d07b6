"""The OpenAPI document is true: generated requests, right and wrong, are answered as it says (`pytest -m slow`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.deploy.serve.settings import ServerSettings
from tests.deploy.serve.toys import Spotter

pytest.importorskip("httpx")
from fastapi.testclient import TestClient


def document(**settings: Any) -> Any:
    with TestClient(sl.server_app(Spotter(), **settings)) as client:
        return client.get("/openapi.json").json()


def test_every_address_and_refusal_is_described():
    found = document()
    assert sorted(found["paths"]) == [
        *("/", "/draw", "/explain", "/health", "/metrics", "/models", "/models/{name}/reload", "/predict"),
    ]
    for path, methods in found["paths"].items():
        for method, what in methods.items():
            assert what["summary"], path
            assert what["description"], path
            if method == "post" and "{name}" not in path:
                assert {*what["responses"]} >= {"200", "400", "404", "408", "413", "415", "422", "503"}
                assert "multipart/form-data" in what["requestBody"]["content"]
                assert all("description" in parameter for parameter in what["parameters"])
    assert "security" not in found["paths"]["/predict"]["post"]
    assert "50000000 pixels" in found["info"]["description"]
    assert "HTTPValidationError" not in str(found)


HOOKS = """
import schemathesis
from hypothesis import strategies as st
from tests.deploy.serve.toys import sent

images = st.builds(sent, st.integers(14, 255), st.integers(1, 40), st.integers(1, 40))
schemathesis.openapi.format("binary", images)
for kind in ("jpeg", "png", "webp", "tiff", "bmp"):
    schemathesis.openapi.media_type(f"image/{kind}", images)
schemathesis.openapi.media_type("application/octet-stream", images)
"""
"""Bytes that the document allows are images here; any others are refused, which the document cannot say."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), [("spotter", "secret"), ("squeezenet1_1", None)])
def test_generated_requests_are_answered_as_described(name, key, tmp_path):
    """A model that is not explained, with a key, and one that is."""
    pytest.importorskip("uvicorn")
    if shutil.which("st", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("needs schemathesis")
    from sightline.deploy.serve.running import listening, run

    (tmp_path / "image_hooks.py").write_text(HOOKS, encoding="utf-8")
    listener = listening("127.0.0.1", 0)
    model = Spotter() if name == "spotter" else sl.create_model(name, classes=["cat", "dog"])
    app = sl.server_app(model, api_key=key, max_queue=1000)
    threading.Thread(target=run, args=(app, ServerSettings(key), listener), daemon=True).start()
    root = Path(__file__).resolve().parents[3]
    places = os.pathsep.join([str(tmp_path), str(root), os.environ.get("PYTHONPATH", "")])
    command = [
        *(str(Path(sys.executable).parent / "st"), "run"),
        f"http://127.0.0.1:{listener.getsockname()[1]}/openapi.json",
        *("--max-examples", "25", "--seed", "1", "--max-time", "60", "--request-timeout", "60"),
        *("--suppress-health-check", "all", "--no-color", *(["-H", f"X-API-Key: {key}"] if key else [])),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "image_hooks", "PYTHONPATH": places}
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, env=environment, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "8 selected / 8 total" in ran.stdout
