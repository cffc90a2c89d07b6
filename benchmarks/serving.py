"""A server under load: its requests per second beside the bare model's, and 10 000 right and wrong requests.

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--model sightline_n] [--side 320] [--requests 10000]

A model with random weights is saved, and served by `sightline serve` in a process of its own. This process is the
clients: connections that are kept alive, each with one request at a time.

1. Speed: in turns, for some seconds each, the bare model predicts batches of 8 decoded images in a process of its own,
   and the server answers JPEG images of the same size from 32 clients; so what else the machine does meets both. The
   ratio of each round compares the two halves; the median counts. CPU seconds per image, which other processes change
   little, are given beside it: the server's include HTTP, decoding, and JSON.
2. Endurance: 10 000 requests of many kinds, with small images, from 32 clients to a server whose queue holds 24; each
   has the statuses that may answer it, and 503 may answer any. The server's memory is read after every 500.

Writes benchmarks/results/serving.json, and .md from it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sightline as sl
from sightline_detector import RESULTS, machine

CLIENTS, QUEUE = 32, 24
BARE = """
import json, sys, time, torch, sightline as sl
model = sl.load(sys.argv[1])
images = [torch.randint(0, 256, (3, {side}, {side}), dtype=torch.uint8) for _ in range(8)]
with torch.no_grad():
    model(images)
    print("ready", flush=True)
    for line in sys.stdin:
        end, count, cpu = time.perf_counter() + float(line), 0, time.process_time()
        began = time.perf_counter()
        while time.perf_counter() < end:
            model(images)
            count += 8
        print(json.dumps([count / (time.perf_counter() - began), (time.process_time() - cpu) / count]), flush=True)
"""


def picture(height: int, width: int, kind: str = "JPEG", seed: int = 0) -> bytes:
    """The bytes of an image with coarse and fine noise, whose size in bytes is that of a photograph."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    image += generator.integers(-12, 13, image.shape)
    out = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(out, kind)
    return out.getvalue()


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Attributes:
        name: for the table.
        data: the bytes of the whole request.
        allowed: the statuses that may answer it; empty for one that the client breaks off.
        weight: how often it is sent.
    """

    name: str
    data: bytes
    allowed: tuple[int, ...]
    weight: float


def post(path: str, body: bytes, headers: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


def form(body: bytes) -> bytes:
    head = b'--line\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return post("/predict", head + body + b"\r\n--line--\r\n", "Content-Type: multipart/form-data; boundary=line\r\n")


def bomb(side: int = 30_000) -> bytes:
    """A PNG whose header claims side × side pixels."""
    small = bytearray(picture(8, 8, "PNG"))
    small[16:24] = side.to_bytes(4, "big") * 2
    import zlib

    small[29:33] = zlib.crc32(bytes(small[12:29])).to_bytes(4, "big")
    return bytes(small)


def kinds(side: int) -> list[Kind]:
    """The requests of the second part."""
    image = picture(side, side)
    good = [
        Kind("JPEG", post("/predict", image), (200,), 30),
        Kind("JPEG, wide", post("/predict?threshold=0.1", picture(side // 2, side, seed=1)), (200,), 15),
        Kind("PNG in a form", form(picture(side // 2, side // 2, "PNG")), (200,), 15),
        Kind("WebP, small", post("/predict?files=true", picture(48, 64, "WEBP")), (200,), 10),
        Kind("heat map", post("/explain", picture(96, 96)), (200,), 0.5),
        Kind("drawing", post("/draw", picture(96, 96)), (200,), 1),
        Kind("/models", b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n", (200,), 2),
        Kind("/metrics", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", (200,), 1),
    ]
    bad = [
        Kind("no image", post("/predict", b"nothing of the kind"), (415,), 3),
        Kind("an address", post("/predict", b'{"url": "http://127.0.0.1/a.jpg"}'), (415,), 3),
        Kind("no body", post("/predict", b""), (400,), 3),
        Kind("truncated JPEG", post("/predict", image[: len(image) // 2]), (422,), 3),
        Kind("bomb", post("/predict", bomb()), (413,), 3),
        Kind("body too large", post("/predict", image, length=10**9), (413,), 1),
        Kind("broken form", post("/predict", b"x", "Content-Type: multipart/form-data; boundary=y\r\n"), (400,), 2),
        Kind("threshold of 7", post("/predict?threshold=7", image), (422,), 2),
        Kind("unknown model", post("/predict?model=none", image), (404,), 2),
        Kind("unknown path", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", (404,), 2),
        Kind("wrong method", b"GET /predict HTTP/1.1\r\nHost: x\r\n\r\n", (405,), 2),
        Kind("no HTTP", b"\x16\x03\x01 hello\r\n\r\n", (400,), 1),
        Kind("broken off", post("/predict", image)[: len(image) // 3], (), 2),
    ]
    return good + bad


class Client:
    """A connection that is kept alive, and opened again when the server has closed it."""

    def __init__(self, port: int):
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, kind: Kind) -> int:
        """Send a request; the status of its answer, or 0 for one that is broken off."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        reader, writer = self.streams
        writer.write(kind.data)
        if not kind.allowed:
            await writer.drain()
            self.close()
            return 0
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"content-length: (\d+)", head, re.I)
        if length:
            await reader.readexactly(int(length[1]))
        if b"connection: close" in head.lower() or kind.name in ("body too large", "no HTTP"):
            self.close()
        return status

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


