"""A scene: an image and its complete ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sightline.data.scenes.camera import Camera
from sightline.data.scenes.catalog import CLASSES, POINTS, SEMANTIC_CLASSES
from sightline.data.scenes.meshes import Mesh
from sightline.data.scenes.world import Body
from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.structures import ClassMap, Instances

FIELDS = ("masks", "keypoints", "cuboids", "captions", "visibility", "colours", "materials", "sizes", "meshes")
"""Fields besides boxes, labels and areas that `Scene.instances` can return."""


@dataclass(frozen=True)
class Relation:
    """A relation between two objects: `scene.objects[subject]` is `predicate` `scene.objects[object]`."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One labelled object.

    Attributes:
        id: its value in the instance map; the same in all scenes of a video.
        box: [4] float32 x1, y1, x2, y2 in pixels, the bounding box of the visible pixels.
        amodal_box: [4] float32, the bounding box of the whole outline, including occluded parts and parts outside the
            image.
        area: number of visible pixels.
        visibility: visible pixels as a fraction of those without occlusion and image borders.
        keypoints: [8, 3] float32 x, y in pixels and visibility: 2 visible, 1 occluded by an object (including itself),
            0 outside the image or not used by the class (then x = y = 0). Names are in `catalog.KEYPOINTS`.
        cuboid: [9] float32 x, y, z, w, h, l in metres and roll, pitch, yaw in radians, in the camera frame, as in
            `camera.cuboid_corners`.
        phrase: description: "large red shiny cone".
        caption: description with place: "a large red shiny cone left of a small blue matte sphere".
        body: the solid.
    """

    id: int
    box: np.ndarray
    amodal_box: np.ndarray
    area: int
    visibility: float
    keypoints: np.ndarray
    cuboid: np.ndarray
    phrase: str
    caption: str
    body: Body
    camera: Camera
    instance_map: np.ndarray

    @property
    def class_name(self) -> str:
        """One of `catalog.CLASSES`."""
        return self.body.class_name

    @property
    def label(self) -> int:
        """The class id."""
        return CLASSES.index(self.body.class_name)

    @property
    def colour(self) -> str:
        """One of `catalog.COLOURS`."""
        return self.body.colour

    @property
    def material(self) -> str:
        """One of `catalog.MATERIALS`."""
        return self.body.material

    @property
    def size(self) -> str:
        """One of `catalog.SIZES`, by the longest side in metres."""
        return self.body.size

    @property
    def mask(self) -> np.ndarray:
        """[H, W] bool, the visible pixels (computed at each call)."""
        return self.instance_map == self.id

    def mesh(self, frame: Literal["camera", "world", "object"] = "camera") -> Mesh:
        """The surface as a triangle mesh.

        Args:
            frame: frame of the vertices. The object frame is centred on the cuboid, with z along the object's axis.

        Returns:
            vertices [V, 3] float32 in metres, on the surface; triangles [F, 3] int64, counter-clockwise seen from
            outside (by the right-hand rule, normals point outwards in every frame).
        """
        vertices, faces = self.body.shape.mesh()
        if frame == "object":
            return vertices, faces
        world = vertices.astype(np.float64) @ self.body.rotation.T + self.body.centre
        return (world if frame == "world" else self.camera.to_camera(world)).astype(np.float32), faces


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its complete ground truth, computed from the same geometry.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        depth: [H, W] float32, z in the camera frame, in metres, at the centre of each pixel.
        semantic_map: [H, W] uint8 ids of `catalog.SEMANTIC_CLASSES`; every pixel has one.
        instance_map: [H, W] int16, the id of the object at each pixel, 0 for floor and wall, −1 for an object too small
            to be labelled.
        camera: matrix K, extrinsics, projection.
        objects: the labelled objects: those with at least `catalog.MIN_PIXELS` visible pixels. A still image contains
            no other objects, and each shows at least `catalog.MIN_VISIBILITY` of its outline.
        relations: all relations between pairs of objects.
        caption: a sentence about the whole image.
        seed: the seed that creates the same scene again.
        frame: index of the scene in its video; 0 for a still image.
    """

    image: np.ndarray
    depth: np.ndarray
    semantic_map: np.ndarray
    instance_map: np.ndarray
    camera: Camera
    objects: tuple[SceneObject, ...]
    relations: tuple[Relation, ...]
    caption: str
    seed: int
    frame: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.camera.size

    @cached_property
    def boxes(self) -> np.ndarray:
        """[N, 4] float32, the objects' visible boxes, xyxy pixels."""
        return np.array([o.box for o in self.objects], np.float32).reshape(-1, 4)

    @cached_property
    def labels(self) -> np.ndarray:
        """[N] int64, ids of `catalog.CLASSES`."""
        return np.array([o.label for o in self.objects], np.int64)

    @property
    def masks(self) -> np.ndarray:
        """[N, H, W] bool, the objects' visible pixels (made at each call)."""
        return self.instance_map == np.array([o.id for o in self.objects], np.int16)[:, None, None]

    @cached_property
    def keypoints(self) -> np.ndarray:
        """[N, 8, 3] float32: x, y in pixels and visibility, as in `SceneObject`."""
        return np.array([o.keypoints for o in self.objects], np.float32).reshape(-1, POINTS, 3)

    @cached_property
    def cuboids(self) -> np.ndarray:
        """[N, 9] float32: x, y, z, w, h, l, roll, pitch, yaw, as in `SceneObject`."""
        return np.array([o.cuboid for o in self.objects], np.float32).reshape(-1, 9)

    def instances(self, fields: Sequence[str] = ("masks", "keypoints", "cuboids", "captions")) -> Instances:
        """The objects as a target.

        Args:
            fields: fields besides boxes, labels and areas: any of `FIELDS`. Meshes are in the camera frame.

        Raises:
            InputError: a field is unknown.
        """
        from sightline.structures import Classes, Instances

        values: dict[str, Any] = {
            "boxes": self.boxes,
            "labels": self.labels,
            "areas": np.array([o.area for o in self.objects], np.float32),
        }
        for name in fields:
            if name in values:
                continue
            if name in ("masks", "keypoints", "cuboids"):
                values[name] = getattr(self, name)
            elif name == "visibility":
                values[name] = np.array([o.visibility for o in self.objects], np.float32)
            elif name == "meshes":
                values[name] = [o.mesh() for o in self.objects]
            elif name in FIELDS:  # "captions" of the scene are the captions of its objects, and so on
                values[name] = [getattr(o, name[:-1]) for o in self.objects]
            else:
                raise InputError(f"a scene has no field {name!r}; it has boxes, labels, areas, {', '.join(FIELDS)}")
        return Instances(self.size, classes=Classes(CLASSES), **values)

    def class_map(self) -> ClassMap:
        """The semantic map as a target, classes `catalog.SEMANTIC_CLASSES`."""
        import torch

        from sightline.structures import Classes, ClassMap

        return ClassMap(torch.from_numpy(self.semantic_map.astype(np.int64)), Classes(SEMANTIC_CLASSES))
