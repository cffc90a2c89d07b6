"""The command line: `sightline VERB …`. Each verb reads its arguments, calls the library, and prints what came out.

A mistake ends in one sentence on the error output and exit code 2. `check` exits with 1 where training cannot start.
"""

from __future__ import annotations

import logging
import sys

from sightline.cli import about, data, train, use  # noqa: F401  (whose verbs register themselves)
from sightline.cli.app import app


def main() -> None:
    """Entry point."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    app(prog_name="sightline")
