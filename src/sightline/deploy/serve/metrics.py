"""Counters of a server, as the text that Prometheus reads."""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Labels = tuple[tuple[str, str], ...]
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters, histograms and gauges by name and labels. All methods are safe to call from several threads.

    The text follows Prometheus' exposition format 0.0.4.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._counters: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, tuple[Sequence[float], dict[Labels, list[float]]]] = {}
        self._gauges: dict[str, Callable[[], Mapping[Labels, float]]] = {}

    def counter(self, name: str, text: str) -> None:
        """Declare a counter; `text` says what it counts."""
        self._help[name] = ("counter", text)
        self._counters[name] = {}

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> None:
        """Declare a histogram with the upper bounds of its buckets."""
        self._help[name] = ("histogram", text)
        self._histograms[name] = (bounds, {})

    def gauge(self, name: str, text: str, read: Callable[[], Mapping[Labels, float]], kind: str = "gauge") -> None:
        """Declare a value that is read when the text is made."""
        self._help[name] = (kind, text)
        self._gauges[name] = read

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Increase a counter."""
        key = tuple(labels.items())
        with self._lock:
            self._counters[name][key] = self._counters[name].get(key, 0) + amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram."""
        key = tuple(labels.items())
        bounds, rows = self._histograms[name]
        with self._lock:
            row = rows.setdefault(key, [0.0] * (len(bounds) + 2))  # per bucket, above all, and the sum
            row[bisect.bisect_left(bounds, value)] += 1
            row[-1] += value

    def text(self) -> str:
        """All metrics as text."""
        lines: list[str] = []
        with self._lock:
            counters = {name: dict(rows) for name, rows in self._counters.items()}
            histograms = {
                name: (bounds, {key: list(row) for key, row in rows.items()})
                for name, (bounds, rows) in self._histograms.items()
            }
        for name, (kind, text) in self._help.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            if name in counters:
                lines += [f"{name}{_braces(key)} {value:g}" for key, value in counters[name].items()]
            elif name in histograms:
                bounds, rows = histograms[name]
                for key, row in rows.items():
                    total = 0.0
                    for bound, count in zip((*bounds, "+Inf"), row[:-1], strict=True):
                        total += count
                        lines.append(f"{name}_bucket{_braces((*key, ('le', str(bound))))} {total:g}")
                    lines += [f"{name}_sum{_braces(key)} {row[-1]:g}", f"{name}_count{_braces(key)} {total:g}"]
            else:
                lines += [f"{name}{_braces(key)} {value:.15g}" for key, value in self._gauges[name]().items()]
        return "\n".join(lines) + "\n"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    escaped = ((k, v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for k, v in labels)
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped) + "}"


def server_metrics(queues: Callable[[], Mapping[str, int]]) -> Metrics:
    """The metrics of a server; `queues` gives the number of images in the queue of each model."""
    metrics = Metrics()
    metrics.counter("sightline_requests_total", "Requests by path and status.")
    metrics.histogram("sightline_request_seconds", "Seconds from a request's headers to its last byte.", SECONDS)
    metrics.counter("sightline_images_total", "Images predicted or explained.")
    metrics.histogram("sightline_batch_size", "Images per batch.", SIZES)
    metrics.histogram("sightline_batch_seconds", "Seconds that the model takes for a batch.", SECONDS)
    metrics.counter("sightline_reloads_total", "Reloads of models by outcome.")
    metrics.gauge(
        "sightline_queue_images",
        "Images that are decoded, wait, or are predicted.",
        lambda: {(("model", name),): float(count) for name, count in queues().items()},
    )
    metrics.gauge("process_cpu_seconds_total", "CPU seconds.", lambda: {(): time.process_time()}, "counter")
    metrics.gauge("process_resident_memory_bytes", "Memory in use.", lambda: {(): resident_bytes()})
    began = time.time()
    metrics.gauge("process_start_time_seconds", "When the server started.", lambda: {(): began})
    return metrics


def resident_bytes() -> float:
    """The process's resident memory in bytes; its peak where the system does not tell the present one."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return float(int(pages.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if os.uname().sysname == "Darwin" else peak * 1024)
