"""Scenes as a folder on disk, in COCO layout."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.scenes.catalog import CLASSES, KEYPOINTS
from sightline.data.scenes.dataset import ABOUT, WRITTEN, image_facts, render_all, scene_seeds
from sightline.data.scenes.events import KIND as VIDEOS
from sightline.data.scenes.events import write_video_scenes
from sightline.data.scenes.scene import Scene, SceneObject
from sightline.data.scenes.still import check_options
from sightline.errors import InputError


def write_scenes(
    out: str | os.PathLike[str],
    train: int = 400,
    val: int = 100,
    test: int = 100,
    size: int | tuple[int, int] = 160,
    seed: int = 0,
    *,
    kind: str = "instances",
    objects: tuple[int, int] = (2, 7),
    suffix: str = ".png",
    progress: bool = True,
) -> Path:
    """Write rendered scenes as a COCO folder: annotations/instances_SPLIT.json and SPLIT/000001.png, ….

    Annotations contain box, mask (RLE), area, keypoints, and beyond COCO "caption", "cuboids" (nine numbers, as in the
    field of `Instances`), "visibility", "colour", "material", "size"; images contain "captions", "relations" (of
    annotation ids), "camera" and "seed". No scene is in two splits.

    Args:
        out: the folder, new or empty.
        train, val, test: number of scenes per split; 0 leaves the split out.
        size: (height, width) in pixels, or one number for both.
        seed: random seed of the scenes.
        kind: "instances", or what the labels are about, so that `train` learns it: one of `dataset.ABOUT`. With
            "cuboids" the folder also has depth maps, in depth/SPLIT as PNG files of millimetres; with "meshes" the mesh
            of each object in the camera frame, in meshes/SPLIT as OBJ files. With "events" the folder has videos of 2
            seconds instead, in the layout of ActivityNet Captions: SPLIT/NAME.mp4 and captions/SPLIT.json.
        objects: minimum and maximum number of objects per scene.
        suffix: ".png" is lossless; ".jpg" is smaller.
        progress: show a progress bar.

    Returns:
        The folder.

    Raises:
        InputError: the folder is not empty or cannot be written, or a number is out of range.
    """
    out = Path(out)
    if suffix not in (".png", ".jpg"):
        raise InputError(f"scenes are written as .png or .jpg, not {suffix!r}")
    seed, size, objects = check_options(seed, size, objects)
    counts = {"train": train, "val": val, "test": test}
    seeds = {split: scene_seeds(n, seed, split) for split, n in counts.items()}
    if kind not in WRITTEN:
        raise InputError(f"kind is {kind!r}, but must be one of {', '.join(WRITTEN)}")
    if not any(counts.values()):
        raise InputError("there is nothing to write: train, val and test are all 0; set at least one above 0")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, but scenes are written into a folder; choose another path")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty, and nothing is overwritten; choose a new folder or empty this one")
    try:
        for split, own in seeds.items():
            if own and kind == VIDEOS:
                write_video_scenes(out, split, own, size, objects, progress)
            elif own:
                _write_split(out, split, own, size, kind, objects, suffix, progress)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror or error}; choose a folder with write permission"
        ) from error
    return out


def _write_split(
    out: Path,
    split: str,
    seeds: range,
    size: int | tuple[int, int],
    kind: str,
    objects: tuple[int, int],
    suffix: str,
    progress: bool,
) -> None:
    from PIL import Image

    (out / split).mkdir(parents=True)
    (out / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(render_all(seeds, size, progress, objects=objects), 1):
        name = f"{number:06d}{suffix}"
        options: dict[str, Any] = {"compress_level": 3} if suffix == ".png" else {"quality": 95, "subsampling": 0}
        Image.fromarray(scene.image).save(out / split / name, **options)
        height, width = scene.size
        facts = image_facts(scene)
        if kind == "cuboids":
            facts["camera"] |= _write_depth(scene, out, f"depth/{split}/{number:06d}.png")
        first = len(annotations) + 1
        relations = [[first + r.subject, r.predicate, first + r.object] for r in scene.relations]
        named = {"id": number, "file_name": name, "width": width, "height": height}
        images.append({**named, "captions": facts.pop("captions"), "relations": relations, **facts})
        annotations += _annotations(scene, number, first)
        if kind == "meshes":
            for item, annotation in zip(scene.objects, annotations[first - 1 :], strict=True):
                annotation["mesh"] = _write_mesh(item, out, f"meshes/{split}/{annotation['id']:06d}.obj")
    table = {
        "info": {"description": f"Rendered scenes, {split}", "version": "1"}
        | ({"about": kind} if kind in ABOUT else {}),
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": k, "name": name, "supercategory": "solid", "keypoints": list(KEYPOINTS[name]), "skeleton": []}
            for k, name in enumerate(CLASSES, 1)
        ],
    }
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False)
    (out / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")


def _write_depth(scene: Scene, out: Path, name: str) -> dict[str, Any]:
    """Write the depth map of a scene; return what the image's "camera" says about it."""
    from PIL import Image

    (out / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((1000 * scene.depth).round().clip(0, 65535).astype(np.uint16)).save(out / name)
    return {"depth_file_name": name, "depth_scale": 0.001}


def _write_mesh(item: SceneObject, out: Path, name: str) -> str:
    """Write the mesh of an object in the camera frame; return its name."""
    vertices, faces = item.mesh()
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in vertices.tolist()]
    lines += [f"f {a} {b} {c}\n" for a, b, c in (faces + 1).tolist()]
    (out / name).write_text("".join(lines), encoding="utf-8")
    return name


def _annotations(scene: Scene, image_id: int, first: int) -> list[dict[str, Any]]:
    from sightline.ops.masks import mask_to_rle

    rows = []
    for number, item in enumerate(scene.objects):
        x1, y1, x2, y2 = item.box.tolist()
        points = item.keypoints.round(2).astype(float)
        rows.append(
            {
                "id": first + number,
                "image_id": image_id,
                "category_id": item.label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": item.area,
                "iscrowd": 0,
                "segmentation": mask_to_rle(item.mask),
                "keypoints": [round(v, 2) for v in points.ravel().tolist()],
                "num_keypoints": int(np.count_nonzero(points[:, 2])),
                "caption": item.caption,
                "cuboids": [round(v, 5) for v in item.cuboid.tolist()],
                "visibility": round(item.visibility, 4),
                "colour": item.colour,
                "material": item.material,
                "size": item.size,
            }
        )
    return rows
