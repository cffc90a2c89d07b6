"""The catalog's classification nets; each is a backbone, too."""

from __future__ import annotations

from sightline.models.classification import classifier
from sightline.models.entry import Entry

CLASSIFICATION_ENTRIES = (
    *(
        Entry(name=name, builder=getattr(classifier, name), task="classification", paper=paper)
        for names, paper in (
            (
                ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
                "He et al. 2016, Deep residual learning",
            ),
            (("alexnet",), "Krizhevsky et al. 2012, ImageNet classification; Krizhevsky 2014, One weird trick"),
            (
                ("vgg16", "vgg16_bn", "vgg19"),
                "Simonyan and Zisserman 2015, Very deep convolutional networks",
            ),
            (("mobilenet_v1",), "Howard et al. 2017, MobileNets"),
            (("mobilenet_v2",), "Sandler et al. 2018, MobileNetV2"),
            (("mobilenet_v3_small", "mobilenet_v3_large"), "Howard et al. 2019, Searching for MobileNetV3"),
            (tuple(f"efficientnet_b{i}" for i in range(8)), "Tan and Le 2019, EfficientNet"),
            (("darknet19",), "Redmon and Farhadi 2017, YOLO9000"),
            (("darknet53",), "Redmon and Farhadi 2018, YOLOv3"),
        )
        for name in names
    ),
)