@contextmanager
def serving(file: Path, *options: str) -> Iterator[str]:
    """A server in a process of its own, which must end with exit code 0, and say nothing else; its address."""
    command = [sys.executable, "-m", "sightline", "serve", str(file), "--port", "0", "--device", "cpu", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield server.stderr.readline().split(" at ")[1].split(" ")[0]
        finally:
            server.terminate()
            code, said = server.wait(60), server.stderr.read()
    assert (code, said) == (0, ""), (code, said)


def read(base: str, path: str) -> str:
    with urllib.request.urlopen(base + path, timeout=60) as answer:
        return answer.read().decode()


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0


async def answered(port: int, seconds: float, kind: Kind) -> tuple[float, list[float]]:
    """Requests per second of all clients, and the seconds of each request."""
    spent: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        own = Client(port)
        while (began := time.perf_counter()) < end:
            assert await own.ask(kind) == 200
            spent.append(time.perf_counter() - began)
        own.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return len(spent) / (time.perf_counter() - began), spent


def speed(file: Path, base: str, side: int, rounds: int, seconds: float) -> dict[str, Any]:
    """The bare model and the server in turns."""
    port = int(base.rsplit(":", 1)[1])
    kind = Kind("JPEG", post("/predict", picture(side, side)), (200,), 1)
    command = [sys.executable, "-c", BARE.format(side=side), str(file)]
    rows, latencies = [], []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bare:
        assert bare.stdin is not None
        assert bare.stdout is not None
        bare.stdout.readline()
        asyncio.run(answered(port, 2, kind))
        for turn in range(rounds):
            bare.stdin.write(f"{seconds}\n")
            bare.stdin.flush()
            alone, cpu = json.loads(bare.stdout.readline())
            before = read(base, "/metrics")
            served, spent = asyncio.run(answered(port, seconds, kind))
            after = read(base, "/metrics")
            used = metric(after, "process_cpu_seconds_total") - metric(before, "process_cpu_seconds_total")
            batches = metric(after, "sightline_batch_size_count") - metric(before, "sightline_batch_size_count")
            latencies += spent
            rows.append(
                {
                    "bare": alone,
                    "served": served,
                    "ratio": served / alone,
                    "bare_cpu_ms": 1000 * cpu,
                    "served_cpu_ms": 1000 * used / len(spent),
                    "batch": len(spent) / batches,
                    "load": os.getloadavg()[0],
                }
            )
            print({name: round(value, 3) for name, value in rows[-1].items()}, f"round {turn + 1}", flush=True)
        bare.stdin.close()
    cut = np.percentile(latencies, [50, 99]) * 1000
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return {"rounds": rows, "median": middle, "p50_ms": cut[0], "p99_ms": cut[1]}


def endurance(base: str, side: int, requests: int) -> dict[str, Any]:
    """Right and wrong requests; nothing may be lost, and memory must stay flat."""
    port = int(base.rsplit(":", 1)[1])
    known = kinds(side)
    order = random.Random(0).choices(known, [kind.weight for kind in known], k=requests)
    found: Counter[tuple[str, int]] = Counter()
    memory: list[float] = []
    wrong: list[str] = []
    todo = iter(enumerate(order))

    async def client() -> None:
        own = Client(port)
        for number, kind in todo:
            try:
                status = await own.ask(kind)
            except (OSError, asyncio.IncompleteReadError) as error:
                status = -1
                wrong.append(f"{kind.name}: lost ({type(error).__name__})")
                own.close()
            found[kind.name, status] += 1
            if status == 503:
                await asyncio.sleep(0.2)
            if status > 0 and status not in (*kind.allowed, 503):
                wrong.append(f"{kind.name}: {status}")
            if (number + 1) % 500 == 0:
                text = await asyncio.to_thread(read, base, "/metrics")
                memory.append(metric(text, "process_resident_memory_bytes") / 2**20)
                print(f"{number + 1} requests, {memory[-1]:.0f} MiB", flush=True)
        own.close()

    async def all_clients() -> None:
        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    began, load = time.perf_counter(), os.getloadavg()[0]
    asyncio.run(all_clients())
    rows = [
        {"kind": kind.name, "answers": {str(s): n for (name, s), n in sorted(found.items()) if name == kind.name}}
        for kind in known
    ]
    settled = memory[len(memory) // 5 :]  # after the first fifth, when every kind has been met
    return {
        "requests": requests,
        "seconds": time.perf_counter() - began,
        "load": [load, os.getloadavg()[0]],
        "kinds": rows,
        "wrong": wrong,
        "lost": sum(n for (_, status), n in found.items() if status < 0),
        "refused_503": sum(n for (_, status), n in found.items() if status == 503),
        "other_5xx": sum(n for (_, status), n in found.items() if status >= 500 and status != 503),
        "memory_mib": memory,
        "memory_change": settled[-1] / settled[0] - 1 if settled else None,
    }


def written(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    quick, long = results["speed"], results["endurance"]
    middle = quick["median"]
    lines = [
        "# A server under load",
        "",
        f"{results['model']} with random weights, images of {results['side']}×{results['side']} pixels (JPEG), one "
        f"thread for the model; {CLIENTS} clients on the same machine. Made by `python benchmarks/serving.py`.",
        f"{results['machine']}; {results['versions']}.",
        "",
        "## Requests per second beside the bare model's",
        "",
        "The bare model predicts batches of 8 decoded images. In turns; the median of "
        f"{len(quick['rounds'])} rounds, load {min(r['load'] for r in quick['rounds']):.1f} … "
        f"{max(r['load'] for r in quick['rounds']):.1f}.",
        "",
        "| | per second | CPU ms per image |",
        "|---|---:|---:|",
        f"| bare model, batches of 8 | {middle['bare']:.1f} | {middle['bare_cpu_ms']:.1f} |",
        f"| server, batches of {middle['batch']:.1f} | {middle['served']:.1f} | {middle['served_cpu_ms']:.1f} |",
        "",
        f"Ratio of requests per second: {middle['ratio']:.2f} (rounds: "
        f"{', '.join(format(row['ratio'], '.2f') for row in quick['rounds'])}); of images per CPU second: "
        f"{middle['bare_cpu_ms'] / middle['served_cpu_ms']:.2f}. The server's CPU time includes HTTP, "
        "decoding and JSON, which run beside the model on the other core; so does what the clients need, which is not "
        "counted.",
        f"Latency with {CLIENTS} clients that never pause: p50 {quick['p50_ms']:.0f} ms, p99 {quick['p99_ms']:.0f} ms.",
        "",
        f"## {long['requests']} requests, right and wrong",
        "",
        f"The same model at {results['small']} pixels, a queue of {QUEUE}: {long['seconds']:.0f} s, load "
        f"{long['load'][0]:.1f} at the start and {long['load'][1]:.1f} at the end. "
        f"Lost: {long['lost']}. Answers of another kind than expected: {len(long['wrong'])}. Status 503: "
        f"{long['refused_503']}; other 5xx: {long['other_5xx']}.",
        f"Memory after every 500 requests, MiB: {', '.join(format(value, '.0f') for value in long['memory_mib'])}; "
        f"from the first fifth to the end {100 * (long['memory_change'] or 0):+.1f} %.",
        "",
        "| request | answers |",
        "|---|---|",
    ]
    for row in long["kinds"]:
        shown = ", ".join(
            "closed by the client" + f": {n}" if status == "0" else f"{status}: {n}"
            for status, n in row["answers"].items()
        )
        lines.append(f"| {row['kind']} | {shown} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sightline_n")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--small", type=int, default=96, help="side of the images of the second part")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "serving.json")
    own = parser.parse_args()
    results: dict[str, Any] = {"model": own.model, "side": own.side, "small": own.small, **machine()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        sl.save(sl.create_model(own.model, [str(i) for i in range(20)], image_size=own.side), file)
        with serving(file) as base:
            results["speed"] = speed(file, base, own.side, own.rounds, own.seconds)
        small = Path(folder) / "small.safetensors"
        sl.save(sl.create_model(own.model, [str(i) for i in range(20)], image_size=own.small), small)
        with serving(small, "--max-queue", str(QUEUE)) as base:
            results["endurance"] = endurance(base, own.small, own.requests)
    own.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    own.out.with_suffix(".md").write_text(written(results), encoding="utf-8")
    print(written(results))


if __name__ == "__main__":
    main()
