"""What a scene says of itself, against the same geometry worked out naively."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from sightline.data.scenes import (
    CLASSES,
    COLOURS,
    KEYPOINTS,
    MATERIALS,
    SEMANTIC_CLASSES,
    SIZES,
    STUFF,
    Scene,
    SceneObject,
    cuboid_corners,
    render,
)
from sightline.data.scenes.catalog import MIN_PIXELS, MIN_VISIBILITY, POINTS
from sightline.data.scenes.keypoints import surface_points
from sightline.errors import InputError
from tests.data.scenes.solids import eye, inside, inside_object, march, view_rays

SEEDS = range(8)
scene_of = lru_cache(render)


@lru_cache
def many() -> list[Scene]:
    return [render(seed) for seed in range(200, 320)]


@pytest.mark.parametrize("seed", SEEDS)
def test_depth_and_owner_are_those_of_a_naive_march(seed: int) -> None:
    scene = scene_of(seed)
    generator = np.random.default_rng(seed)
    rows, columns = generator.integers(0, 160, 60), generator.integers(0, 160, 60)
    for item in scene.objects:  # rays through objects are rarer than those past them
        own = np.argwhere(item.mask)
        chosen = own[generator.integers(0, len(own), 12)]
        rows, columns = np.append(rows, chosen[:, 0]), np.append(columns, chosen[:, 1])
    place = eye(scene)
    checked = 0
    for row, column, ray in zip(rows, columns, view_rays(scene, rows, columns), strict=True):
        floor = -place[2] / ray[2] if ray[2] < 0 else np.inf
        arrivals = [
            march(lambda t, i=item, r=ray: inside_object(i, place + t[:, None] * r), 1.5, 14, 0.004)
            for item in scene.objects
        ]
        if any(abs(least) < 0.005 for _, least in arrivals):
            continue  # grazing
        checked += 1
        nearest = int(np.argmin([t for t, _ in arrivals]))
        expected = arrivals[nearest][0]
        if np.isfinite(expected):
            assert expected < floor + 1e-3
            assert scene.instance_map[row, column] == scene.objects[nearest].id
            assert scene.depth[row, column] == pytest.approx(expected, abs=2e-3)
        else:
            assert scene.instance_map[row, column] == 0
            is_floor = scene.semantic_map[row, column] == STUFF.index("floor")
            assert scene.depth[row, column] <= floor * (1 + 1e-5)
            if is_floor:
                assert scene.depth[row, column] == pytest.approx(floor, rel=1e-5)
    assert checked > 60


@pytest.mark.parametrize("seed", SEEDS)
def test_walls_are_upright_planes(seed: int) -> None:
    scene = scene_of(seed)
    rows, columns = np.nonzero(scene.semantic_map == STUFF.index("wall"))
    points = eye(scene) + view_rays(scene, rows, columns) * scene.depth[rows, columns, None]
    assert points[:, 2].min() > -1e-3
    flat = points[:, :2]
    for _ in range(2):  # at most two walls: take the plane through most points away, then look at the rest
        if not len(flat):
            break
        generator = np.random.default_rng(0)
        best = np.zeros(len(flat), bool)
        for _ in range(40):
            a, b = flat[generator.integers(0, len(flat), 2)]
            way = np.array([a[1] - b[1], b[0] - a[0]])
            near = abs((flat - a) @ way) < 2e-3 * np.linalg.norm(way)
            best = near if near.sum() > best.sum() and np.linalg.norm(way) > 0.3 else best
        flat = flat[~best]
    assert len(flat) <= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_masks_maps_and_areas_agree(seed: int) -> None:
    scene = scene_of(seed)
    masks = scene.masks
    assert scene.image.shape == (160, 160, 3)
    assert scene.image.dtype == np.uint8
    assert scene.depth.dtype == np.float32
    assert (masks.sum(0) <= 1).all()
    assert np.array_equal(masks.any(0), scene.instance_map > 0)
    assert np.array_equal(scene.instance_map == 0, scene.semantic_map < len(STUFF))
    for item, mask, box in zip(scene.objects, masks, scene.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert item.area == mask.sum()
        assert {SEMANTIC_CLASSES[k] for k in np.unique(scene.semantic_map[mask])} == {item.class_name}
        assert CLASSES[item.label] == item.class_name
        assert (item.amodal_box[:2] <= box[:2] + 1).all()
        assert (item.amodal_box[2:] >= box[2:] - 1).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_meshes_fill_their_boxes_and_cuboids(seed: int) -> None:
    scene = scene_of(seed)
    for item in scene.objects:
        vertices, faces = item.mesh()
        world, _ = item.mesh("world")
        own, _ = item.mesh("object")
        assert abs(inside(item.body.shape, own)).max() < 1e-5
        assert abs(inside_object(item, world)).max() < 1e-5
        matrix = scene.camera.extrinsics
        assert vertices == pytest.approx(world @ matrix[:, :3].T + matrix[:, 3], abs=1e-5)

        a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
        middle = vertices.mean(0)
        assert np.einsum("ij,ij->i", a - middle, np.cross(b - middle, c - middle)).sum() > 0  # still outward

        pixels = vertices @ scene.camera.matrix.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        box = np.append(pixels.min(0), pixels.max(0))
        assert (box[:2] >= item.amodal_box[:2] - 1e-2).all()
        assert (box[2:] <= item.amodal_box[2:] + 1e-2).all()
        assert box == pytest.approx(item.amodal_box, abs=1)

        x, y, z, w, h, l, roll, pitch, yaw = item.cuboid.astype(np.float64)  # noqa: E741
        local = (vertices - [x, y, z]) @ _turn(roll, pitch, yaw)
        assert (abs(local) <= np.array([l, h, w]) / 2 + 1e-4).all()
        upright = abs(item.body.rotation[:, 2]).max() > 0.999 or item.class_name != "cone"
        if upright:
            assert local.max(0) == pytest.approx(np.array([l, h, w]) / 2, rel=0.02)
        assert -np.pi / 2 < yaw <= np.pi / 2 + 1e-6


def _turn(roll: float, pitch: float, yaw: float) -> np.ndarray:
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def test_cuboid_corners_by_hand() -> None:
    # KITTI: length along x, height along y, width along z; rotation_y = 90° turns x to −z.
    flat = cuboid_corners(np.array([1, 2, 3, 0.4, 0.6, 2.0, 0, 0, 0]))
    assert flat[0] == pytest.approx([0, 1.7, 2.8])
    assert flat[7] == pytest.approx([2, 2.3, 3.2])
    turned = cuboid_corners(np.array([[0, 0, 0, 0, 0, 2.0, 0, 0, np.pi / 2]]))
    assert turned[0, 1] == pytest.approx([0, 0, -1])
    generator = np.random.default_rng(0)
    cuboids = generator.uniform(0.2, 1.4, (5, 9))
    for cuboid, corners in zip(cuboids, cuboid_corners(cuboids), strict=True):
        signs = [[(k & 1) * 2 - 1, (k >> 1 & 1) * 2 - 1, (k >> 2 & 1) * 2 - 1] for k in range(8)]
        expected = signs * cuboid[[5, 4, 3]] / 2 @ _turn(*cuboid[6:]).T + cuboid[:3]
        assert corners == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_visibility_counts_all_pixels_of_the_outline(seed: int) -> None:
    scene = scene_of(seed)
    place = eye(scene)
    for item in scene.objects:
        x1, y1, x2, y2 = np.floor(item.amodal_box).astype(int)
        rows, columns = (v.ravel() for v in np.mgrid[y1 - 1 : y2 + 2, x1 - 1 : x2 + 2])
        ways = view_rays(scene, rows, columns)
        depth, reach = item.cuboid[2], item.body.shape.bound * 1.1
        hit = np.zeros(len(rows), bool)
        for t in np.arange(depth - reach, depth + reach, 0.01):
            hit |= inside_object(item, place + t * ways) < 0
        assert item.visibility == pytest.approx(item.area / hit.sum(), rel=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_keypoints_lie_on_the_surface_and_are_seen_where_they_say(seed: int) -> None:
    scene = scene_of(seed)
    place = eye(scene)
    for item in scene.objects:
        names = KEYPOINTS[item.class_name]
        points = surface_points(item.body, scene.camera)
        assert len(points) == sum(name != "" for name in names)
        assert abs(inside_object(item, points)).max() < 1e-6
        assert item.keypoints.shape == (POINTS, 3)
        assert not item.keypoints[len(points) :].any()
        for point, (x, y, seen) in zip(points, item.keypoints, strict=False):
            pixel = scene.camera.matrix @ (scene.camera.extrinsics @ np.append(point, 1))
            pixel = pixel[:2] / pixel[2]
            if not ((pixel >= 0).all() and (pixel < 160).all()):
                assert (x, y, seen) == (0, 0, 0)
                continue
            assert [x, y] == pytest.approx(pixel, abs=1e-3)
            way = point - place
            others = [_first(other, place, way) for other in scene.objects if other is not item]
            if any(abs(least) < 0.01 for _, least in others):
                continue  # grazing
            if any(np.isfinite(t) for t, _ in others):
                assert seen == 1
                continue
            t, least = _first(item, place, way)
            behind = (1 - t) * np.linalg.norm(way)  # how far behind its own outline the point lies
            if not np.isfinite(t):
                assert seen == 2
            elif least < -0.01 and behind > 0.45 * item.body.shape.bound:
                assert seen == 1


def _first(item: SceneObject, place: np.ndarray, way: np.ndarray) -> tuple[float, float]:
    """The share of the way at which the object is met, short of its end."""
    return march(lambda t: inside_object(item, place + t[:, None] * way), 0.3, 0.998, 0.001)


def test_box_keypoints_are_named_as_the_viewer_sees_them() -> None:
    found = 0
    for scene in many()[:60]:
        for item in scene.objects:
            view = item.body.centre - eye(scene)
            cosine = abs(view @ item.body.rotation[:, 0]) / np.hypot(view[0], view[1])
            # Where the box shows two sides; of one that shows its front alone, no upright edge stands out.
            if item.class_name == "box" and (item.keypoints[:, 2] > 0).all() and 0.35 < cosine < 0.93:
                named = dict(zip(KEYPOINTS["box"], item.keypoints, strict=True))
                assert named["top left"][0] < named["top front"][0] < named["top right"][0]
                assert named["top front"][1] > named["top back"][1]
                assert named["bottom front"][1] > named["top front"][1]
                found += 1
    assert found > 20


def test_scenes_are_as_promised_and_varied() -> None:
    items = [item for scene in many() for item in scene.objects]
    counts = [len(scene.objects) for scene in many()]
    assert min(counts) >= 2
    assert max(counts) <= 7
    assert {2, 3, 4, 5, 6, 7} == set(counts)
    assert {item.class_name for item in items} == set(CLASSES)
    assert {item.colour for item in items} == set(COLOURS)
    assert {item.material for item in items} == set(MATERIALS)
    assert {item.size for item in items} == set(SIZES)
    assert min(item.visibility for item in items) >= MIN_VISIBILITY
    assert max(item.visibility for item in items) <= 1
    assert min(item.area for item in items) >= MIN_PIXELS
    sides = np.array([(item.amodal_box[2:] - item.amodal_box[:2]).max() for item in items])
    assert sides.min() >= 15.9
    assert sides.max() <= 70.1
    for item in items:
        low, high = SIZES[item.size]
        assert low / 2 - 1e-6 <= max(item.body.shape.half) <= high / 2 + 1e-6
    shares = np.bincount([item.label for item in items], minlength=len(CLASSES)) / len(items)
    assert shares.min() > 0.1
    means = np.array([scene.image.mean() for scene in many()])
    assert means.min() > 40
    assert means.max() < 225
    assert means.std() > 10


def test_targets_of_the_library() -> None:
    scene = scene_of(3)
    target = scene.instances(
        ("masks", "keypoints", "cuboids", "captions", "visibility", "colours", "materials", "sizes", "meshes")
    )
    assert len(target) == len(scene.objects)
    assert target.names() == [item.class_name for item in scene.objects]
    assert np.array_equal(target.masks.numpy(), scene.masks)
    assert target.captions == [item.caption for item in scene.objects]
    assert target.colours == [item.colour for item in scene.objects]
    assert target.materials == [item.material for item in scene.objects]
    assert target.meshes[0][0].shape[1] == 3
    assert target.areas.tolist() == [item.area for item in scene.objects]
    class_map = scene.class_map()
    assert class_map.image_size == (160, 160)
    assert np.array_equal(class_map.labels.numpy(), scene.semantic_map)
    with pytest.raises(InputError, match="no field 'colors'"):
        scene.instances(("colors",))


@pytest.mark.parametrize("size", [32, (96, 200), (200, 120), 320])
def test_other_sizes(size: int | tuple[int, int]) -> None:
    scene = render(4, size)
    height, width = (size, size) if isinstance(size, int) else size
    assert scene.image.shape == (height, width, 3)
    assert scene.depth.shape == scene.semantic_map.shape == scene.instance_map.shape == (height, width)
    assert len(scene.objects) >= 2
    for item, mask in zip(scene.objects, scene.masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert item.box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_picture_too_flat_for_two_objects_still_is_one() -> None:
    assert render(0, (16, 400)).image.shape == (16, 400, 3)


def test_number_of_objects() -> None:
    assert {len(render(seed, 64, objects=(1, 1)).objects) for seed in range(5)} == {1}
    assert {len(render(seed, 64, objects=(3, 3)).objects) for seed in range(5)} == {3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed of a scene is .*, but must be between 0 and"),
        ({"seed": 0.5}, "an integer as seed"),
        ({"seed": 0, "size": 8}, "the size of a scene is 8×8, but must be at least 16 pixels"),
        ({"seed": 0, "size": (3, 4, 5)}, "one or two integers as size"),
        ({"seed": 0, "objects": (4, 2)}, r"objects is \(4, 2\)"),
        ({"seed": 0, "objects": (0, 2)}, r"objects is \(0, 2\)"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(**arguments)
