"""The voxel branch of Mesh R-CNN: Gkioxari, Malik, Johnson, "Mesh R-CNN", ICCV 2019, section 3.2."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.heads.box import TwoLayerHead
from sightline.nn.heads.mask import init_for_relu
from sightline.nn.layers import ConvNormAct


class VoxelHead(nn.Module):
    """A grid of voxels per region, aligned with its features: [R, C, S, S] → [R, G, G, G] (z, y, x) before the sigmoid.

    Convolutions, upsampling by 2, and a 1×1 convolution whose channels are the depths of the voxels; G = 2S. As in the
    paper, all classes share the outputs.

    A voxel inside of an object depends on the whole of its shape, of which the convolutions see a part. With `whole`,
    a branch of fully connected layers on the features, averaged to half their size, is added to their logits (as for
    masks in Liu et al. 2018, "Path aggregation network for instance segmentation", section 3.4; its shape is of all
    three axes). The paper has none. In short training runs the branch learns much faster.

    Args:
        channels: number of channels of the region features.
        grid: G, an even number; 24 in the paper on Pix3D.
        width: number of channels of the convolutions.
        depth: number of 3×3 convolutions.
        whole: width of the fully connected branch; 0 for none, as in the paper.
    """

    def __init__(self, channels: int, grid: int = 24, width: int = 256, depth: int = 4, whole: int = 0):
        super().__init__()
        self.convs = nn.Sequential(*(ConvNormAct(width if i else channels, width, 3) for i in range(depth)))
        self.upsample = nn.ConvTranspose2d(width, width, 2, 2)
        self.logits = nn.Conv2d(width, grid, 1)
        self.grid = grid
        init_for_relu(self)
        nn.init.normal_(self.logits.weight, std=0.02)
        side = max(1, grid // 4)
        self.whole = _WholeShape(channels, side, grid, whole) if whole else None

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(F.relu(self.upsample(self.convs(x))))
        return logits if self.whole is None else logits + self.whole(x)


class _WholeShape(nn.Module):
    """The logits of all voxels from all features at once: [R, C, S, S] → [R, G, G, G]."""

    def __init__(self, channels: int, side: int, grid: int, width: int):
        super().__init__()
        self.side, self.grid = side, grid
        self.layers = TwoLayerHead(channels * side**2, width)
        self.logits = nn.Linear(width, grid**3)
        nn.init.zeros_(self.logits.bias)

    def forward(self, x: Tensor) -> Tensor:
        code = self.layers(F.adaptive_avg_pool2d(x, self.side))
        return self.logits(code).unflatten(1, (self.grid,) * 3)


class DepthHead(nn.Module):
    """The range of depths and the size of each region's object: [R, C, h, w] → [R, 2] (section 4.2; supplement).

    The first output is the logarithm of the range of depths of the object, in the unit of the local frame of its region
    (`sightline.nn.heads.frustum`). The second is the logarithm of this unit in metres, the physical size of the box,
    from which the depth of the origin follows. The paper predicts the range only.

    Args:
        inputs: C · h · w.
        hidden: width of the two layers; 1024 in the paper.
    """

    def __init__(self, inputs: int, hidden: int = 1024):
        super().__init__()
        self.layers = TwoLayerHead(inputs, hidden)
        self.outputs = nn.Linear(hidden, 2)
        nn.init.normal_(self.outputs.weight, std=0.01)
        nn.init.zeros_(self.outputs.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs(self.layers(x))
