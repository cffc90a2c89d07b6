"""Cityscapes as class maps: leftImg8bit/SPLIT/CITY/*.png with gtFine/SPLIT/CITY/*_gtFine_labelIds.png (or gtCoarse).

The classes are the 19 classes of the benchmark, in its order ("train ids"); all other labels are ignored. If only
*_labelTrainIds.png files exist, they are read instead. The labels of the split "test" are not public: its maps contain
only ignored pixels. format="cityscapes-instances" reads objects, see `sightline.data.formats.cityscapes_instances`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.data.blob import Blob
from sightline.data.builder import Builder
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.map_values import MapValues
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.structures import IGNORE, Classes

__all__ = ["LOOKED_FOR", "read", "recognise"]

LOOKED_FOR = "Cityscapes: leftImg8bit/ with gtFine/"
IMAGES = "leftImg8bit"
LABELS = ("gtFine", "gtCoarse")
CLASSES: dict[str, int] = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""The classes in the order of their train ids, with their label ids (cityscapesScripts, helpers/labels.py)."""


def recognise(root: Path) -> str | None:
    """A description of the Cityscapes folders found; None if there are none."""
    if not root.is_dir() or not (root / IMAGES).is_dir():
        return None
    return next((f"{IMAGES} and {name}" for name in LABELS if (root / name).is_dir()), None)


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read the class maps of Cityscapes. Arguments and errors are those of `sightline.open_dataset`.

    A split is given by its folder of images.
    """
    root = root.absolute()
    names = list(CLASSES) if classes is None else list(classes)
    if set(names) != set(CLASSES):
        raise InputError(f"Cityscapes has the classes {', '.join(CLASSES)}; give exactly these in any order, or none")
    pairs = found(root, splits, images, ("labelIds", "labelTrainIds"))
    plain = {name for _, _, label in pairs if label is not None for name in [label.stem.rsplit("_", 1)[1]]}
    if len(plain) > 1:
        raise InputError(f"{root} has labelIds for some images and labelTrainIds for others; add the missing labelIds")
    if plain == {"labelTrainIds"}:
        numbers = {k: names.index(name) for k, name in enumerate(CLASSES)}
    else:
        numbers = dict.fromkeys(range(34), IGNORE) | {id: names.index(name) for name, id in CLASSES.items()}
    base = files.naming_root(root, images)
    builder = Builder()
    maps: list[str] = []
    split_names = files.in_order(dict.fromkeys(split for split, _, _ in pairs))
    texts: dict[str, list[str]] = {split: [] for split in split_names}
    for split in split_names:
        for image, label in ((i, m) for own, i, m in pairs if own == split):
            maps.append("" if label is None else files.relative(label, base))
            texts[split].append(files.relative(image, base))
            builder.add_image(texts[split][-1], files.header_size(image), split_names.index(split), maps[-1])
    source = Source(
        columns=builder.build(maps=Blob.of(maps)),
        classes=Classes(names),
        kind="class_map",
        root=base,
        format="cityscapes",
        split_names=tuple(split_names),
        folders=tuple(files.common_folder(texts[split]) for split in split_names),
        map_values=MapValues(255, numbers),
        ignore=255,
    )
    return Dataset(source)


def found(
    root: Path, splits: Mapping[str, str | Path] | None, images: Path | None, kinds: Sequence[str]
) -> list[tuple[str, Path, Path | None]]:
    """(split, image, label) of every image; the label is the first of `kinds` that exists, or None.

    Raises:
        InputError: there are no images, or none of them has a label.
    """
    home = images or root / IMAGES
    labels = next((root / name for name in LABELS if (root / name).is_dir()), root / LABELS[0])
    chosen = {name: files.resolve(root, path).absolute() for name, path in (splits or {}).items()}
    pairs: list[tuple[str, Path, Path | None]] = []
    for name in files.images_below(home):
        split = files.split_name(name.split("/")[0]) if "/" in name else "all"
        if chosen:
            own = [key for key, folder in chosen.items() if (home / name).absolute().is_relative_to(folder)]
            if not own:
                continue
            split = own[0]
        stem = files.without_suffix(name).removesuffix(f"_{IMAGES}")
        places = (labels / f"{stem}_{labels.name}_{kind}" for kind in kinds)
        ending = (".png", ".json") if "polygons" in kinds else (".png",)
        label = next((f for place in places for e in ending if (f := place.with_name(place.name + e)).is_file()), None)
        pairs.append((split, home / name, label))
    if not any(label is not None for _, _, label in pairs):
        raise InputError(f"{root} has {len(pairs)} images in {IMAGES}, but no *_{kinds[0]} for them in {labels.name}")
    return pairs
