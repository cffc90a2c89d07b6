"""Mesh R-CNN: Gkioxari, Malik, Johnson, "Mesh R-CNN", ICCV 2019: Mask R-CNN with a branch that predicts the shape of
each object: a coarse grid of voxels, which becomes a mesh, whose vertices are moved in three stages.

Departures from the paper:

- shapes and losses are in the local frame of the region (`sightline.nn.heads.frustum`), whose unit is the longer side
  of the box at the depth of the object, and not in metres, so that near and far objects count alike;
- the depth of the centre is predicted, too. One image shows shapes only up to scale, so the evaluation replaces it by
  the true one, as in the paper (`sightline.evaluation.meshes`);
- the range of depths is learned as a logarithm, relative to the longer side of the box instead of its height;
- voxels are placed by the predicted range of depths in training, too, so that refinement learns to correct it, and the
  range learns from the losses of the mesh;
- the losses of the mesh are the mean over the stages;
- a limited number of regions per image is learned from (`MeshSettings.samples`);
- weights start from PyTorch's usual distributions, those of offsets from 0.

The small models, for CPUs, differ in size: half as many features, two graph convolutions per stage, 1000 sampled points
instead of 5000, and no masks. They are meant for short training runs:

- the feature pyramid has batch normalisation (`mesh_rcnn`);
- a fully connected branch sees the whole object (`sightline.nn.heads.voxel.VoxelHead`);
- shapes are learned from regions that fit about as well as final boxes (`MeshSettings.min_iou`);
- half of the refined meshes are made of the true voxels (`MeshSettings.true_voxels`), and vertices move at most by a
  fifth of the box in a stage;
- the loss of normals has a thousandth of the weight of the Chamfer distance instead of a tenth. In the local frame, the
  Chamfer distance of good meshes is some thousandths, most of it the distance between sampled points; a tenth of the
  loss of normals is then fifty times as large, and meshes get worse while it falls;
- a voxel is occupied from a probability of 0.4 on, not of 0.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.class_outputs import Output, predictor_outputs
from sightline.models.detection.detector import Detections
from sightline.models.detection.faster_rcnn import START, FasterRCNN, faster_rcnn
from sightline.models.detection.mask_rcnn import mask_rcnn
from sightline.models.entry import Entry, extends
from sightline.models.spatial.cameras import in_original_pixels, with_all_cameras
from sightline.nn.heads.box import BoxSettings
from sightline.nn.heads.mask import MaskRegionHeads
from sightline.nn.heads.mesh import MeshHead
from sightline.nn.heads.mesh_regions import MaskMeshRegionHeads, MeshBranch, MeshRegionHeads, MeshSettings
from sightline.nn.heads.regions import AlignedRegions
from sightline.nn.heads.rpn import ProposalSettings
from sightline.nn.heads.voxel import DepthHead, VoxelHead
from sightline.nn.necks.fpn import FeaturePyramid, PyramidBackbone
from sightline.ops.masks import deferred_masks
from sightline.structures import ImageBatch, Instances

MESHES = MeshSettings()
FOCAL = 1.2
"""Focal length of images without a camera, in heights of the image: a field of view of 45°."""


class MeshRCNN(FasterRCNN):
    """Faster R-CNN that also predicts meshes (figure 3).

    Results have "meshes", a list of `sightline.structures.meshes.Mesh` in the frame of the camera, in metres, and
    "depths" [N], the predicted depth of the centre of each in metres, and "cameras" [N, 3, 3], the intrinsics of their
    image; with the mask branch also "masks" [N, H, W]. Images are given as a `View` with their camera; for others, a
    camera with a focal length of `FOCAL` heights of the image is assumed, and a warning says so once.

    Targets need the field "meshes", with the mask branch also "masks". Arguments as for `FasterRCNN`; `roi_heads` are
    `MeshRegionHeads` or `MaskMeshRegionHeads`.
    """

    task = "meshes"
    unexportable = "how many points and faces its meshes have depends on the image"
    takes_cameras = True
    roi_heads: MeshRegionHeads | MaskMeshRegionHeads
    class_layers = r"roi_heads\.(box_predictor|mask_predictor\.mask_fcn_logits)\."
    recipe_defaults = {"augmentation": "light", "lr": 1e-3}

    _told = False

    def prepare(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None
    ) -> tuple[ImageBatch, list[Instances] | None]:
        """Like every detector; all images of the batch have a camera."""
        batch, moved = super().prepare(images, targets)
        whole = with_all_cameras(batch, FOCAL, "shapes are a little too deep or too flat", self._told)
        self._told |= whole is not batch
        return whole, moved

    @property
    def target_fields(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "meshes"; with the mask branch also "masks"."""
        return ("meshes", "masks") if isinstance(self.roi_heads, MaskRegionHeads) else ("meshes",)

    def class_outputs(self, key: str, shape: Sequence[int]) -> list[list[Output]]:
        """Those of Faster R-CNN, and with the mask branch one mask per class after the background's."""
        heads = self.roi_heads
        predictor = heads.box_predictor
        if isinstance(heads, MaskMeshRegionHeads) and "mask_predictor" in key:
            predictor = heads.mask_predictor
        return predictor_outputs(predictor, self.output_names, key, shape)

    def shapes_of(self, batch: ImageBatch, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The shape in one box per image, for explanations.

        Args:
            batch: N images.
            boxes: [N, 4] xyxy in pixels of the batch.

        Returns:
            voxels [N, G, G, G] before the sigmoid, and depths [N, 2] as in `DepthHead`.
        """
        maps = self.backbone(batch.tensor)
        _, voxels, depths = self.roi_heads.mesh_branch.predict(maps, list(boxes[:, None]), batch)
        return voxels, depths

    def finish(self, found: Detections, batch: ImageBatch) -> list[Instances]:
        """Like every detector, with cameras, and with masks, if any, resized from the grids of their boxes."""
        results = in_original_pixels(super().finish(found, batch), batch)
        return [r.replace(masks=deferred_masks(r.masks, r.boxes, r.image_size)) if "masks" in r else r for r in results]


@extends(faster_rcnn)
def mesh_rcnn(
    classes: Iterable[str],
    *,
    masks: bool = True,
    pyramid_norm: bool = False,
    grid: int = 24,
    voxel_width: int = 256,
    voxel_whole: int = 0,
    depth_hidden: int = 1024,
    mesh_width: int = 128,
    stages: int = 3,
    graph_convs: int = 3,
    reach: float = 1.0,
    meshes: MeshSettings = MESHES,
    **arguments: Any,
) -> MeshRCNN:
    """Mesh R-CNN on any backbone. Other arguments as for `faster_rcnn`.

    Args:
        classes: names of the classes.
        masks: whether there is also the branch of Mask R-CNN, as in the paper.
        pyramid_norm: whether the feature pyramid has batch normalisation. EfficientNet-Lite's maps have no activation
            and large values: with ImageNet's weights, the finest map of a pyramid without normalisation has a standard
            deviation of 9, too much for fully connected layers to learn steadily.
        grid: number of voxels along each side of the grid, even; 24 in the paper on Pix3D.
        voxel_width: number of channels of the four convolutions of the voxel head.
        voxel_whole: width of its fully connected branch (`VoxelHead`); 0 for none, as in the paper.
        depth_hidden: width of the depth head.
        mesh_width: number of features of a vertex.
        stages: number of stages of refinement; 0 for the surface of the voxels alone.
        graph_convs: number of graph convolutions per stage.
        reach: farthest that a vertex moves along an axis in a stage, in longer sides of the box.
        meshes: settings of the voxel and mesh branches.
        arguments: additional arguments of `faster_rcnn`.

    Raises:
        InputError: the grid is odd or too small, or the number of stages is negative.
    """
    if stages < 0:
        raise InputError(f"stages is {stages}, but must be 0 or more")
    if grid < 4 or grid % 2:
        raise InputError(f"grid is {grid}, but must be an even number of voxels from 4, such as 24")
    base = (mask_rcnn if masks else faster_rcnn)(classes, **arguments)
    regions = base.roi_heads.region_features
    assert isinstance(base.backbone, PyramidBackbone)
    assert isinstance(regions, AlignedRegions)
    channels = base.backbone.out_channels
    if pyramid_norm:
        base.backbone.fpn = FeaturePyramid(base.backbone.body.channels, channels, norm=nn.BatchNorm2d)
    branch = MeshBranch(
        AlignedRegions(regions.levels, grid // 2, aligned=True),
        AlignedRegions(regions.levels, regions.size, aligned=True),
        VoxelHead(channels, grid, voxel_width, whole=voxel_whole),
        DepthHead(channels * regions.size**2, depth_hidden),
        MeshHead(channels, mesh_width, stages, graph_convs, reach),
        meshes,
    )
    heads = base.roi_heads
    if isinstance(heads, MaskRegionHeads):
        return MeshRCNN.on(base, MaskMeshRegionHeads(heads, branch))
    return MeshRCNN.on(base, MeshRegionHeads(heads, branch))


FAST: dict[str, Any] = {
    "min_size": 192,
    "max_size": 320,
    "channels": 64,
    "hidden": 256,
    "anchor_sizes": ((16.0, 24.0), (32.0, 48.0), (64.0, 96.0), (128.0, 192.0), (256.0, 384.0)),
    "proposals": ProposalSettings(before_nms=(400, 200), after_nms=(300, 100), samples=128),
    "boxes": BoxSettings(samples=64, max_detections=20),
    "masks": False,
    "pyramid_norm": True,
    "grid": 24,
    "voxel_width": 64,
    "voxel_whole": 128,
    "depth_hidden": 128,
    "mesh_width": 64,
    "graph_convs": 2,
    "reach": 0.2,
    "meshes": MeshSettings(
        min_iou=0.75,
        threshold=0.4,
        samples=4,
        refined=2,
        true_voxels=0.5,
        points=1000,
        chamfer_weight=10.0,
        normal_weight=0.01,
        edge_weight=0.1,
    ),
}
"""Arguments for small backbones, for training on CPUs."""
_PAPER = "Gkioxari et al. 2019, Mesh R-CNN"

ENTRIES = (
    Entry(name="mesh_rcnn", builder=mesh_rcnn, task="meshes", paper=_PAPER, start={"norm": "frozen"}),
    Entry(
        name="mesh_rcnn_resnet50_fpn",
        builder=mesh_rcnn,
        task="meshes",
        paper=_PAPER,
        summary="ResNet-50 with a feature pyramid and the sizes of the paper on Pix3D: voxels of 24³, three stages.",
        start=START,
        fixed={"backbone": "resnet50", "version": 1, "finest": 4},
    ),
    Entry(
        name="mesh_rcnn_lite0_fpn",
        builder=mesh_rcnn,
        task="meshes",
        paper=_PAPER,
        summary="EfficientNet-Lite0 with a narrow pyramid and voxels of 24³, for training on CPUs.",
        start=START,
        fixed={"backbone": "efficientnet_lite0", "version": 1, "finest": 4},
        defaults=FAST,
    ),
    Entry(
        name="mesh_rcnn_mobilenet_v2_fpn",
        builder=mesh_rcnn,
        task="meshes",
        paper=_PAPER,
        summary="MobileNet v2 with a narrow pyramid and voxels of 24³, for training on CPUs.",
        start=START,
        fixed={"backbone": "mobilenet_v2", "version": 1, "finest": 4},
        defaults=FAST,
    ),
)
