"""Proposals: boxes that may contain an object of any class."""

from __future__ import annotations

from sightline.deploy.writers.proposals import ProposalWriter
from sightline.evaluation.proposals import HEADLINE, ProposalMeasure
from sightline.report.proposals import ProposalReport
from sightline.tasks.base import Labels, Task

TASK = Task(
    name="proposal",
    labels=Labels("instances"),
    measure=ProposalMeasure,
    headline=HEADLINE,
    report=ProposalReport(HEADLINE),
    writer=ProposalWriter(),
)
