"""A scene: a picture and everything that is true of it."""

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
"""Fields beyond boxes, labels and areas that `Scene.instances` can give."""


@dataclass(frozen=True)
class Relation:
    """One true statement about two objects: `scene.objects[subject]` is `predicate` `scene.objects[object]`."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One labelled object.

    Attributes:
        id: its value in the instance map; the same in all scenes of a video.
        box: [4] float32 x1, y1, x2, y2 in pixels, tight around the visible pixels.
        amodal_box: [4] float32 the same around the whole outline, with what is hidden or beyond the picture's edge.
        area: number of visible pixels.
        visibility: visible pixels as a share of those it would cover if nothing hid it and the picture had no edge.
        keypoints: [8, 3] float32 x, y in pixels and visibility: 2 seen, 1 hidden by an object (itself, too), 0 beyond
            the picture or not used by the class (x = y = 0 then). Names in `catalog.KEYPOINTS`.
        cuboid: [9] float32 x, y, z, w, h, l in metres and roll, pitch, yaw in radians, camera frame, as
            `camera.cuboid_corners` takes them.
        phrase: what it is: "large red shiny cone".
        caption: what and where it is: "a large red shiny cone left of a small blue matte sphere".
        body: the solid itself.
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
        """The class's id."""
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
        """One of `catalog.SIZES`, after the longest side in metres."""
        return self.body.size

    @property
    def mask(self) -> np.ndarray:
        """[H, W] bool, the visible pixels (made at each call)."""
        return self.instance_map == self.id

    def mesh(self, frame: Literal["camera", "world", "object"] = "camera") -> Mesh:
        """The surface as triangles.

        Args:
            frame: of the vertices. The object's own frame is centred on its cuboid, z along its axis.

        Returns:
            vertices [V, 3] float32 in metres, on the surface; triangles [F, 3] int64, counter-clockwise seen from
            outside (by the right-hand rule their normals point outwards in every frame).
        """
        vertices, faces = self.body.shape.mesh()
        if frame == "object":
            return vertices, faces
        world = vertices.astype(np.float64) @ self.body.rotation.T + self.body.centre
        return (world if frame == "world" else self.camera.to_camera(world)).astype(np.float32), faces


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and everything that is true of it, from the same geometry.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        depth: [H, W] float32 z of the camera frame, metres, at the middle of each pixel.
        semantic_map: [H, W] uint8 ids of `catalog.SEMANTIC_CLASSES`; every pixel has one.
        instance_map: [H, W] int16 the id of the object a pixel shows, 0 for floor and wall, −1 for an object too small
            to be labelled.
        camera: matrix K, extrinsics, projection.
        objects: the labelled objects: those with at least `catalog.MIN_PIXELS` visible pixels. In a still picture no
            other objects are there, and each shows at least `catalog.MIN_VISIBILITY` of its outline.
        relations: every pairwise relation that holds.
        caption: a sentence about the whole picture.
        seed: makes the same scene again.
        frame: the scene's number in its video; 0 for a still picture.
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
        """[N, 8, 3] float32: x, y in pixels and visibility, as of `SceneObject`."""
        return np.array([o.keypoints for o in self.objects], np.float32).reshape(-1, POINTS, 3)

    @cached_property
    def cuboids(self) -> np.ndarray:
        """[N, 9] float32: x, y, z, w, h, l, roll, pitch, yaw, as of `SceneObject`."""
        return np.array([o.cuboid for o in self.objects], np.float32).reshape(-1, 9)

    def instances(self, fields: Sequence[str] = ("masks", "keypoints", "cuboids", "captions")) -> Instances:
        """The objects as a target.

        Args:
            fields: what to give beyond boxes, labels and areas: any of `FIELDS`. Meshes are in the camera frame.

        Raises:
            InputError: a field of another name.
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
            elif name in FIELDS:  # "captions" of the scene are caption, colour, … of its objects
                values[name] = [getattr(o, name[:-1]) for o in self.objects]
            else:
                raise InputError(f"a scene has no field {name!r}; it has boxes, labels, areas, {', '.join(FIELDS)}")
        return Instances(self.size, classes=Classes(CLASSES), **values)

    def class_map(self) -> ClassMap:
        """The semantic map as a target, classes `catalog.SEMANTIC_CLASSES`."""
        import torch

        from sightline.structures import Classes, ClassMap

        return ClassMap(torch.from_numpy(self.semantic_map.astype(np.int64)), Classes(SEMANTIC_CLASSES))
