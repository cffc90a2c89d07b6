"""Regions to meshes: the voxel and mesh branches of Mesh R-CNN, their targets and losses.

Gkioxari, Malik, Johnson, "Mesh R-CNN", ICCV 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.nn.heads.box import RegionFeatures, RegionHeads, Samples
from sightline.nn.heads.frustum import Frustums
from sightline.nn.heads.mask import MaskRegionHeads, zero_loss
from sightline.nn.heads.mesh import MeshHead
from sightline.nn.heads.voxel import DepthHead, VoxelHead
from sightline.ops.boxes import elementwise_iou
from sightline.ops.meshes.cubify import cubify
from sightline.ops.meshes.distances import chamfer_and_normals, edge_loss
from sightline.ops.meshes.surface import sample_surface
from sightline.ops.meshes.voxelise import voxelise
from sightline.structures import ImageBatch, Instances
from sightline.structures.meshes import Mesh, Meshes

_LEAST_EXTENT = 1e-3
"""Range of depths of a flat object, in the unit of the local frame."""


_REGIONS_AT_ONCE = 8
"""Number of meshes that are predicted together. Those of an untrained model have tens of thousands of vertices each."""
_SHARES = torch.tensor([1.0, 0.25])
"""Weights of the range of depths and of the size in their loss: the size of an object is a guess from one image."""


@dataclass(frozen=True)
class MeshSettings:
    """Settings of the voxel and mesh branches.

    Attributes:
        min_iou: IoU with its object from which a region's shape is learned from; 0.5 in the paper. Final boxes
            overlap their object by about 0.9, and shapes in boxes that fit badly are a different task.
        threshold: probability above which a voxel is occupied; 0.2 in the paper on Pix3D.
        samples: maximum number of regions per image whose voxels are learned from, chosen at random from those that
            are matched to an object.
        refined: maximum number of them whose mesh is refined and learned from, which costs most of a step. (The paper
            takes all.)
        true_voxels: fraction of these meshes that are made of the true voxels instead of the predicted ones in
            training. In a short training, refinement otherwise learns from poor meshes only, and then harms good ones.
        points: number of points sampled on each mesh for the losses.
        voxel_weight, depth_weight, chamfer_weight, normal_weight, edge_weight: weights of the losses.
        open_meshes: what is done with target meshes that are not closed, of which the inside is not defined: "refuse"
            them, or take the "shell" as occupied (`sightline.ops.meshes.voxelise`).
    """

    min_iou: float = 0.5
    threshold: float = 0.2
    samples: int = 16
    refined: int = 16
    true_voxels: float = 0.0
    points: int = 5000
    voxel_weight: float = 3.0
    depth_weight: float = 5.0
    chamfer_weight: float = 1.0
    normal_weight: float = 0.1
    edge_weight: float = 1.0
    open_meshes: Literal["refuse", "shell"] = "shell"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold}, but must be a probability between 0 and 1")
        if min(self.samples, self.refined, self.points) < 1:
            raise InputError(
                f"samples is {self.samples}, refined {self.refined} and points {self.points}, but each must be at "
                "least 1"
            )
        for name in ("true_voxels", "min_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}, but must be a fraction, 0 to 1")


@dataclass(frozen=True)
class ShapeTargets:
    """The shapes of regions, in their local frames.

    Attributes:
        meshes: one mesh per region.
        extents: [R] range of depths.
        sizes: [R] the unit of the local frame in metres.
        voxels: [R, G, G, G] bool.
    """

    meshes: Meshes
    extents: Tensor
    sizes: Tensor
    voxels: Tensor


class MeshBranch(nn.Module):
    """Region features → voxels → meshes, refined in stages (figure 3).

    Args:
        features: function that crops the features of regions; their side is half that of the grid of voxels.
        depth_features: function that crops those of the depth head.
        voxel_head, depth_head, mesh_head: the three networks.
        settings: thresholds, numbers and weights.
    """

    def __init__(
        self,
        features: RegionFeatures,
        depth_features: RegionFeatures,
        voxel_head: VoxelHead,
        depth_head: DepthHead,
        mesh_head: MeshHead,
        settings: MeshSettings | None = None,
    ):
        super().__init__()
        self.features, self.depth_features = features, depth_features
        self.voxel_head, self.depth_head, self.mesh_head = voxel_head, depth_head, mesh_head
        self.settings = settings or MeshSettings()

    def predict(
        self, maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features [R, C, S, S], voxels [R, G, G, G] before the sigmoid, and depths [R, 2] as in `DepthHead`."""
        features = self.features(maps, regions, batch)
        return features, self.voxel_head(features), self.depth_head(self.depth_features(maps, regions, batch))

    def refined(self, features: Tensor, voxels: Tensor, extents: Tensor, frustums: Frustums) -> list[Meshes]:
        """The meshes of voxels after each stage, in the local frames of their regions.

        Args:
            features: [R, C, S, S].
            voxels: [R, G, G, G] before the sigmoid. If none is above the threshold, the most likely one is taken.
            extents: [R] range of depths in the local frame.
            frustums: those of the regions.
        """
        chances = voxels.detach().sigmoid()
        least = chances.flatten(1).amax(1).clamp(max=self.settings.threshold)
        cubes = cubify(chances >= least[:, None, None, None])
        vertices = frustums.from_cube(cubes.vertices.to(extents), extents, cubes.vertex_mesh)
        return self.mesh_head(features, cubes.with_vertices(vertices), frustums)

    def losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """The losses of the shapes of sampled regions (section 3.3; the mean over the stages).

        Without stages of refinement these are the losses of voxels and depths only.
        """
        regions, meshes = self.chosen(samples, targets)
        if not len(meshes):
            zero = zero_loss(self.voxel_head, self.depth_head, self.mesh_head)
            names = (
                ("voxel", "depth", "chamfer", "normal", "edge") if len(self.mesh_head.stages) else ("voxel", "depth")
            )
            return {f"loss_{name}": zero for name in names}
        s = self.settings
        features, voxels, depths = self.predict(maps, regions, batch)
        with torch.autocast(voxels.device.type, enabled=False):  # positions need single precision
            features, voxels, depths = (
                x.to(torch.promote_types(x.dtype, torch.float32)) for x in (features, voxels, depths)
            )
            frustums = Frustums.of(regions, batch).like(features)
            wanted = self.shape_targets(frustums, meshes)
            known = torch.stack([wanted.extents, wanted.sizes], 1).log().to(depths.dtype)
            depth = F.smooth_l1_loss(depths, known, reduction="none", beta=0.1)
            losses = {
                "loss_voxel": s.voxel_weight
                * F.binary_cross_entropy_with_logits(voxels, wanted.voxels.to(voxels.dtype)),
                "loss_depth": s.depth_weight * (_SHARES.to(depth) * depth).mean(),
            }
            if not len(self.mesh_head.stages):
                return losses
            return losses | self._refinement_losses(regions, features, voxels, depths, frustums, wanted)

    def _refinement_losses(
        self,
        regions: Sequence[Tensor],
        features: Tensor,
        voxels: Tensor,
        depths: Tensor,
        frustums: Frustums,
        wanted: ShapeTargets,
    ) -> dict[str, Tensor]:
        """The losses of the meshes of all stages, of at most `MeshSettings.refined` regions per image."""
        s = self.settings
        extents = _lengths(depths[:, 0]).to(frustums.boxes)  # as predicted, so that refinement learns to correct them
        rows = torch.cat([torch.arange(len(own)) < s.refined for own in regions]).nonzero().flatten().to(voxels.device)
        given = torch.rand(len(rows), device=voxels.device) < s.true_voxels
        certain = torch.where(wanted.voxels[rows], 9.0, -9.0).to(voxels.dtype)
        shown = torch.where(given[:, None, None, None], certain, voxels.detach()[rows])
        stages = self.refined(features[rows], shown, extents[rows], frustums[rows])
        parts = wanted.meshes.split()
        true = sample_surface(Meshes.pack([parts[row] for row in rows.tolist()]), s.points)
        terms = [(*chamfer_and_normals(sample_surface(stage, s.points), true), edge_loss(stage)) for stage in stages]
        chamfer, normal, edge = (torch.stack(list(term)).mean() for term in zip(*terms, strict=True))
        return {
            "loss_chamfer": s.chamfer_weight * chamfer,
            "loss_normal": s.normal_weight * (normal + 2),  # 0 for equal surfaces
            "loss_edge": s.edge_weight * edge,
        }

    def chosen(self, samples: Samples, targets: Sequence[Instances]) -> tuple[list[Tensor], list[Mesh]]:
        """Regions [R_i, 4] of each image whose shape is learned, and their meshes in the frame of the camera."""
        regions, meshes = [], []
        for region, objects, target in zip(samples.regions, samples.objects, targets, strict=True):
            rows = (objects >= 0).nonzero().flatten()
            rows = rows[elementwise_iou(region[rows], target.boxes.to(region)[objects[rows]]) >= self.settings.min_iou]
            rows = rows[torch.randperm(len(rows), device=rows.device)[: self.settings.samples]]
            regions.append(region[rows])
            meshes += [Mesh.of(target.meshes[k]) for k in objects[rows].tolist()]
        return regions, meshes

    @torch.no_grad()
    def shape_targets(self, frustums: Frustums, meshes: Sequence[Mesh]) -> ShapeTargets:
        """The shapes of objects as their regions see them.

        Args:
            frustums: of R regions.
            meshes: R meshes in the frame of the camera.

        Raises:
            InputError: a mesh is not entirely in front of the camera, or it is open and must not be.
        """
        packed = Meshes.pack([mesh.to(frustums.boxes.device) for mesh in meshes])
        low, high = (torch.stack(list(ends))[:, 2] for ends in zip(*(mesh.bounds for mesh in meshes), strict=True))
        if not bool((low > 0).all()):
            row = int((low <= 0).nonzero()[0])
            raise InputError(
                f"{meshes[row].source or 'a mesh'} begins at z = {float(low[row]):.3g}, but must be in front of the "
                "camera: meshes are in its frame, with z forwards"
            )
        depths = ((low + high) / 2).to(frustums.boxes)
        local = frustums.from_camera(packed.vertices.to(frustums.boxes), depths, packed.vertex_mesh)
        unit = frustums.sides / frustums.lengths
        extents = (((high - low).to(depths) / depths) / unit).clamp(min=_LEAST_EXTENT)
        cubes = packed.with_vertices(frustums.to_cube(local, extents, packed.vertex_mesh)).split()
        grid = (self.voxel_head.grid,) * 3
        voxels = []
        for cube, mesh in zip(cubes, meshes, strict=True):
            cube.source = mesh.source
            voxels.append(voxelise(cube, grid, self.settings.open_meshes))
        return ShapeTargets(packed.with_vertices(local), extents, depths * unit, torch.stack(voxels))

    @torch.no_grad()
    def detect(self, maps: dict[str, Tensor], found: list[dict[str, Any]], batch: ImageBatch) -> list[dict[str, Any]]:
        """The detections with "meshes", a list of `Mesh` in the frame of the camera on the CPU, and "depths" [N], the
        predicted depth z_c of the centre of each frustum in metres."""
        regions = [fields["boxes"] for fields in found]
        if not any(map(len, regions)):
            return [own | {"meshes": [], "depths": own["scores"].new_zeros(0)} for own in found]
        features, voxels, outputs = self.predict(maps, regions, batch)
        frustums = Frustums.of(regions, batch).like(features)
        extents, sizes = _lengths(outputs).to(frustums.boxes.dtype).unbind(1)
        depths = sizes * frustums.lengths / frustums.sides
        meshes: list[Mesh] = []
        for rows in torch.arange(len(depths), device=depths.device).split(_REGIONS_AT_ONCE):
            part = frustums[rows]
            last = self.refined(features[rows], voxels[rows], extents[rows], part)[-1]
            placed = last.with_vertices(part.to_camera(last.vertices, depths[rows], last.vertex_mesh).float())
            meshes += [
                Mesh.unchecked(mesh.vertices, mesh.faces.flip(1) if mirrored else mesh.faces).to("cpu")
                for mesh, mirrored in zip(placed.split(), part.mirrored.tolist(), strict=True)
            ]
        results, start = [], 0
        for own in found:
            end = start + len(own["boxes"])
            results.append(own | {"meshes": meshes[start:end], "depths": depths[start:end]})
            start = end
        return results


