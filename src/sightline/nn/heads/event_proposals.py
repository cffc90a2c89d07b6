"""Proposals of events in time: anchors of several lengths at every moment (Krishna et al. 2017, section 3.1).

A recurrent network reads a video and proposes, at each moment, intervals of K lengths with a score each, as DAPs does
(Escorcia et al. 2016), which the paper runs at several strides to find events of all lengths.

Departures: one network in both directions whose anchors have geometrically growing lengths takes the place of the
strides; intervals are centred at a moment instead of ending there, and are refined by offsets, like boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.ops.assignment import match_threshold
from sightline.ops.intervals import decode_intervals, encode_intervals, interval_iou, interval_nms
from sightline.ops.losses import sigmoid_focal_loss, smooth_l1_loss
from sightline.runtime.sharing import batch_count

SHORTEST = 1e-3
"""Minimum length of a proposal as a fraction of the video."""


@dataclass(frozen=True)
class EventSettings:
    """Settings of proposals and of their use.

    Attributes:
        lengths: lengths of the anchors at each moment, as fractions of the video.
        high, low: temporal IoU from which an anchor is positive, and below which it is negative.
        proposals: number of proposals per video that the second stage scores.
        proposal_nms: temporal IoU from which proposals suppress each other.
        nms: temporal IoU from which events suppress each other.
        max_events: maximum number of events per video.
        min_score: minimum score of an event.
    """

    lengths: tuple[float, ...] = (0.06, 0.1, 0.16, 0.25, 0.35, 0.5, 0.7, 1.0)
    high: float = 0.5
    low: float = 0.35
    proposals: int = 24
    proposal_nms: float = 0.8
    nms: float = 0.6
    max_events: int = 10
    min_score: float = 0.3


class EventProposals(nn.Module):
    """Features of moments [N, T, D] → proposals.

    Args:
        inputs: D.
        moments: T.
        hidden: width of the recurrent network in each direction.
        settings: see `EventSettings`.
    """

    anchors: Tensor

    def __init__(self, inputs: int, moments: int, hidden: int, settings: EventSettings):
        super().__init__()
        self.settings = settings
        self.recurrent = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * hidden, 3 * len(settings.lengths))
        nn.init.normal_(self.output.weight, std=0.01)
        with torch.no_grad():
            self.output.bias.zero_()[: len(settings.lengths)] = -2.0  # few anchors are events
        centres = (torch.arange(moments) + 0.5) / moments
        half = torch.tensor(settings.lengths) / 2
        anchors = torch.stack([centres[:, None] - half, centres[:, None] + half], -1).flatten(0, 1)
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T, D] → scores before the sigmoid [N, A], and offsets [N, A, 2] from the anchors, A = T · K."""
        states, _ = self.recurrent(moments)
        scores, shifts, ratios = self.output(states).chunk(3, -1)
        return scores.flatten(1), torch.stack([shifts.flatten(1), ratios.flatten(1)], -1)

    def losses(self, scores: Tensor, deltas: Tensor, targets: list[Tensor]) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            scores, deltas: as `forward` returns them.
            targets: the events of each video, [Mi, 2] as fractions of its duration.
        """
        matches = torch.stack([self.match(own) for own in targets])
        counted, positive = matches >= -1, matches >= 0
        number = batch_count(positive.sum())
        focal = sigmoid_focal_loss(scores, positive.to(scores.dtype), reduction="none")
        wanted = [
            encode_intervals(own[match[match >= 0]], self.anchors[match >= 0])
            for own, match in zip(targets, matches, strict=True)
        ]
        distances = smooth_l1_loss(deltas[positive], torch.cat(wanted).to(deltas), beta=0.1).sum() / number
        return {
            "loss_proposal_score": (focal * counted).sum() / number,
            "loss_proposal_times": distances,
        }

    def match(self, times: Tensor) -> Tensor:
        """[A] int64: index of the event of each anchor, −1 for background, −2 for anchors that do not count."""
        overlaps = interval_iou(times.to(self.anchors), self.anchors.clamp(0, 1))
        return match_threshold(overlaps, self.settings.high, self.settings.low, allow_low_quality=True)

    @torch.no_grad()
    def decode(self, scores: Tensor, deltas: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each video its proposals by descending score: intervals [P, 2] within [0, 1], and their scores [P]."""
        found = []
        for own, shifts in zip(scores.sigmoid().float(), deltas.float(), strict=True):
            times = decode_intervals(shifts, self.anchors.float()).clamp(0, 1)
            long = (times[:, 1] - times[:, 0] > SHORTEST).nonzero()[:, 0]
            times, own = times[long], own[long]
            kept = interval_nms(times, own, self.settings.proposal_nms)[: self.settings.proposals]
            found.append((times[kept], own[kept]))
        return found
