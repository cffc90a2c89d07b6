"""The catalog's segmenters."""

from __future__ import annotations

from sightline.models.entry import Entry
from sightline.models.segmentation.deconvnet import deconvnet
from sightline.models.segmentation.deeplab_v3 import (
    deeplabv3_mobilenet_v2,
    deeplabv3_mobilenet_v3_large,
    deeplabv3_resnet50,
    deeplabv3_resnet101,
)
from sightline.models.segmentation.fcn import (
    fcn8s_mobilenet_v2,
    fcn8s_vgg16,
    fcn16s_mobilenet_v2,
    fcn16s_vgg16,
    fcn32s_mobilenet_v2,
    fcn32s_vgg16,
)
from sightline.models.segmentation.fcn_resnet import fcn_resnet50, fcn_resnet101
from sightline.models.segmentation.full_resolution import full_resolution_net
from sightline.models.segmentation.lr_aspp import lraspp_mobilenet_v3_large
from sightline.models.segmentation.segnet import segnet
from sightline.models.segmentation.sliding_segmentation import sliding_segmentation
from sightline.models.segmentation.unet import unet, unet_mobilenet_v2, unet_resnet18, unet_small

_FCN = "Long et al. 2015, Fully convolutional networks"
_DEEPLAB = "Chen et al. 2017, Rethinking atrous convolution"
_UNET = "Ronneberger et al. 2015, U-Net"

SEGMENTATION_ENTRIES = (
    Entry(
        "sliding_segmentation",
        sliding_segmentation,
        "segmentation",
        "Ciresan et al. 2012, Deep neural networks segment neuronal membranes; Sermanet et al. 2014, OverFeat",
    ),
    Entry(
        "full_resolution_net",
        full_resolution_net,
        "segmentation",
        "Yu and Koltun 2016, Multi-scale context aggregation by dilated convolutions",
    ),
    *(
        Entry(f"fcn{stride}s_{backbone}", builder, "segmentation", _FCN, backbone=backbone)
        for stride, backbone, builder in (
            (32, "vgg16", fcn32s_vgg16),
            (16, "vgg16", fcn16s_vgg16),
            (8, "vgg16", fcn8s_vgg16),
            (32, "mobilenet_v2", fcn32s_mobilenet_v2),
            (16, "mobilenet_v2", fcn16s_mobilenet_v2),
            (8, "mobilenet_v2", fcn8s_mobilenet_v2),
        )
    ),
    Entry(
        "deconvnet",
        deconvnet,
        "segmentation",
        "Noh et al. 2015, Learning deconvolution network for semantic segmentation",
        backbone="vgg16_bn",
    ),
    Entry("segnet", segnet, "segmentation", "Badrinarayanan et al. 2017, SegNet", backbone="vgg16_bn"),
    Entry("unet", unet, "segmentation", _UNET),
    Entry("unet_small", unet_small, "segmentation", _UNET),
    Entry("unet_mobilenet_v2", unet_mobilenet_v2, "segmentation", _UNET, backbone="mobilenet_v2"),
    Entry("unet_resnet18", unet_resnet18, "segmentation", _UNET, backbone="resnet18"),
    Entry("fcn_resnet50", fcn_resnet50, "segmentation", _FCN, backbone="resnet50"),
    Entry("fcn_resnet101", fcn_resnet101, "segmentation", _FCN, backbone="resnet101"),
    Entry("deeplabv3_resnet50", deeplabv3_resnet50, "segmentation", _DEEPLAB, backbone="resnet50"),
    Entry("deeplabv3_resnet101", deeplabv3_resnet101, "segmentation", _DEEPLAB, backbone="resnet101"),
    Entry(
        "deeplabv3_mobilenet_v3_large",
        deeplabv3_mobilenet_v3_large,
        "segmentation",
        f"{_DEEPLAB}; Howard et al. 2019",
        backbone="mobilenet_v3_large",
    ),
    Entry(
        "deeplabv3_mobilenet_v2",
        deeplabv3_mobilenet_v2,
        "segmentation",
        f"{_DEEPLAB}; Sandler et al. 2018",
        backbone="mobilenet_v2",
    ),
    Entry(
        "lraspp_mobilenet_v3_large",
        lraspp_mobilenet_v3_large,
        "segmentation",
        "Howard et al. 2019, Searching for MobileNetV3",
        backbone="mobilenet_v3_large",
    ),
)
