"""The catalog's dense detectors: all boxes in one pass."""

from __future__ import annotations

from sightline.models.darknet.detector import darknet
from sightline.models.detection import (
    pp_yolo,
    sightline_detector,
    ssd,
    ssd_mobilenet,
    ssdlite,
    yolo_9000,
    yolo_v1,
    yolo_v2,
)
from sightline.models.entry import Entry

_PP_YOLO = "Long et al. 2020, PP-YOLO: an effective and efficient implementation of object detector"
_YOLO_9000 = "Redmon and Farhadi 2017, YOLO9000: better, faster, stronger"

DENSE_ENTRIES = (
    Entry(
        name="sightline_n",
        builder=sightline_detector.sightline_n,
        task="detection",
        paper="Feng et al. 2021, TOOD; Lyu et al. 2022, RTMDet",
    ),
    Entry(
        name="sightline_s",
        builder=sightline_detector.sightline_s,
        task="detection",
        paper="Feng et al. 2021, TOOD; Lyu et al. 2022, RTMDet",
    ),
    Entry(
        name="sightline_m",
        builder=sightline_detector.sightline_m,
        task="detection",
        paper="Feng et al. 2021, TOOD; Lyu et al. 2022, RTMDet",
    ),
    Entry(
        name="ssd300_vgg16", builder=ssd.ssd300_vgg16, task="detection", paper="Liu et al. 2016, SSD", backbone="vgg16"
    ),
    Entry(
        name="ssd512_vgg16", builder=ssd.ssd512_vgg16, task="detection", paper="Liu et al. 2016, SSD", backbone="vgg16"
    ),
    Entry(
        name="ssd_mobilenet_v1",
        builder=ssd_mobilenet.ssd_mobilenet_v1,
        task="detection",
        paper="Howard et al. 2017, MobileNets; Huang et al. 2017, Speed/accuracy trade-offs",
        backbone="mobilenet_v1",
    ),
    Entry(
        name="ssdlite320_mobilenet_v3_large",
        builder=ssdlite.ssdlite320_mobilenet_v3_large,
        task="detection",
        paper="Howard et al. 2019, Searching for MobileNetV3",
        backbone="mobilenet_v3_large",
        start={"reduced_tail": False},
    ),
    Entry(
        name="ssdlite320_mobilenet_v2",
        builder=ssdlite.ssdlite320_mobilenet_v2,
        task="detection",
        paper="Sandler et al. 2018, MobileNetV2",
        backbone="mobilenet_v2",
    ),
    Entry(name="pp_yolo_resnet50_vd", builder=pp_yolo.pp_yolo_resnet50_vd, task="detection", paper=_PP_YOLO),
    Entry(name="pp_yolo_resnet18_vd", builder=pp_yolo.pp_yolo_resnet18_vd, task="detection", paper=_PP_YOLO),
    Entry(
        name="pp_yolo_mobilenet_v2",
        builder=pp_yolo.pp_yolo_mobilenet_v2,
        task="detection",
        paper=_PP_YOLO,
        backbone="mobilenet_v2",
    ),
    Entry(name="yolo_v1", builder=yolo_v1.yolo_v1, task="detection", paper="Redmon et al. 2016, You only look once"),
    Entry(
        name="yolo_v1_mobilenet_v2",
        builder=yolo_v1.yolo_v1_mobilenet_v2,
        task="detection",
        paper="Redmon et al. 2016, You only look once",
        backbone="mobilenet_v2",
    ),
    Entry(
        name="yolo_v2_darknet19",
        builder=yolo_v2.yolo_v2_darknet19,
        task="detection",
        paper=_YOLO_9000,
        backbone="darknet19",
    ),
    Entry(
        name="yolo_v2_mobilenet_v2",
        builder=yolo_v2.yolo_v2_mobilenet_v2,
        task="detection",
        paper=_YOLO_9000,
        backbone="mobilenet_v2",
    ),
    Entry(
        name="yolo_9000_darknet19",
        builder=yolo_9000.yolo_9000_darknet19,
        task="detection",
        paper=_YOLO_9000,
        backbone="darknet19",
    ),
    Entry(
        name="yolo_9000_mobilenet_v2",
        builder=yolo_9000.yolo_9000_mobilenet_v2,
        task="detection",
        paper=_YOLO_9000,
        backbone="mobilenet_v2",
    ),
    Entry(
        name="darknet",
        builder=darknet,
        task="detection",
        paper="Redmon and Farhadi 2018, YOLOv3; the files of darknet, their program",
    ),
)
