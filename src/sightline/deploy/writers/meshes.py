"""Write meshes: COCO JSON with one annotation per object, and one mesh file for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.data.mesh_files import MESH_FORMATS, write_mesh
from sightline.deploy.writers.base import PredictedImage, Written, file_paths, require_prediction
from sightline.deploy.writers.coco import FORMATS, CocoFiles
from sightline.deploy.writers.detection import entries_of
from sightline.runtime.optional import require
from sightline.structures import Instances
from sightline.structures.meshes import Mesh
from sightline.words import counted

MESHES = Path("meshes")
"""The folder of mesh files."""


class MeshWriter:
    """Writes the meshes, in the frame of the camera in metres, and predictions.json, whose annotations name the mesh of
    each object and the depth of its centre.

    The JSON file is always written. Meshes are OBJ files unless another of `MESH_FORMATS` is requested.
    """

    formats = (*MESH_FORMATS, *FORMATS)

    def begin(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]) -> MeshFiles:
        return MeshFiles(folder, paths, classes, formats)


class MeshFiles:
    """See `sightline.deploy.writers.base.Writing`."""

    taken: frozenset[Path] = frozenset()

    def __init__(self, folder: Path, paths: Sequence[Path], classes: Sequence[str], formats: Sequence[str]):
        self.kinds = [name for name in MESH_FORMATS if name in formats] or list(MESH_FORMATS[:1])
        for kind in self.kinds:
            if kind != "obj":  # refused before anything is written
                require("trimesh", "trimesh", "mesh", f"writing {kind.upper()} files")
        self.folder = folder
        self._paths = file_paths(paths, (".obj",), ".obj")
        others = list(dict.fromkeys(["json", *(name for name in formats if name in FORMATS)]))
        self._files = CocoFiles(folder, classes, file_paths(paths, (".txt",), ".txt"), others)
        self._images = 0

    def add(self, image: PredictedImage, prediction: Any, ids: Tensor | None) -> None:
        require_prediction(prediction, Instances, "objects with meshes (Instances)")
        stem = MESHES / self._paths[image.position].with_suffix("")
        names = []
        for number, mesh in enumerate(prediction.meshes if len(prediction) else ()):
            files = [stem.with_name(f"{stem.name}_{number}.{kind}") for kind in self.kinds]
            for file in files:
                (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
                write_mesh(Mesh.of(mesh), self.folder / file)
            names.append(files[0].as_posix())
        entries = list(entries_of(prediction.replace(meshes=names) if names else prediction))
        if "depths" in prediction:
            for entry, depth in zip(entries, prediction.depths.tolist(), strict=True):
                entry["depth"] = round(depth, 4)
        self._files.add(image, entries)
        self._images += 1

    def finish(self, threshold: float, given: bool) -> Written:
        found, hint = self._files.objects, ""
        if not found:
            hint = f"no object has a score of at least {threshold:.3g}; lower it with --threshold"
        elif not given:
            hint = f"objects with a score of at least {threshold:.3g} are kept; change it with --threshold"
        kinds = " and ".join(kind.upper() for kind in self.kinds)
        summary = f"{counted(found, 'object')} in {counted(self._images)}, meshes as {kinds} in {MESHES}/"
        return Written(summary, [*self._files.finish(), f"{MESHES}/"] if found else self._files.finish(), found, hint)
