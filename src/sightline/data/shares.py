"""Random division of images into splits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sightline.data.labelled import AnyDataset
from sightline.errors import InputError
from sightline.words import are, counted

_LOG = logging.getLogger("sightline")


def divided(dataset: AnyDataset, train: float, val: float, test: float, seed: int) -> AnyDataset:
    """See `Dataset.split`."""
    for share in (train, val, test):
        if isinstance(share, str):
            raise InputError(
                f"split divides the images at random and takes fractions such as 0.8, not {share!r}; "
                f"dataset[{share!r}] has the images of a split"
            )
    shares = {name: share for name, share in (("train", train), ("val", val), ("test", test)) if share}
    places = _divide(len(dataset), list(shares.values()), seed)
    kept = np.flatnonzero(places >= 0)
    if len(kept) < len(dataset):
        given = " + ".join(f"{share:g}" for share in shares.values())
        left = len(dataset) - len(kept)
        _LOG.warning(
            "%s of %d %s left out of all splits: %s is less than 1", counted(left), len(dataset), are(left), given
        )
    whole = len(kept) == len(dataset)
    own = (dataset if whole else dataset[kept]).own_source()
    folders = tuple({*own.folders})  # a single folder is kept; several do not correspond to the new splits
    source = replace(
        own,
        columns=own.columns.replace(splits=places[kept]),
        split_names=tuple(shares),
        folders=folders * len(shares) if len(folders) == 1 else (),
        label_files=own.label_files[:1] * len(shares) if len({*own.label_files}) == 1 else (),
        division={"seed": int(seed), "shares": {name: float(share) for name, share in shares.items()}},
    )
    return dataset.derived(source, None)


def _divide(count: int, shares: Sequence[float], seed: int) -> np.ndarray:
    """int8 [count]: the split of each image, or −1."""
    if not shares or min(shares) < 0 or sum(shares) > 1 + 1e-9:
        raise InputError(f"shares {[*shares]} cannot divide a dataset; give fractions such as 0.8, 0.1, 0.1")
    if count < len(shares):
        raise InputError(f"{count} images cannot be divided into {len(shares)} splits; set a share to 0")
    ends = np.rint(np.cumsum(shares) * count).astype(int)
    for k in range(len(ends)):  # at least one image per split: first from the left, then from the right
        ends[k] = max(ends[k], (ends[k - 1] if k else 0) + 1)
    for k in range(len(ends) - 1, -1, -1):
        ends[k] = min(ends[k], count - (len(ends) - 1 - k))
    places = np.full(count, -1, np.int8)
    order = np.random.default_rng(seed).permutation(count)
    places[order[: ends[-1]]] = np.searchsorted(ends, np.arange(ends[-1]), side="right")
    return places
