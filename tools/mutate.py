"""Mutation testing by hand: make a small fault in a copy of the source, run the nearest tests, see whether they notice.

    python tools/mutate.py                        the changes of mutations.py, and what an earlier run has recorded
    python tools/mutate.py --automatic 120        also 120 chosen by seed over ops, heads, systems, metrics, …
    python tools/mutate.py --only survived        once more what survived, after tests were added
    python tools/mutate.py --named                only the changes of mutations.py

The checkout is never changed: source and tests are copied to a temporary folder, with no `shared` folder beside it, so
tests that need reference values from there are skipped, as in any public clone. Each mutation runs in a process forked
from one that has imported PyTorch already, which spares most of a test run's time. The results go to
benchmarks/results/mutations.json, which the next run continues, and mutations.md.

A mutation is killed if a test fails that passes without it (the failed test is run once more on the original), if the
tests cannot be imported, or if they pass the time limit.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported: waiting threads must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from changes import Mutation, candidates, choose
from mutations import AREAS, COMMON, EQUIVALENT, HISTORY, NAMED

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
WARM = (
    "torch",
    "numpy",
    "PIL.Image",
    "yaml",
    "pytest",
    "safetensors.torch",
    "pycocotools.mask",
    "hotcoco",
    "hypothesis",
    "torch._dynamo",
)
WARM += ("kornia", "accelerate", "matplotlib.pyplot", "skimage.feature", "sklearn.svm", "rich", "typer")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--automatic", type=int, default=0, metavar="N", help="changes to choose by seed, all areas")
    options.add_argument("--seed", type=int, default=0, help="of the choice")
    options.add_argument("--named", action="store_true", help="run the changes of mutations.py alone")
    options.add_argument("--chosen", action="store_true", help="run the automatic changes alone")
    options.add_argument("--sample", type=int, metavar="SEED", help="run only the automatic changes of this seed")
    options.add_argument("--only", default="", help="run only those with this result in the record, such as survived")
    options.add_argument("--files", default="", help="run only those of files whose path contains this text")
    options.add_argument("--limit", type=float, default=120, metavar="SECONDS", help="time for one mutation's tests")
    options.add_argument("--table", action="store_true", help="run nothing; write the table anew")
    given = options.parse_args()

    record = read_record(given.automatic, given.seed)
    if not given.table:
        wanted = [
            m
            for m in record
            if given.files in m.file
            and m.result != "equivalent"
            and (not given.named or m.kind == "named")
            and (not given.chosen or m.kind != "named")
            and (given.sample is None or (m.kind != "named" and m.seed == given.sample))
            and (m.result in given.only.split(",") if given.only else given.named or not m.result)
        ]
        with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
            tree = copy_tree(Path(folder) / "tree")
            run_all(wanted, tree, given.limit, record)
    write(record)
    write_table(record)
    done = [m for m in record if m.result]
    print(summary(done))


def read_record(automatic: int, seed: int) -> list[Mutation]:
    """The named mutations, those recorded before, and newly chosen ones up to `automatic`."""
    file = RESULTS / "mutations.json"
    recorded = [Mutation(**entry) for entry in json.loads(file.read_text())] if file.exists() else []
    known = {(m.file, m.old, m.new): m for m in recorded}
    record = []
    for named in NAMED:
        before = known.get((named.file, named.old, named.new))
        named.result, named.seconds = (before.result, before.seconds) if before else ("", 0.0)
        record.append(named)
    old = [m for m in recorded if m.kind != "named" and _is_there(m)]
    for area, files in AREAS.items():
        kept = [m for m in old if m.area == area]
        share = -(-automatic // len(AREAS)) - len(kept)
        found = [m for name in files for m in candidates(ROOT / "src/sightline" / name, name)]
        lines = {(m.file, m.old) for m in kept}
        kept += choose([m for m in found if (m.file, m.old) not in lines], max(share, 0), seed)
        for mutation in kept:
            mutation.area, mutation.tests = area, files.get(mutation.file, mutation.tests)
        record += kept
    for mutation in record:
        reason = EQUIVALENT.get((mutation.file, mutation.new.strip()))
        if reason:
            mutation.result, mutation.note = "equivalent", reason
    return record


def _is_there(mutation: Mutation) -> bool:
    """Whether the source still has the line; what is gone says nothing of today's tests."""
    file = ROOT / "src/sightline" / mutation.file
    return file.is_file() and mutation.old in file.read_text(encoding="utf-8")


