"""The hole algorithm: maps of twice the size from a network that was trained for half of it.

Chen et al., "Semantic image segmentation with deep convolutional nets and fully connected CRFs", ICLR 2015, section
3.1; R-FCN (Dai et al. 2016, section 2) keeps ResNet's last stage at stride 16 this way.
"""

from __future__ import annotations

from torch import nn

from sightline.nn.backbones.features import FeatureMaps, Network, Stage


def dilate(layers: nn.Module, rate: int | None = None) -> nn.Module:
    """Take the strides out of `layers` and spread the kernels behind each by what it skipped.

    The weights stay, and every second row and column of the new map (for one stride of 2) is the old map, unless `rate`
    is given.

    Args:
        layers: changed in place. Their convolutions must be registered in the order in which they run.
        rate: spread every kernel by as much instead, the one that took the first stride, too.

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
            if rate is None:  # what comes after sees a finer map; a shortcut's 1×1 stands beside, not before
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
