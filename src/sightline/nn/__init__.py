"""Modules to build with: layers, backbones, necks and heads. They know tensors, not files or labels' formats."""
