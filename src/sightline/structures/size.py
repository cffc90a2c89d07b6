"""The size of an image or a feature map."""

Size = tuple[int, int]
"""(height, width) in pixels."""
