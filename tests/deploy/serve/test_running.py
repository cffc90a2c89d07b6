"""A server with its socket: slow clients, an orderly end, and the command."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline as sl
from sightline.errors import InputError
from tests.deploy.serve.toys import Spotter, sent

pytest.importorskip("uvicorn")

from sightline.deploy.serve.running import listening, run
from sightline.deploy.serve.settings import ServerSettings
from sightline.verbs.serve import parse_models

TIMEOUT = 0.6


@pytest.fixture(scope="module")
def address() -> tuple[str, int]:
    """A server in a thread, which is left to end with the process: threads get no signals."""
    listener = listening("127.0.0.1", 0)
    app = sl.server_app(Spotter(), timeout=TIMEOUT, max_body_mb=1)
    threading.Thread(target=run, args=(app, ServerSettings(timeout=TIMEOUT), listener), daemon=True).start()
    return listener.getsockname()


def conversation(address: tuple[str, int], *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts with pauses between them; everything that comes back until the server closes the connection."""
    with socket.create_connection(address, timeout=10) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        found = b""
        while got := client.recv(65536):
            found += got
        return found


def test_a_request_is_answered(address):
    image = sent()
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(image)}\r\n\r\n".encode()
    answer = conversation(address, head + image)
    assert answer.startswith(b"HTTP/1.1 200")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["task"] == "detection"


def test_connections_that_send_nothing_are_closed(address):
    began = time.monotonic()
    assert b" 408 " in conversation(address).split(b"\r\n")[0]
    assert time.monotonic() - began < 5


def test_slow_headers_are_refused(address):
    answer = conversation(address, b"GET /health HTT", b"P/1.1\r\nHos", b"t: a\r\nA", b"B: c", pause=0.16)
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"did not arrive in time" in answer


def test_slow_bodies_are_refused(address):
    answer = conversation(address, b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n", b"\x89PNG")
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b"the body did not arrive within 0.6 seconds" in answer


def test_the_rest_of_a_body_that_is_too_large_does_not_keep_a_connection(address):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n"
    began = time.monotonic()
    answer = conversation(address, head, b"a" * 100_000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"larger than 1 MB" in answer
    assert time.monotonic() - began < 8


def test_what_is_no_http_is_refused(address):
    assert conversation(address, b"\x16\x03\x01\x02\x00\x01\n\n\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_slow_clients_do_not_hold_up_others(address):
    with ThreadPoolExecutor(8) as pool:
        slow = [
            pool.submit(conversation, address, b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            for _ in range(8)
        ]
        request = urllib.request.Request(f"http://127.0.0.1:{address[1]}/predict", sent(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
        assert all(future.result().startswith(b"HTTP/1.1 408") for future in slow)


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off():
    """Its answer of some megabytes does not stay in memory; without the limit it would arrive whole."""
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG", compress_level=1)
    body = out.getvalue()
    listener = listening("127.0.0.1", 0)
    app = sl.server_app(Spotter(), timeout=20)
    threading.Thread(target=run, args=(app, ServerSettings(timeout=1.5), listener), daemon=True).start()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(listener.getsockname())
        client.sendall(f"POST /draw HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = client.recv(4096)
        assert head.startswith(b"HTTP/1.1 200")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        time.sleep(4)
        found = len(head)
        with suppress(ConnectionResetError):
            while got := client.recv(65536):
                found += len(got)
    assert found < length


def test_an_address_that_is_taken_is_named(address):
    with pytest.raises(InputError, match=rf"cannot listen at 127.0.0.1, port {address[1]} \(.*in use\)"):
        sl.serve(Spotter(), port=address[1])
    with pytest.raises(InputError, match=r"listen at no\.invalid, port 0 \([A-Z][^\[]*[a-z ]\); give another host"):
        sl.serve(Spotter(), host="no.invalid", port=0)
    with pytest.raises(InputError, match="port is 70000"):
        sl.serve(Spotter(), port=70000)


def test_words_of_the_command_line(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert parse_models(["runs/cells", "x=exports/net.onnx"]) == {"cells": "runs/cells", "x": "exports/net.onnx"}
    assert parse_models([str(tmp_path / "a=b")]) == {"a=b": str(tmp_path / "a=b")}
    with pytest.raises(InputError, match="two models are named 'cells'"):
        parse_models(["runs/cells", "old/cells"])


@pytest.mark.slow
def test_the_command_serves_reloads_and_ends_in_order(tmp_path: Path):
    """SIGHUP loads the model again; SIGTERM answers what has arrived, and the exit code is 0."""
    file = tmp_path / "net.safetensors"
    sl.save(sl.create_model("mobilenet_v2", ["a", "b"], image_size=32), file)
    command = [sys.executable, "-m", "sightline", "serve", str(file), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "SIGHTLINE_API_KEY": "k"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        base = re.search(r"serving net at (http://\S+)", line)
        assert base, line

        def ask(path: str, data: bytes | None = None) -> dict[str, object]:
            request = urllib.request.Request(base[1] + path, data, {"X-API-Key": "k"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                found: dict[str, object] = json.load(answer)
                return found

        assert ask("/predict", sent())["model"] == "net"
        file.unlink()
        sl.save(sl.create_model("mobilenet_v2", ["c", "d"], image_size=32), file)
        server.send_signal(signal.SIGHUP)
        assert server.stderr.readline() == "net: loaded again\n"
        assert ask("/predict", sent())["prediction"]["categories"][0]["name"] == "c"
        with ThreadPoolExecutor(6) as pool:
            waiting = [pool.submit(ask, "/predict", sent(width=300 + k, height=200)) for k in range(6)]
            time.sleep(0.3)
            server.send_signal(signal.SIGTERM)
            assert all(future.result()["model"] == "net" for future in waiting)
        assert server.wait(30) == 0
        assert server.stderr.read() == ""
