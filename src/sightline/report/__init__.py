"""Show results: drawn on images, as plots, and in one HTML report per run."""

from sightline.report.drawing import contact_sheet, draw, draw_pair

__all__ = ["contact_sheet", "draw", "draw_pair"]
