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
        name="sliding_segmentation",
        builder=sliding_segmentation,
        task="segmentation",
        paper="Ciresan et al. 2012, Deep neural networks segment neuronal membranes; Sermanet et al. 2014, OverFeat",
    ),
    Entry(
        name="full_resolution_net",
        builder=full_resolution_net,
        task="segmentation",
        paper="Yu and Koltun 2016, Multi-scale context aggregation by dilated convolutions",
    ),
    *(
        Entry(name=f"fcn{stride}s_{backbone}", builder=builder, task="segmentation", paper=_FCN, backbone=backbone)
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
        name="deconvnet",
        builder=deconvnet,
        task="segmentation",
        paper="Noh et al. 2015, Learning deconvolution network for semantic segmentation",
        backbone="vgg16_bn",
    ),
    Entry(
        name="segnet",
        builder=segnet,
        task="segmentation",
        paper="Badrinarayanan et al. 2017, SegNet",
        backbone="vgg16_bn",
    ),
    Entry(name="unet", builder=unet, task="segmentation", paper=_UNET),
    Entry(name="unet_small", builder=unet_small, task="segmentation", paper=_UNET),
    Entry(
        name="unet_mobilenet_v2", builder=unet_mobilenet_v2, task="segmentation", paper=_UNET, backbone="mobilenet_v2"
    ),
    Entry(name="unet_resnet18", builder=unet_resnet18, task="segmentation", paper=_UNET, backbone="resnet18"),
    Entry(name="fcn_resnet50", builder=fcn_resnet50, task="segmentation", paper=_FCN, backbone="resnet50"),
    Entry(name="fcn_resnet101", builder=fcn_resnet101, task="segmentation", paper=_FCN, backbone="resnet101"),
    Entry(
        name="deeplabv3_resnet50", builder=deeplabv3_resnet50, task="segmentation", paper=_DEEPLAB, backbone="resnet50"
    ),
    Entry(
        name="deeplabv3_resnet101",
        builder=deeplabv3_resnet101,
        task="segmentation",
        paper=_DEEPLAB,
        backbone="resnet101",
    ),
    Entry(
        name="deeplabv3_mobilenet_v3_large",
        builder=deeplabv3_mobilenet_v3_large,
        task="segmentation",
        paper=f"{_DEEPLAB}; Howard et al. 2019",
        backbone="mobilenet_v3_large",
    ),
    Entry(
        name="deeplabv3_mobilenet_v2",
        builder=deeplabv3_mobilenet_v2,
        task="segmentation",
        paper=f"{_DEEPLAB}; Sandler et al. 2018",
        backbone="mobilenet_v2",
    ),
    Entry(
        name="lraspp_mobilenet_v3_large",
        builder=lraspp_mobilenet_v3_large,
        task="segmentation",
        paper="Howard et al. 2019, Searching for MobileNetV3",
        backbone="mobilenet_v3_large",
    ),
)
