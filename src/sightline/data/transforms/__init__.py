"""Joint augmentation of images and their targets; `compose` describes how it works.

transform = recipes.detection("strong", vertical_flip=0.5)
transform = Compose([HorizontalFlip(), Rotate(15), SafeCrop(), Colour(hue=0.05)])
image, target = transform(image, target, np.random.default_rng(seed))
"""

from sightline.data.transforms import recipes
from sightline.data.transforms.base import Augmentation, Transform, as_transform
from sightline.data.transforms.colour import (
    HSV,
    Brightness,
    ChannelNoise,
    Colour,
    Contrast,
    Hue,
    PixelNoise,
    Saturation,
)
from sightline.data.transforms.compose import Compose, Drawn, Geometric, Photometric, Sometimes, Viewport
from sightline.data.transforms.crops import (
    IoUCrop,
    ModelScale,
    RandomCrop,
    RandomResizedCrop,
    Rescale,
    SafeCrop,
    ScaleJitter,
    ZoomOut,
)
from sightline.data.transforms.erasing import RandomErasing
from sightline.data.transforms.external import Kornia
from sightline.data.transforms.geometry import (
    HorizontalFlip,
    QuarterTurn,
    Resize,
    Rotate,
    Shear,
    Translate,
    VerticalFlip,
)
from sightline.data.transforms.levels import AutoContrast, Equalize, Posterize, Sharpness, Solarize
from sightline.data.transforms.mixing import CutMix, MixUp, OneOf
from sightline.data.transforms.mosaic import Mosaic
from sightline.data.transforms.randaugment import RandAugment
from sightline.data.transforms.targets import PERSON_SWAP, follow
from sightline.data.transforms.tone import Tone

__all__ = [
    "HSV",
    "PERSON_SWAP",
    "Augmentation",
    "AutoContrast",
    "Brightness",
    "ChannelNoise",
    "Colour",
    "Compose",
    "Contrast",
    "CutMix",
    "Drawn",
    "Equalize",
    "Geometric",
    "HorizontalFlip",
    "Hue",
    "IoUCrop",
    "Kornia",
    "MixUp",
    "ModelScale",
    "Mosaic",
    "OneOf",
    "Photometric",
    "PixelNoise",
    "Posterize",
    "QuarterTurn",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomResizedCrop",
    "Rescale",
    "Resize",
    "Rotate",
    "SafeCrop",
    "Saturation",
    "ScaleJitter",
    "Sharpness",
    "Shear",
    "Solarize",
    "Sometimes",
    "Tone",
    "Transform",
    "Translate",
    "VerticalFlip",
    "Viewport",
    "ZoomOut",
    "as_transform",
    "follow",
    "recipes",
]
