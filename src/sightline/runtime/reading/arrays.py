"""Read NumPy arrays (.npy) after checking that the file is as long as its header says."""

from __future__ import annotations

import os

import numpy as np

from sightline.errors import InputError
from sightline.runtime.limits import require_within
from sightline.runtime.reading.files import PathLike, open_binary
from sightline.words import shown


def read_array(path: PathLike, *, mapped: bool = False) -> np.ndarray:
    """Read the array of a .npy file, but never Python objects.

    Args:
        path: the file.
        mapped: memory-map the file (read-only) instead of reading it.

    Raises:
        InputError: it is not a .npy file, holds Python objects, is shorter than its header says, or is too large to be
            read as a whole.
    """
    with open_binary(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
            shape, _, dtype = read(file)
            ahead = size - file.tell()
        except Exception as error:  # the header is a Python literal, whose parser raises many types of errors
            reason = str(error).split("\n")[0] or type(error).__name__
            raise InputError(f"cannot read {shown(path)}: it is not a .npy file ({reason}); save it again") from None
    if dtype.hasobject:
        raise InputError(f"{shown(path)} holds Python objects, which are refused; save an array of numbers")
    count = 1
    for side in shape:
        count *= side
    if any(side < 0 for side in shape) or count * dtype.itemsize > ahead:
        raise InputError(
            f"{shown(path)} is truncated: its header says {list(shape)} of {dtype}, which is "
            f"{count * dtype.itemsize} bytes, but {ahead} follow; save it again"
        )
    if not mapped:
        require_within(f"the size of {shown(path)}", count * dtype.itemsize, "array_bytes", "bytes")
    try:
        return np.load(path, mmap_mode="r" if mapped and count else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise InputError(f"cannot read {shown(path)}: {error}; save it again") from None
