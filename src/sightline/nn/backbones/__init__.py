"""Classification networks that serve as classifiers and, cut open, as backbones."""
