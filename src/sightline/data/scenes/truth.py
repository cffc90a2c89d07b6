"""Creates a scene with its ground truth from what the rays hit."""

from __future__ import annotations

import numpy as np

from sightline.data.scenes.camera import cuboid_of
from sightline.data.scenes.catalog import CLASSES, MIN_PIXELS, STUFF
from sightline.data.scenes.keypoints import keypoints_of
from sightline.data.scenes.language import captions_of, phrase_of, relations_of, scene_caption
from sightline.data.scenes.raycast import TraceResult
from sightline.data.scenes.scene import Scene, SceneObject


def describe(traced: TraceResult, image: np.ndarray, seed: int, frame: int = 0) -> Scene:
    """Create the scene of a traced image.

    Args:
        traced: what the rays hit.
        image: its colours, [H, W, 3] uint8.
        seed, frame: seed and frame index of the scene.
    """
    world, camera = traced.world, traced.world.camera
    labelled = [k for k, pixels in enumerate(traced.visible_pixels) if pixels >= MIN_PIXELS]
    bodies = tuple(world.bodies[k] for k in labelled)

    ids = np.zeros(len(world.bodies) + len(world.planes), np.int16)
    ids[: len(world.bodies)] = -1
    ids[labelled] = [body.id for body in bodies]
    semantic = [len(STUFF) + CLASSES.index(body.class_name) for body in world.bodies]
    semantic += [STUFF.index(plane.kind) for plane in world.planes]
    instance_map = ids[traced.owner]

    keypoints = keypoints_of(world.bodies, camera)[labelled]
    captions = captions_of(bodies, camera)
    areas = [traced.visible_pixels[k] for k in labelled]
    objects = []
    for number, (k, body) in enumerate(zip(labelled, bodies, strict=True)):
        amodal = world.outlines[k]
        objects.append(
            SceneObject(
                id=body.id,
                box=_tight_box(traced.owner, k, amodal),
                amodal_box=np.array(amodal, np.float32),
                area=areas[number],
                visibility=areas[number] / traced.outline_pixels[k],
                keypoints=keypoints[number],
                cuboid=cuboid_of(body.shape, body.rotation, body.centre, camera).astype(np.float32),
                phrase=phrase_of(body),
                caption=captions[number],
                body=body,
                camera=camera,
                instance_map=instance_map,
            )
        )
    return Scene(
        image=image,
        depth=traced.depth,
        semantic_map=np.array(semantic, np.uint8)[traced.owner],
        instance_map=instance_map,
        camera=camera,
        objects=tuple(objects),
        relations=tuple(relations_of(bodies, camera)),
        caption=scene_caption(world, captions, areas),
        seed=seed,
        frame=frame,
    )


def _tight_box(owner: np.ndarray, number: int, outline: list[float]) -> np.ndarray:
    """[4] float32, the bounding box of the pixels that belong to `number`, which lie inside `outline`."""
    left, top = max(int(outline[0]) - 1, 0), max(int(outline[1]) - 1, 0)
    inside = owner[top : int(outline[3]) + 2, left : int(outline[2]) + 2] == number
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    return np.array([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1], np.float32)
