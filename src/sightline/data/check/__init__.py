"""Checking a dataset before training, and writing a repaired copy."""

from sightline.data.check.checking import check
from sightline.data.check.fixing import FixSummary, fix, require_fixable
from sightline.data.check.problems import RULES, CheckReport, Problem, Rule

__all__ = ["RULES", "CheckReport", "FixSummary", "Problem", "Rule", "check", "fix", "require_fixable"]
