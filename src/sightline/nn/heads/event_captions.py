"""Events from proposals: their features, their scores and times, and the context of the other events of the video
(Krishna et al. 2017, sections 3.2 and 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POINTS = 8
"""Moments at which the cells of an interval are read."""
MARGIN = 0.25
"""How far these moments extend beyond the interval on both sides, as a fraction of its length."""
STILL = 0.05
"""Attention to a still cell at the beginning, as a fraction of that to the cell in which most moves."""
STEPS = torch.linspace(-MARGIN, 1 + MARGIN, POINTS)
"""These moments as fractions of the interval."""
INSIDE = [k for k, step in enumerate(STEPS.tolist()) if 0 <= step <= 1]


class EventFeatures(nn.Module):
    """Cells of films and intervals → one vector per interval.

    The cells are read at `POINTS` moments of the interval and a little before and after it, so that it can be seen
    whether something begins and ends with it. The moments of a cell become one vector; some of the cells are then
    chosen by attention, and their vectors and places make up the vector of the interval. Attention starts at the cells
    in which most moves during the interval.

    Args:
        width: number of channels D of the cells, of which the last says how much moves (`CellEncoder`).
        frames: number of frames T.
        hidden: number of channels of a cell's vector.
        outputs: length of the vector of an interval.
        heads: number of places that attention chooses.
    """

    def __init__(self, width: int, frames: int, hidden: int, outputs: int, heads: int = 4):
        super().__init__()
        self.frames = frames
        self.moments = nn.Conv2d(POINTS * width, hidden, 1)
        self.around = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.mixed = nn.Conv2d(hidden, hidden, 1)
        self.attention = nn.Conv2d(hidden, heads, 1)
        nn.init.normal_(self.attention.weight, std=0.01)
        self.focus = nn.Parameter(torch.linspace(1.0, 2.0, heads)[:, None])  # exponent of how much moves
        self.output = nn.Linear(heads * (hidden + 2), outputs)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, films: Tensor, times: Tensor, video: Tensor) -> Tensor:
        """Vectors of intervals.

        Args:
            films: cells [N, D, G, T · G].
            times: [E, 2] intervals as fractions of the duration.
            video: [E] int64, the film that each interval belongs to.

        Returns:
            [E, outputs].
        """
        read = self.read(films, times, video)
        cells = F.relu(self.moments(read.flatten(1, 2)))
        cells = F.relu(cells + self.mixed(F.relu(self.around(cells))))
        moved = read[:, INSIDE, -1].mean(1).flatten(1)  # [E, G · G]
        prior = (moved / moved.amax(1, keepdim=True).clamp(min=1e-6) + STILL).log()
        weights = (self.attention(cells).flatten(2) + self.focus * prior[:, None]).softmax(-1)  # [E, heads, G · G]
        places = _places(cells)
        chosen = weights @ torch.cat([cells.flatten(2), places.expand(len(cells), -1, -1)], 1).transpose(1, 2)
        return F.relu(self.norm(self.output(chosen.flatten(1))))

    def read(self, films: Tensor, times: Tensor, video: Tensor) -> Tensor:
        """[E, POINTS, D, G, G]: the cells at the moments of each interval, between frames interpolated linearly."""
        n, d, g, _ = films.shape
        cells = films.view(n, d, g, self.frames, -1).permute(0, 3, 1, 2, 4)  # [N, T, D, G, G]
        moments = times[:, :1] + (times[:, 1:] - times[:, :1]) * STEPS.to(times)
        place = (moments * self.frames - 0.5).clamp(0, self.frames - 1)  # frame k is seen at (k + ½) / T
        low = place.floor().long()
        share = (place - low).to(films.dtype)[:, :, None, None, None]
        high = (low + 1).clamp(max=self.frames - 1)
        of = video[:, None].expand_as(low)
        return cells[of, low] * (1 - share) + cells[of, high] * share


class EventContext(nn.Module):
    """Vectors of the events of videos → vectors with the context of the events before and after each (section 3.3).

    The past of event i are the events that end before it, the future the others. Their vectors h_j are added with the
    weights w_j = a_i · h_j, a_i = W h_i + b, and divided by their number. Departure: w_j is divided by the root of the
    vectors' length.

    Args:
        width: length D of the vectors.
    """

    def __init__(self, width: int):
        super().__init__()
        self.attention = nn.Linear(width, width)

    def forward(self, vectors: Tensor, times: Tensor, video: Tensor) -> Tensor:
        """[E, D], times [E, 2] and video [E] → [E, 3 · D]: past, own and future."""
        weights = self.attention(vectors) @ vectors.transpose(0, 1) * vectors.shape[1] ** -0.5
        together = (video[:, None] == video) & ~torch.eye(len(video), dtype=torch.bool, device=video.device)
        past = together & (times[None, :, 1] < times[:, None, 1])
        parts = []
        for chosen in (past, together & ~past):
            number = chosen.sum(1, keepdim=True).clamp(min=1)
            parts.append((weights * chosen) @ vectors / number)
        return torch.cat([parts[0], vectors, parts[1]], 1)


def _places(cells: Tensor) -> Tensor:
    """[2, G · G]: x and y of each cell, from −1 to 1."""
    height, width = cells.shape[-2:]
    y = (torch.arange(height, device=cells.device, dtype=cells.dtype) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=cells.device, dtype=cells.dtype) + 0.5) / width * 2 - 1
    return torch.stack([x.expand(height, -1).flatten(), y[:, None].expand(-1, width).flatten()])
