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

    Args:
        channels: number of channels of the region features.
        grid: G, an even number; 24 in the paper on Pix3D.
        width: number of channels of the convolutions.
        depth: number of 3×3 convolutions.
    """

    def __init__(self, channels: int, grid: int = 24, width: int = 256, depth: int = 4):
        super().__init__()
        self.convs = nn.Sequential(*(ConvNormAct(width if i else channels, width, 3) for i in range(depth)))
        self.upsample = nn.ConvTranspose2d(width, width, 2, 2)
        self.logits = nn.Conv2d(width, grid, 1)
        self.grid = grid
        init_for_relu(self)
        nn.init.normal_(self.logits.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(F.relu(self.upsample(self.convs(x))))


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