def copy_tree(tree: Path) -> Path:
    """Source, tests and settings, and nothing beside them."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def run_all(mutations: list[Mutation], tree: Path, limit: float, record: list[Mutation]) -> None:
    """Set the result of each; the record is written after each, so an interrupted run loses nothing."""
    for name in WARM:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed; tests that need it are skipped")
    sound: dict[str, bool] = {}  # failed test → whether it passes without any change
    for number, mutation in enumerate(mutations, 1):
        path = tree / "src/sightline" / mutation.file
        original = path.read_text(encoding="utf-8")
        try:
            mutated = mutation.apply(original)
        except LookupError as error:
            mutation.result, mutation.note = "gone", str(error)
            continue
        path.write_text(mutated, encoding="utf-8")
        later = time.time() + 10 * number  # no compiled file of another text is taken for this one
        os.utime(path, (later, later))
        seconds = 0.0
        for tests in (mutation.tests, COMMON.get(mutation.area, [])):
            if tests:
                mutation.result, mutation.seconds, failed = run_tests(tree, tests, limit)
                seconds += mutation.seconds
                if mutation.result != "survived":
                    break
        mutation.seconds = seconds
        path.write_text(original, encoding="utf-8")
        os.utime(path, (later + 5, later + 5))
        if failed and failed not in sound:
            sound[failed] = run_tests(tree, [failed], limit)[0] == "survived"
        if failed and not sound[failed]:
            print(f"{failed} fails without any change", flush=True)
            mutation.result = ""
        change = f"{mutation.old.strip()}  →  {mutation.new.strip()}"
        print(
            f"{number}/{len(mutations)} {mutation.result:9} {mutation.seconds:5.1f} s {mutation.file}: {change}",
            flush=True,
        )
        write(record)


class FirstFailure:
    """A plugin of pytest: writes the name of the first test that fails to a file."""

    def __init__(self, file: Path):
        self.file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.file.exists():
            self.file.write_text(report.nodeid)

    pytest_collectreport = pytest_runtest_logreport


def run_tests(tree: Path, tests: list[str], limit: float) -> tuple[str, float, str]:
    """Run pytest in a forked process that sees only the copy.

    Returns:
        "killed", "survived" or "timeout"; seconds; the test that failed first, or "".
    """
    began = time.monotonic()
    failed = tree.parent / "failed"
    failed.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.setsid()
            os.chdir(tree)
            sys.dont_write_bytecode = True
            sys.path[:] = [str(tree / "src"), str(tree), *(p for p in sys.path if "tools" not in p and "/src" not in p)]
            os.environ["PYTHONPATH"] = str(tree / "src")
            sink = os.open(tree.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            import pytest

            quiet = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
            quiet += ["-o", "addopts=", "-m", "not slow"]  # one process, whatever the settings say
            code = int(pytest.main(["-x", "-q", "--no-header", *quiet, *tests], [FirstFailure(failed)]))
        except BaseException:
            traceback.print_exc()
        finally:  # nothing of the parent's work may go on in the child
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while time.monotonic() - began < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code == 5:
                raise SystemExit(f"no test is chosen by {' '.join(tests)}")
            seconds = time.monotonic() - began
            if code == 0:
                return "survived", seconds, ""
            return "killed", seconds, failed.read_text() if failed.exists() else ""
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout", time.monotonic() - began, ""


def write(record: list[Mutation]) -> None:
    text = json.dumps([m.to_dict() for m in record], indent=1, ensure_ascii=False)
    (RESULTS / "mutations.json").write_text(text + "\n", encoding="utf-8")


def summary(done: list[Mutation]) -> str:
    """How many of the mutations that change anything are noticed."""
    count = {
        result: sum(m.result == result for m in done) for result in ("killed", "timeout", "survived", "equivalent")
    }
    noticed = count["killed"] + count["timeout"]
    share = 100 * noticed / max(noticed + count["survived"], 1)
    return (
        f"{len(done)} mutations: {count['killed']} killed, {count['timeout']} timeout, {count['survived']} survived, "
        f"{count['equivalent']} equivalent; {share:.1f} % of those that change anything are noticed"
    )


def write_table(record: list[Mutation]) -> None:
    """benchmarks/results/mutations.md"""
    import torch

    done = [m for m in record if m.result and m.result != "gone"]
    rows = [
        "# Mutations: do the tests notice small faults?\n",
        f"{date.today()}, {processor()}, Python {platform.python_version()}, torch {torch.__version__}; "
        "`python tools/mutate.py`. Each change is made alone in a copy of the source that has no `shared` folder "
        "beside it; the named tests run until the first failure, and "
        "the test that failed must pass on the original. “timeout”: the tests do not end, which counts as "
        "noticed. “equivalent”: no input tells the change from the original, for the reason given; these are not "
        "counted.\n",
        f"{HISTORY}\n",
        "| area | mutations | killed | timeout | survived | equivalent |\n|---|---:|---:|---:|---:|---:|",
    ]
    for area in ["named", *AREAS]:
        own = [m for m in done if (m.area or "named") == area]
        counts = [sum(m.result == r for m in own) for r in ("killed", "timeout", "survived", "equivalent")]
        rows.append(f"| {area} | {len(own)} | " + " | ".join(map(str, counts)) + " |")
    automatic = [m for m in done if m.kind != "named"]
    rows.append(f"\nAll: {summary(done)}.\n\nAutomatic alone: {summary(automatic)}.\n")
    rows.append("| file | change | tests | result |\n|---|---|---|---|")
    for m in done:
        change = f"`{code(m.old)}` → `{code(m.new)}`" + (f" ({m.note})" if m.note else "")
        tests = " ".join(t.removeprefix("tests/") for t in m.tests)
        rows.append(f"| {m.file} | {change} | {tests} | {m.result} |")
    (RESULTS / "mutations.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


def code(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")


def processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return (names[0].split(":")[1].strip() if names else platform.machine()) + f", {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
