"""Starts the program many times: a process that has imported it once forks a limited child for each command line.

Requests and answers are lines of JSON on stdin and stdout: python -m tests.hostile.forking
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How one command ended.

    Attributes:
        code: its exit status, negative where a signal ended it.
        said: what it wrote, errors among it.
        seconds: of the processor, without the start of Python.
        megabytes: the most memory it held, PyTorch's own 300 or so among it.
    """

    code: int
    said: str
    seconds: float
    megabytes: float


class Forks:
    """Runs command lines, each in a child of one process that has imported the program already."""

    def __init__(self, seconds: int, space: int) -> None:
        """A child is killed after `seconds` of the processor, and gets no more than `space` bytes of address space."""
        self.limits = seconds, space
        command = [sys.executable, "-m", "tests.hostile.forking"]
        root = Path(__file__).parents[2]
        environment = {name: value for name, value in os.environ.items() if name != "SIGHTLINE_DEBUG"}
        self.server = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: list[str], folder: Path, said: Path) -> Ended:
        """Run `sightline ARGUMENTS` in a folder; what it writes goes into the file `said`."""
        assert self.server.stdin
        assert self.server.stdout
        request = {"arguments": arguments, "folder": str(folder), "said": str(said), "limits": self.limits}
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        answer = json.loads(self.server.stdout.readline())
        return Ended(said=said.read_bytes().decode("utf-8", "replace"), **answer)

    def close(self) -> None:
        """End the process."""
        self.server.communicate()


def serve() -> None:
    """Answer requests until there are none."""
    from sightline import cli
    from sightline.cli import data, train, use  # noqa: F401 (imported once for all children)

    gc.freeze()  # or each child's first collection copies all of the memory
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become(request)
            try:
                cli.main()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
        _, status, used = os.wait4(child, 0)
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": used.ru_utime + used.ru_stime,
            "megabytes": used.ru_maxrss / 1024,
        }
        print(json.dumps(answer), flush=True)


def _become(request: dict[str, object]) -> None:
    """Turn this child into the program: its arguments, folder, files and limits."""
    seconds, space = request["limits"]  # type: ignore[misc]
    with open(os.devnull, "rb") as nothing, open(str(request["said"]), "wb") as said:
        os.dup2(nothing.fileno(), 0)
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.chdir(str(request["folder"]))
    sys.argv = ["sightline", *request["arguments"]]  # type: ignore[misc]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (space, space))


if __name__ == "__main__":
    serve()