def _lengths(logarithms: Tensor) -> Tensor:
    """Lengths of their logarithms, within a factor of a thousand of 1."""
    return logarithms.to(torch.promote_types(logarithms.dtype, torch.float32)).clamp(-7, 7).exp()


class MeshRegionHeads(RegionHeads):
    """Regions → classes, boxes and meshes.

    Args:
        boxes: the two branches of Faster R-CNN.
        branch: the branches of Mesh R-CNN.
    """

    def __init__(self, boxes: RegionHeads, branch: MeshBranch):
        super().__init__(boxes.region_features, boxes.box_head, boxes.box_predictor, boxes.settings)
        self.mesh_branch = branch

    def detect(
        self, maps: dict[str, Tensor], proposals: Sequence[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        return self.mesh_branch.detect(maps, super().detect(maps, proposals, batch), batch)

    def region_losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        losses = super().region_losses(maps, samples, batch, targets)
        return losses | self.mesh_branch.losses(maps, samples, batch, targets)


class MaskMeshRegionHeads(MaskRegionHeads):
    """Regions → classes, boxes, masks and meshes, as in the paper.

    Args:
        masks: the three branches of Mask R-CNN.
        branch: the branches of Mesh R-CNN.
    """

    def __init__(self, masks: MaskRegionHeads, branch: MeshBranch):
        super().__init__(masks, masks.mask_features, masks.mask_head, masks.mask_predictor)
        self.mesh_branch = branch

    def detect(
        self, maps: dict[str, Tensor], proposals: Sequence[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        return self.mesh_branch.detect(maps, super().detect(maps, proposals, batch), batch)

    def region_losses(
        self, maps: dict[str, Tensor], samples: Samples, batch: ImageBatch, targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        losses = super().region_losses(maps, samples, batch, targets)
        return losses | self.mesh_branch.losses(maps, samples, batch, targets)
