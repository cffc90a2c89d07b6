"""Dilation: reduces the stride of a pretrained network without changing its weights.

Chen et al., "Semantic image segmentation with deep convolutional nets and fully connected CRFs", ICLR 2015, section
3.1; R-FCN (Dai et al. 2016, section 2) keeps ResNet's last stage at stride 16 this way.
"""

from __future__ import annotations

from torch import nn

from sightline.nn.backbones.features import FeatureMaps, Network, Stage


def dilate(layers: nn.Module, rate: int | None = None) -> nn.Module:
    """Replace the strides of `layers` by dilation of the following convolutions, in place.

    The weights do not change. With one stride of 2 removed, every second row and column of the new map equals the old
    map, unless `rate` is given.

    Args:
        layers: layers to change. Their convolutions must be registered in the order in which they run.
        rate: dilation of all convolutions instead, including the one that had the first stride.

    Returns:
        The same layers.
    """
    spread = rate or 1
    for module in layers.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if module.kernel_size[0] > 1:
            module.padding = tuple(spread * int(p) for p in module.padding)
            module.dilation = (spread * module.dilation[0], spread * module.dilation[1])
            if rate is None:  # later layers get a finer map; a shortcut's 1×1 convolution is parallel to them
                spread *= module.stride[0]
        module.stride = (1, 1)
    return layers


def dilated_maps(net: Network, stride: int, low: int, trainable_layers: int | None = None) -> FeatureMaps:
    """Two maps of a network whose maps stay at one stride from there on.

    Args:
        net: its later layers are changed in place.
        stride: the coarsest map's; layers behind the network's own map of that stride are dilated.
        low: stride that the finer of the two maps has without dilation.
        trainable_layers: how many of the network's parts learn, counted from its end; None for all.
    """
    layers, stages = net.layers(), {stage.stride: stage for stage in net.stages}
    last = stages[max(stages)]
    names = list(layers)
    begin, end = (names.index(stage.layer) + 1 for stage in (stages[stride], last))
    dilate(nn.Sequential(*(layers[name] for name in names[begin:end])))
    fine = stages[low]
    taken = [Stage(fine.layer, fine.channels, min(low, stride)), Stage(last.layer, last.channels, stride)]
    return FeatureMaps(layers, taken).train_last(trainable_layers, net.parts_of(tuple(stages)))
