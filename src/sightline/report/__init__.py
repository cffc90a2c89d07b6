"""Results to look at: drawn on images, as curves, as one HTML report of a run."""

from sightline.report.drawing import contact_sheet, draw, draw_pair

__all__ = ["contact_sheet", "draw", "draw_pair"]
