"""Proposals: boxes that may contain an object of any class."""

from __future__ import annotations

from sightline.deploy.writers.proposals import ProposalWriter
from sightline.evaluation.proposals import HEADLINE, ProposalMeasure
from sightline.explain.box_targets import best_proposal, proposal_target
from sightline.explain.targets import Explained
from sightline.report.proposals import ProposalReport
from sightline.tasks.base import Labels, Task

TASK = Task(
    name="proposal",
    labels=Labels("instances"),
    measure=ProposalMeasure,
    headline=HEADLINE,
    report=ProposalReport(HEADLINE),
    writer=ProposalWriter(),
    explained=Explained(best_proposal, {"proposal": proposal_target}, "proposal:0"),
)
