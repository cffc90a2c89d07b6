"""Boxes that may hold an object, whatever its class."""

from __future__ import annotations

from sightline.evaluation.proposals import HEADLINE, ProposalMeasure
from sightline.tasks.base import Labels, Task

TASK = Task(
    name="proposal",
    labels=Labels("instances"),
    measure=ProposalMeasure,
    headline=HEADLINE,
)
