"""Mesh R-CNN: frustums, targets, the graph convolution, and shapes that come back from their own voxels."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.data.transforms import Compose, HorizontalFlip
from sightline.errors import InputError
from sightline.evaluation.meshes import at_true_depth, compare_meshes
from sightline.models.creation import create_model
from sightline.nn.heads import mesh_regions
from sightline.nn.heads.box import Samples
from sightline.nn.heads.frustum import Frustums
from sightline.nn.heads.mesh import GraphConv
from sightline.nn.heads.mesh_regions import MaskMeshRegionHeads, MeshSettings
from sightline.nn.heads.voxel import VoxelHead
from sightline.ops.meshes.alignment import align_vertices
from sightline.ops.meshes.cubify import cubify
from sightline.ops.meshes.distances import chamfer_and_normals
from sightline.ops.meshes.graph import Neighbours
from sightline.ops.meshes.surface import sample_surface
from sightline.runtime.shapes import shapes_only
from sightline.structures import View
from sightline.structures.meshes import Mesh, Meshes
from tests.ops.meshes.shapes import solid, tetrahedron, volume


@lru_cache
def model():
    torch.manual_seed(0)
    small = {"image_size": 96, "meshes": MeshSettings(samples=2, points=200), "mesh_width": 8, "depth_hidden": 8}
    return create_model("mesh_rcnn_lite0_fpn", ["sphere", "box", "cylinder", "cone", "ring"], **small).eval()


@lru_cache
def scenes():
    return sl.scenes(3, 96, seed=4, kind="meshes", objects=(1, 1)).with_fields("meshes")


def skewed():
    """Two regions of cameras with unequal, mirrored and rotated axes."""
    focal = torch.tensor([[[-90.0, 0], [0, 80]], [[60, -70], [75, 65]]], dtype=torch.float64)
    boxes = torch.tensor([[10.0, 20, 50, 45], [30, 5, 60, 70]], dtype=torch.float64)
    return Frustums(boxes, focal, torch.tensor([[48.0, 40], [30, 31]], dtype=torch.float64))


def test_frames_lead_there_and_back():
    frustums, generator = skewed(), torch.Generator().manual_seed(0)
    points = torch.rand(20, 3, dtype=torch.float64, generator=generator)
    owner = torch.arange(20) % 2
    extents, depths = torch.tensor([0.7, 1.3]).double(), torch.tensor([3.0, 8.0]).double()
    local = frustums.from_cube(points, extents, owner)
    torch.testing.assert_close(frustums.to_cube(local, extents, owner), points)
    torch.testing.assert_close(frustums.in_box(local, owner), points[:, :2])
    camera = frustums.to_camera(local, depths, owner)
    torch.testing.assert_close(frustums.from_camera(camera, depths, owner), local)
    for point, k, (u, v, w) in zip(camera, owner.tolist(), points.tolist(), strict=True):
        pixel = frustums.focal[k] @ (point[:2] / point[2]) + frustums.centre[k]
        x1, y1, x2, y2 = frustums.boxes[k].tolist()
        assert pixel.tolist() == pytest.approx([x1 + u * (x2 - x1), y1 + v * (y2 - y1)])
        unit = depths[k] * max(x2 - x1, y2 - y1) / frustums.lengths[k]
        assert float(point[2]) == pytest.approx(float(depths[k] + (w - 0.5) * extents[k] * unit))
    assert frustums.mirrored.tolist() == [True, False]


def test_the_graph_convolution_is_that_of_a_loop():
    torch.manual_seed(0)
    mesh = tetrahedron()
    edges = Meshes.pack([mesh]).edges[:-1]  # one edge less, so that vertices differ in their neighbours
    conv, x = GraphConv(5, 7), torch.randn(4, 5)
    for i, found in enumerate(conv(x, Neighbours(edges, 4))):
        others = [b if a == i else a for a, b in edges.tolist() if i in (a, b)]
        torch.testing.assert_close(found, conv.own(x[i]) + sum(conv.others(x[j]) for j in others))


@pytest.mark.parametrize("mirrored", [False, True])
def test_shapes_come_back_from_their_own_voxels(mirrored):
    """The voxels of a target, decoded without refinement: close to the target, and its faces look outwards."""
    own, branch = model(), model().roi_heads.mesh_branch
    for image, target in scenes():
        if mirrored:
            image, target = Compose([HorizontalFlip(1.0)])(image, target, np.random.default_rng(0))
            assert image.intrinsics[0, 0] < 0
        batch, (moved,) = own.prepare([image], [target])
        frustums = Frustums.of([moved.boxes], batch)
        (true,) = (Mesh.of(mesh) for mesh in target.meshes)
        wanted = branch.shape_targets(frustums, [true])
        low, high = true.bounds
        depth = (low[2] + high[2])[None] / 2
        torch.testing.assert_close(wanted.sizes, depth * frustums.sides / frustums.lengths)
        found = {"boxes": moved.boxes, "labels": moved.labels, "scores": torch.ones(1)}
        features = torch.zeros(1, own.backbone.out_channels, 8, 8)
        logits = torch.where(wanted.voxels, 9.0, -9.0)
        outputs = torch.stack([wanted.extents, wanted.sizes], 1).log()
        branch.predict = lambda *_, given=(features, logits, outputs): given
        try:
            (result,) = branch.detect({}, [found], batch)
        finally:
            del branch.predict
        (mesh,) = result["meshes"]
        assert result["depths"].tolist() == pytest.approx(depth.tolist(), rel=1e-4)
        assert volume(mesh) > 0
        assert compare_meshes(mesh, true, 2000).f1[2] > 0.85
        assert compare_meshes(at_true_depth(mesh, true, 1.02 * float(depth)), true, 2000).f1[2] < 0.85


def test_region_features_and_vertices_lie_where_they_are_seen():
    """On maps that hold the position of each cell in pixels, every bin and every vertex reads its own position."""
    own, branch = model(), model().roi_heads.mesh_branch
    batch, _ = own.prepare([image for image, _ in scenes()][:1], None)
    height, width = batch.tensor.shape[-2:]
    maps = {}
    for level, stride in zip(branch.features.levels, (4, 8, 16, 32), strict=True):
        y, x = torch.meshgrid(
            stride * (torch.arange(height // stride) + 0.5),
            stride * (torch.arange(width // stride) + 0.5),
            indexing="ij",
        )
        maps[level] = torch.stack([x, y])[None]
    boxes = torch.tensor([[20.0, 30, 50, 52], [11.0, 40, 80, 85]])  # of 7 and 17 cells, so that a shift would show
    for features in (branch.features, branch.depth_features):
        found, size = features(maps, [boxes], batch), features.size
        share = (torch.arange(size) + 0.5) / size
        for k, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            torch.testing.assert_close(found[k, 0], (x1 + share * (x2 - x1)).expand(size, size))
            torch.testing.assert_close(found[k, 1], (y1 + share * (y2 - y1))[:, None].expand(size, size))
    frustums, owner = Frustums.of([boxes], batch), torch.tensor([0, 1, 1])
    vertices = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.0, -0.4], [-0.2, 0.1, 0.2]])
    seen = frustums.in_box(vertices, owner)
    pixels = align_vertices(branch.features(maps, [boxes], batch), seen, owner)
    torch.testing.assert_close(pixels, boxes[owner, :2] + seen * (boxes[owner, 2:] - boxes[owner, :2]))


def test_a_pyramid_with_normalisation_gives_features_of_unit_size():
    """Whatever the size of the backbone's maps; without normalisation theirs is that of the pyramid's."""
    torch.manual_seed(0)
    deviations = []
    for norm in (False, True):
        pyramid = create_model("mesh_rcnn_lite0_fpn", ["box"], image_size=64, pyramid_norm=norm).backbone.fpn.train()
        widths = [block[0].in_channels for block in pyramid.inner_blocks]
        maps = {f"{i}": 50 * torch.randn(2, width, 16 >> i, 16 >> i) for i, width in enumerate(widths)}
        with torch.no_grad():
            deviations.append(float(pyramid(maps)["0"].std()))
    assert deviations[0] > 20
    assert deviations[1] == pytest.approx(1, rel=0.1)


def test_shapes_are_learned_from_regions_that_fit():
    branch = model().roi_heads.mesh_branch
    assert branch.settings.min_iou == 0.5
    (_, target), wide = scenes()[0], torch.tensor([1.0, 1, 2, 1])
    whole = target.boxes * torch.tensor([0.0, 0, 0, 0]) + torch.tensor([10.0, 10, 50, 50])
    regions = torch.cat([whole, whole + 4, whole * wide])  # IoU 1, 0.68 and 0.44
    samples = Samples([regions], [torch.tensor([0, 0, -1])], torch.zeros(3, dtype=torch.int64), torch.zeros(3, 4))
    for limit, count in ((0.5, 2), (0.75, 1)):
        branch.settings, settings = dataclasses.replace(branch.settings, min_iou=limit), branch.settings
        try:
            chosen, meshes = branch.chosen(samples, [target.replace(boxes=whole)])
        finally:
            branch.settings = settings
        assert len(chosen[0]) == len(meshes) == count
    nothing = Samples([regions], [torch.full((3,), -1)], samples.labels, samples.box_targets)
    assert not branch.chosen(nothing, [target[:0]])[1]


def test_half_precision_is_for_the_networks_only():
    image, target = scenes()[0]
    own = create_model("mesh_rcnn_lite0_fpn", model().classes, image_size=64, grid=8, meshes={"points": 50})
    with torch.autocast("cpu", torch.bfloat16):
        losses = own([image], [target])
        (result,) = own.eval()([image])
    assert losses["loss_chamfer"].dtype == losses["loss_voxel"].dtype == torch.float32
    assert all(loss.isfinite() for loss in losses.values())
    assert all(mesh.vertices.dtype == torch.float32 for mesh in result.meshes)


def test_results_have_meshes_in_front_of_the_camera():
    image, _ = scenes()[0]
    with torch.no_grad():
        (result,) = model()([image])
    assert len(result.meshes) == len(result) == len(result.depths) > 0
    torch.testing.assert_close(result.cameras[0].double(), image.intrinsics, atol=1e-3, rtol=1e-5)
    assert all(isinstance(mesh, Mesh) and (mesh.vertices[:, 2] > 0).all() for mesh in result.meshes)
    chosen = result[torch.tensor([0])]
    assert chosen.meshes[0] is result.meshes[0]


@pytest.mark.parametrize("at_once", [1, 3])
def test_meshes_do_not_depend_on_how_many_are_predicted_at_once(monkeypatch, at_once):
    boxes = torch.tensor([[10.0, 20, 50, 45], [30, 5, 60, 70], [5, 5, 40, 80], [20, 30, 90, 60]])
    batch, _ = model().prepare([scenes()[0][0]], None)
    maps, found = model().backbone(batch.tensor), [{"boxes": boxes, "scores": torch.ones(4)}]
    branch = model().roi_heads.mesh_branch
    (together,) = branch.detect(maps, found, batch)
    monkeypatch.setattr(mesh_regions, "_REGIONS_AT_ONCE", at_once)
    (apart,) = branch.detect(maps, found, batch)
    assert torch.equal(apart["depths"], together["depths"])
    for one, other in zip(apart["meshes"], together["meshes"], strict=True):
        assert torch.equal(one.faces, other.faces)
        torch.testing.assert_close(one.vertices, other.vertices)


def test_images_without_a_camera_get_one_and_it_is_said_once(caplog):
    own = create_model("mesh_rcnn_lite0_fpn", ["box"], image_size=64)
    plain = torch.zeros(3, 60, 80, dtype=torch.uint8)
    for _ in range(2):
        batch, _ = own.prepare([plain], None)
    assert batch.require_cameras()[0].intrinsics[0, 0] == pytest.approx(1.2 * 60 * batch.scales[0][0])
    assert [r.message.startswith("images without a camera") for r in caplog.records] == [True]


def test_meshes_that_cannot_be_learned_from_are_refused():
    image, target = scenes()[0]
    behind = target.replace(meshes=[Mesh(solid(1).vertices - 2, solid(1).faces, source="a.obj")])
    with pytest.raises(InputError, match=r"a\.obj begins at z = -1\.9, but must be in front of the camera"):
        model()([image], [behind])
    branch = model().roi_heads.mesh_branch
    opened = target.replace(meshes=[Mesh(target.meshes[0][0], target.meshes[0][1][1:], source="b.obj")])
    settings = branch.settings
    try:
        branch.settings = dataclasses.replace(settings, open_meshes="refuse")
        with pytest.raises(InputError, match=r"b\.obj is not closed"):
            model()([image], [opened])
    finally:
        branch.settings = settings
    assert all(loss.isfinite() for loss in model()([image], [opened]).values())
    with pytest.raises(InputError, match="has no meshes, but this model learns from them"):
        model()([image], [sl.scenes(1, 96, seed=4, objects=(1, 1))[0][1]])


def test_without_a_likely_voxel_the_most_likely_one_is_taken():
    branch = model().roi_heads.mesh_branch
    frustums = Frustums(torch.tensor([[10.0, 10, 50, 50]]), 100 * torch.eye(2)[None], torch.tensor([[48.0, 48]]))
    logits = torch.full((1, 16, 16, 16), -9.0)
    logits[0, 3, 4, 5] = -8
    features = torch.zeros(1, model().backbone.out_channels, 8, 8)
    (mesh,) = branch.refined(features, logits, torch.ones(1), frustums)[0].split()
    assert len(mesh.faces) == 12


def test_without_stages_the_mesh_is_the_surface_of_the_voxels():
    own = create_model("mesh_rcnn_lite0_fpn", model().classes, image_size=64, grid=8, stages=0)
    image, target = scenes()[0]
    losses = own([image], [target])
    assert {name for name in losses if name in ("loss_chamfer", "loss_normal", "loss_edge")} == set()
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in own.roi_heads.mesh_branch.parameters())
    frustums = Frustums(torch.tensor([[10.0, 10, 50, 50]]), 100 * torch.eye(2)[None], torch.tensor([[48.0, 48]]))
    logits = torch.full((1, 8, 8, 8), -9.0)
    logits[0, 2:5, 3:6, 1:7] = 9
    meshes = own.roi_heads.mesh_branch.refined(torch.zeros(1, 64, 4, 4), logits, torch.ones(1), frustums)
    assert [mesh.face_counts for mesh in meshes] == [(2 * 2 * (3 * 3 + 3 * 6 + 3 * 6),)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"grid": 7}, "grid is 7, but must be an even number"),
        ({"stages": -1}, "stages is -1"),
        ({"meshes": {"threshold": 1.5}}, "threshold is 1.5"),
    ],
)
def test_arguments_out_of_range(arguments, words):
    with pytest.raises(InputError, match=words):
        create_model("mesh_rcnn_lite0_fpn", ["box"], **arguments)


@pytest.mark.parametrize("whole", [0, 8])
def test_voxels_see_the_whole_region_through_the_fully_connected_branch(whole):
    """Four convolutions see 4 cells to each side: without a branch the last row of 12 cannot reach the first voxels."""
    torch.manual_seed(0)
    head = VoxelHead(3, 24, width=4, whole=whole).eval()
    x = torch.rand(1, 3, 12, 12, requires_grad=True)
    voxels = head(x)
    assert voxels.shape == (1, 24, 24, 24)
    (slope,) = torch.autograd.grad(voxels[0, :, 0, 0].sum(), x)
    assert bool((slope[0, :, 11].abs() > 0).any()) == bool(whole)
    assert bool((slope[0, :, 2, 2].abs() > 0).any())
    assert create_model("mesh_rcnn_lite0_fpn", ["box"]).roi_heads.mesh_branch.voxel_head.whole is not None


def test_normals_do_not_outweigh_distances_of_good_meshes():
    """The pull of both losses of the small models on vertices of true voxels; with weights of 1 : 0.1 it is 1 : 10."""
    own = create_model("mesh_rcnn_lite0_fpn", model().classes, image_size=96)
    branch, pulls = own.roi_heads.mesh_branch, {"chamfer": [], "normal": []}
    s = branch.settings
    batch, targets = own.prepare(*map(list, zip(*(scenes()[i] for i in range(2)), strict=True)))
    frustums = Frustums.of([target.boxes for target in targets], batch)
    true = branch.shape_targets(frustums, [Mesh.of(target.meshes[0]) for target in targets])
    cubes = cubify(true.voxels)
    vertices = frustums.from_cube(cubes.vertices, true.extents, cubes.vertex_mesh).requires_grad_()
    torch.manual_seed(0)
    for _ in range(6):  # the mean over samples, whose noise does not move meshes
        found = sample_surface(cubes.with_vertices(vertices), s.points)
        chamfer, normal = chamfer_and_normals(found, sample_surface(true.meshes, s.points))
        for name, loss in (("chamfer", s.chamfer_weight * chamfer), ("normal", s.normal_weight * normal)):
            pulls[name].append(torch.autograd.grad(loss.mean(), vertices, retain_graph=True)[0])
    chamfer, normal = (torch.stack(pulls[name]).mean(0).norm() for name in ("chamfer", "normal"))
    assert 0.1 * chamfer < normal < 2 * chamfer


def test_the_papers_sizes():
    """24³ voxels, four convolutions of 256; three stages of three graph convolutions of 128 (section 4.2)."""
    with shapes_only():
        own = create_model("mesh_rcnn_resnet50_fpn", ["chair"])
    heads = own.roi_heads
    assert isinstance(heads, MaskMeshRegionHeads)
    assert own.target_fields == ("meshes", "masks")
    branch = heads.mesh_branch
    assert isinstance(branch.voxel_head, VoxelHead)
    assert [tuple(conv[0].weight.shape) for conv in branch.voxel_head.convs] == [(256, 256, 3, 3)] * 4
    assert tuple(branch.voxel_head.logits.weight.shape) == (24, 256, 1, 1)
    shapes = [[tuple(conv.own.weight.shape) for conv in stage.convs] for stage in branch.mesh_head.stages]
    later = [(128, 259), (128, 131), (128, 131)]
    assert shapes == [[(128, 131)] * 3, later, later]
    assert isinstance(scenes()[0][0], View)
