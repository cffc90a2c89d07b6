"""Start several processes of the command line that work on one job on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from sightline.runtime.processes import world_size

_LAUNCHER = "SIGHTLINE_LAUNCHER"
"""The environment variable with the number of the process that has started the others."""
_PATIENCE = 10.0
"""Seconds that processes have to stop after they were asked to."""


def unstarted_processes() -> int | None:
    """The number of processes that `accelerate launch --cpu --num_processes N` was asked for but did not start.

    Without MPI it starts a single process on the CPU, whatever N is, and says nothing.

    Returns:
        N; 0 if it is unknown; None if nothing is missing.
    """
    wanted = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1") and "MASTER_PORT" in os.environ
    if not wanted or world_size() > 1 or "RANK" in os.environ:
        return None
    import psutil  # comes with accelerate

    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):
        return 0
    return _count_in(words)


def _count_in(words: Sequence[str]) -> int:
    """The value of --num_processes in the launcher's command line; 0 if there is none."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "-m" and not following.startswith("accelerate"):  # python -m accelerate.commands.launch
            return 0  # what follows are the words of the program
        name, equals, value = word.replace("-", "_").partition("=")
        if name == "__num_processes":
            text = value if equals else following
            return int(text) if text.isdigit() else 0
    return 0


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `sightline ARGUMENTS` in several processes on this machine; return the exit code.

    If one process fails, the others are stopped and its exit code is returned. The processes find each other by the
    environment variables of `torchrun`. Unless OMP_NUM_THREADS is set, they share the cores.

    Args:
        processes: number of processes.
        arguments: the words after `sightline`.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    threads = max(1, (os.cpu_count() or 1) // processes)
    common = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        _LAUNCHER: str(os.getpid()),
    }
    started: list[subprocess.Popen[bytes]] = []

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        for number in range(processes):
            own = {"RANK": str(number), "LOCAL_RANK": str(number)}
            started.append(subprocess.Popen([sys.executable, "-m", "sightline", *arguments], env=common | own))
        return _waited(started)
    except KeyboardInterrupt:  # it has reached all processes of the terminal
        _end(started, ask=False)
        return 130
    finally:
        _end(started)
        signal.signal(signal.SIGTERM, before)


def end_with_launcher() -> None:
    """Interrupt this process, as by Ctrl-C, if the one that `launch` ran in is killed and cannot end it.

    Otherwise it would go on training in a run that the user may resume meanwhile.
    """
    launcher = os.environ.get(_LAUNCHER, "")
    if not launcher.isdigit():
        return

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(0.5)
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # as in the background of a shell script
        os.kill(os.getpid(), signal.SIGTERM if ignored else signal.SIGINT)

    if os.name == "posix":  # elsewhere the parent's number stays the same
        threading.Thread(target=watch, name="sightline-launcher", daemon=True).start()


def _waited(started: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until all processes have ended or one has failed; return the exit code."""
    while True:
        codes = [process.poll() for process in started]
        failed = [(number, code) for number, code in enumerate(codes) if code]
        if failed:
            number, code = failed[0]
            if code < 0 and -code not in (signal.SIGINT, signal.SIGTERM):  # it could not say why
                name = signal.Signals(-code).name
                why = ", probably because the memory ran out" if name == "SIGKILL" else ""
                print(
                    f"error: process {number + 1} of {len(codes)} was ended by {name}{why}; the others are ended, too",
                    file=sys.stderr,
                )
            return code if code > 0 else 128 - code
        if None not in codes:
            return 0
        time.sleep(0.05)


def _end(started: Sequence[subprocess.Popen[bytes]], ask: bool = True) -> None:
    """Stop the processes that are still running."""
    for process in started:
        if ask and process.poll() is None:
            process.terminate()
    until = time.monotonic() + _PATIENCE
    for process in started:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
