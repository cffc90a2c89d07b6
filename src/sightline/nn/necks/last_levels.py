"""Additional coarse levels: Lin et al., "Focal loss for dense object detection", ICCV 2017, section 4."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


class LastLevelP6P7(nn.Module):
    """P6 by a 3×3 convolution of stride 2, and P7 by ReLU and a second one on P6 (section 4, footnote 2).

    Args:
        in_channels: number of channels of the input of P6.
        channels: number of channels of P6 and P7.
        source: input of P6: "c5", the backbone's last map, as in the paper; or "p5", the pyramid's last map, as in the
            first published weights.
    """

    def __init__(self, in_channels: int, channels: int, source: Literal["c5", "p5"] = "c5"):
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, channels, 3, 2, 1)
        self.p7 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.source = source
        for module in (self.p6, self.p7):
            nn.init.kaiming_uniform_(module.weight, a=1)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, c5: Tensor, p5: Tensor) -> dict[str, Tensor]:
        """The coarsest maps before and after the pyramid, [N, C, H, W] → "p6" of half the size, "p7" of a quarter."""
        p6 = self.p6(c5 if self.source == "c5" else p5)
        return {"p6": p6, "p7": self.p7(F.relu(p6))}
