"""Every pixel a class: encoder → decoder → logits at the image's own size."""
