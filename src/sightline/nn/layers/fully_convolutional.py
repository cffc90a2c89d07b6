"""Dense layers as convolutions: a classifier of one window becomes a map of classifications, one for each window.

A dense layer equals a convolution whose kernel is as large as its input. On a larger image it slides, and what windows
share is computed once. Sermanet et al., "OverFeat", ICLR 2014, section 3.5 and figure 5; Long, Shelhamer, Darrell,
"Fully convolutional networks", CVPR 2015, section 3.1.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sightline.errors import InputError
from sightline.structures import Size

_NOT_ELEMENTWISE = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.Softmax, nn.LogSoftmax)
_SEARCHED = 2048  # sides up to this are tried to find a window


class FullyConvolutional(nn.Sequential):
    """A classifier as convolutions: [N, C, H, W] → logits [N, K, h, w], one for each window.

    Attributes:
        window: side of the windows in pixels.
        stride: pixels from one window to the next.
    """

    def __init__(self, layers: Iterable[nn.Module], window: int, stride: int):
        super().__init__(*layers)
        self.window, self.stride = window, stride

    def windows(self, map_size: Size) -> Tensor:
        """The windows [h, w, 4] xyxy in pixels of the image, for a map of `map_size` (h, w)."""
        y, x = torch.meshgrid(*(torch.arange(side) * self.stride for side in map_size), indexing="ij")
        return torch.stack([x, y, x + self.window, y + self.window], -1).float()


def fully_convolutional(network: nn.Module, window: int | None = None, *, padding: bool = True) -> FullyConvolutional:
    """Turn a classifier that ends in dense layers into one that answers for every window of a larger image.

    On an image of the window's size the answer is the classifier's own. On a larger one, each entry of the map equals
    the classifier on the crop of its window IF the classifier's convolutions do not pad: padding puts zeros around a
    crop where the larger image has pixels. So with padding kept, the entries equal the dense layers on each window of
    the feature map, and differ from those of crops near the windows' borders; with `padding=False` they equal, exactly,
    the same classifier without its padding, whose windows are larger (404 pixels for VGG-16).
    Squeeze-and-excitation looks at the whole image, so networks with it answer differently for larger images.

    Args:
        network: [N, C, S, S] → logits: an `nn.Sequential` with one `nn.Flatten`, or a network of `nn.backbones`
            (VGG, AlexNet; ResNet and MobileNet, whose global average pooling slides as well).
        window: S in pixels; by default the smallest side whose map fits the dense layers. Needed after a global average
            pooling, which fits any.
        padding: False removes the padding of convolutions and poolings.

    Returns:
        The network; its parameters share their numbers with those of `network`, nothing is copied.

    Raises:
        InputError: the network has no dense layers at its end, or their input does not fit the window's map.
    """
    features, grid, dense = _parts(network)
    if not padding:
        features = [_unpadded(layer) for layer in features]
    body = nn.Sequential(*features)
    first = next(layer for layer in dense if isinstance(layer, nn.Linear))
    channels = next(layer.in_channels for layer in body.modules() if isinstance(layer, nn.Conv2d))

    def side_and_channels(image_side: int) -> tuple[int, int]:
        return _map_of(body, channels, image_side)

    if window is None:
        if grid == 1:
            raise InputError("after a global average pooling any window fits; give window=, the side of the crops")
        sides = (s for s in range(1, _SEARCHED) if _fits(side_and_channels(s), grid, first.in_features))
        window = next(sides, None)
        if window is None:
            raise InputError(f"no window up to {_SEARCHED} pixels gives the {first.in_features} inputs of {first}")
    side, maps = side_and_channels(window)
    cells = grid or round((first.in_features / max(1, maps)) ** 0.5)
    if not side or first.in_features != maps * cells**2 or side % cells:
        raise InputError(
            f"a window of {window} pixels gives a map [{maps}, {side}, {side}], which does not fit the dense layer's "
            f"{first.in_features} inputs in {cells}×{cells} parts; choose another window"
        )
    step = side // cells
    pooling = [nn.AvgPool2d(step, 1)] if step > 1 else []
    return FullyConvolutional(
        [*features, *pooling, *_as_convolutions(dense, cells, step)], window, _stride(side_and_channels, window)
    )


def subsampled_convolution(weight: Tensor, cells: int, shape: Sequence[int]) -> Tensor:
    """The weight of a dense layer as that of a smaller convolution: every so-many-th output, channel and tap.

    A 7×7 kernel reduced to 3×3 keeps every third tap; the convolution's dilation is to stand for those left out.

    Args:
        weight: [O, C · S · S] of a dense layer on maps [C, S, S].
        cells: S.
        shape: (o, c, s, s) of the convolution's weight.

    Returns:
        [o, c, s, s]: outputs 0, O / o, 2 · O / o, …, channels likewise, taps from the first to the last.

    Raises:
        InputError: O, C or S − 1 is not a whole multiple of o, c or s − 1.

    Source: Chen et al., DeepLab, ICLR 2015, section 3; Liu et al., SSD, 2016, section 3, "Base network".
    """
    outputs, channels, taps = shape[0], shape[1], shape[2]
    whole = weight.ndim == 2 and weight.shape[1] % cells**2 == 0
    inner = weight.shape[1] // cells**2 if whole else 0
    fits = whole and weight.shape[0] % outputs == 0 and inner % channels == 0 and outputs <= weight.shape[0]
    if not fits or channels > inner or (cells > 1 if taps == 1 else (cells - 1) % (taps - 1)):
        raise InputError(
            f"a dense layer {list(weight.shape)} on {cells}×{cells} cells cannot be subsampled to a convolution "
            f"{list(shape)}: its sizes must be whole multiples"
        )
    step = (cells - 1) // (taps - 1) if taps > 1 else 1
    grid = weight.reshape(weight.shape[0], inner, cells, cells)
    return grid[:: weight.shape[0] // outputs, :: inner // channels, ::step, ::step]


def _as_convolutions(dense: Sequence[nn.Module], cells: int, step: int) -> list[nn.Module]:
    """The first dense layer as a cells × cells convolution whose taps are `step` apart, the others as 1×1."""
    layers: list[nn.Module] = []
    for layer in dense:
        if isinstance(layer, nn.Linear):
            with torch.device("meta"):  # its numbers come from the dense layer
                channels = layer.in_features // cells**2
                conv = nn.Conv2d(channels, layer.out_features, cells, dilation=step, bias=layer.bias is not None)
            weight = layer.weight.detach().view(layer.out_features, channels, cells, cells)
            conv.weight = nn.Parameter(weight, layer.weight.requires_grad)
            conv.bias = layer.bias
            layers.append(conv)
            cells = step = 1
        else:
            layers.append(layer)
    return layers


def _parts(network: nn.Module) -> tuple[list[nn.Module], int | None, list[nn.Module]]:
    """Layers before the flattening, cells along a side that an adaptive pooling there makes, and dense layers after."""
    pool: nn.Module | None
    if isinstance(network, nn.Sequential):
        chain = _flat(network)
        at = next((i for i, layer in enumerate(chain) if isinstance(layer, nn.Flatten)), len(chain))
        features, dense = chain[:at], chain[at + 1 :]
        pool = features.pop() if features and isinstance(features[-1], nn.AdaptiveAvgPool2d) else None
    else:
        trunk = getattr(network, "trunk", None)
        features = [] if trunk is None else _flat(trunk())
        pool = getattr(network, "avgpool", nn.AdaptiveAvgPool2d(1))
        last = getattr(network, "classifier", getattr(network, "fc", None))
        dense = [] if last is None else _flat(nn.Sequential(last))
    if not features or not any(isinstance(layer, nn.Linear) for layer in dense):
        raise InputError(
            f"{type(network).__name__} is no chain of layers, flattening and dense layers; "
            "give an nn.Sequential with an nn.Flatten, or a network with trunk() and classifier or fc"
        )
    for layer in dense:
        if isinstance(layer, _NOT_ELEMENTWISE):
            raise InputError(f"{type(layer).__name__} between dense layers has no form for maps; fold or remove it")
    if pool is None:
        return features, None, dense
    assert isinstance(pool, nn.AdaptiveAvgPool2d)
    size = pool.output_size
    return features, size[0] if isinstance(size, tuple) else size, dense


def _flat(network: nn.Sequential) -> list[nn.Module]:
    nested = (_flat(layer) if type(layer) is nn.Sequential else [layer] for layer in network)
    return list(itertools.chain.from_iterable(nested))


def _unpadded(layer: nn.Module) -> nn.Module:
    """A layer that pads nothing, with the same parameters."""
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        layer = copy.copy(layer)  # the parameters stay the same objects
        layer.padding = (0, 0)
    elif any(isinstance(inner, nn.Conv2d) and inner.padding not in (0, (0, 0)) for inner in layer.modules()):
        raise InputError(f"the padding inside of {type(layer).__name__} cannot be removed; use padding=True")
    return layer


def _map_of(body: nn.Module, channels: int, side: int) -> tuple[int, int]:
    """(side, channels) of the map of a square image; 0, 0 where the image is too small. Computes nothing."""
    state = {name: value.to("meta") for name, value in itertools.chain(body.named_parameters(), body.named_buffers())}
    try:
        found: Tensor = functional_call(body, state, (torch.empty(2, channels, side, side, device="meta"),))
    except (RuntimeError, ValueError):
        return 0, 0
    return found.shape[-1], found.shape[1]


def _fits(found: tuple[int, int], grid: int | None, inputs: int) -> bool:
    side, channels = found
    return side > 0 and (side == grid or (grid is None and side * side * channels == inputs))


def _stride(side_and_channels: Callable[[int], tuple[int, int]], window: int) -> int:
    """How many pixels more give one more cell."""
    growths: list[int] = []
    side = side_and_channels(window)[0]
    for longer in range(window + 1, window + _SEARCHED):
        if side_and_channels(longer)[0] > side + len(growths):
            growths.append(longer)
            if len(growths) == 2:
                break
    return growths[1] - growths[0]
