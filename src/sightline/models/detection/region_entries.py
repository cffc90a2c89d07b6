"""The catalog's region-based detectors: proposals → features of each → heads; and what came before them."""

from __future__ import annotations

from sightline.models.detection import (
    fast_rcnn,
    faster_rcnn_single,
    grid_sliding,
    light_head_rcnn,
    localiser,
    overfeat,
    proposal_network,
    r_cnn,
    r_fcn,
    sliding_window,
)
from sightline.models.entry import Entry

_R_FCN = "Dai et al. 2016, R-FCN"
_LIGHT = "Li et al. 2017, Light-head R-CNN"

REGION_ENTRIES = (
    *(
        Entry(
            name=f"r_cnn_{backbone}",
            builder=builder,
            task="detection",
            paper="Girshick et al. 2014, Rich feature hierarchies for accurate object detection",
            backbone=backbone,
        )
        for backbone, builder in (("mobilenet_v2", r_cnn.r_cnn_mobilenet_v2), ("resnet18", r_cnn.r_cnn_resnet18))
    ),
    Entry(
        name="faster_rcnn_vgg16",
        builder=faster_rcnn_single.faster_rcnn_vgg16,
        task="detection",
        paper="Ren et al. 2015, Faster R-CNN",
        backbone="vgg16",
        start={"trainable_layers": 3},
    ),
    Entry(
        name="faster_rcnn_mobilenet_v2",
        builder=faster_rcnn_single.faster_rcnn_mobilenet_v2,
        task="detection",
        paper="Ren et al. 2015, Faster R-CNN",
        backbone="mobilenet_v2",
        start={"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        name="region_proposal_network_vgg16",
        builder=proposal_network.region_proposal_network_vgg16,
        task="proposal",
        paper="Ren et al. 2015, Faster R-CNN",
        backbone="vgg16",
        start={"trainable_layers": 3},
    ),
    Entry(
        name="region_proposal_network_mobilenet_v2",
        builder=proposal_network.region_proposal_network_mobilenet_v2,
        task="proposal",
        paper="Ren et al. 2015, Faster R-CNN",
        backbone="mobilenet_v2",
        start={"norm": "frozen", "trainable_layers": 5},
    ),
    Entry(
        name="fast_rcnn_vgg16",
        builder=fast_rcnn.fast_rcnn_vgg16,
        task="detection",
        paper="Girshick 2015, Fast R-CNN",
        backbone="vgg16",
        start={"trainable_layers": 3},
    ),
    Entry(
        name="fast_rcnn_mobilenet_v2",
        builder=fast_rcnn.fast_rcnn_mobilenet_v2,
        task="detection",
        paper="Girshick 2015, Fast R-CNN",
        backbone="mobilenet_v2",
        start={"norm": "frozen", "trainable_layers": 5},
    ),
    *(
        Entry(
            name=name,
            builder=builder,
            task="detection",
            paper=paper,
            backbone=backbone,
            start={"norm": "frozen", "trainable_layers": parts},
        )
        for name, builder, paper, backbone, parts in (
            ("r_fcn_resnet50", r_fcn.r_fcn_resnet50, _R_FCN, "resnet50", 3),
            ("r_fcn_resnet101", r_fcn.r_fcn_resnet101, _R_FCN, "resnet101", 3),
            ("r_fcn_mobilenet_v2", r_fcn.r_fcn_mobilenet_v2, _R_FCN, "mobilenet_v2", 5),
            ("light_head_rcnn_resnet101", light_head_rcnn.light_head_rcnn_resnet101, _LIGHT, "resnet101", 3),
            ("light_head_rcnn_mobilenet_v2", light_head_rcnn.light_head_rcnn_mobilenet_v2, _LIGHT, "mobilenet_v2", 5),
        )
    ),
    *(
        Entry(
            name=f"localiser_{backbone}",
            builder=builder,
            task="detection",
            paper="Krizhevsky et al. 2012; Redmon et al. 2016",
            backbone=backbone,
        )
        for backbone, builder in (
            ("mobilenet_v2", localiser.localiser_mobilenet_v2),
            ("resnet18", localiser.localiser_resnet18),
        )
    ),
    *(
        Entry(
            name=f"{name}_{backbone}",
            builder=getattr(module, f"{name}_{backbone}"),
            task="detection",
            paper=paper,
            backbone=backbone,
        )
        for name, module, paper in (
            ("sliding_window", sliding_window, "Rowley, Baluja, Kanade 1998, Neural network-based face detection"),
            ("grid_sliding", grid_sliding, "Rowley, Baluja, Kanade 1998; Redmon et al. 2016, You only look once"),
        )
        for backbone in ("mobilenet_v2", "resnet18")
    ),
    *(
        Entry(
            name=f"overfeat_{variant}",
            builder=builder,
            task="detection",
            paper="Sermanet et al. 2014, OverFeat",
            backbone=backbone,
        )
        for variant, builder, backbone in (
            ("fast", overfeat.overfeat_fast, None),
            ("accurate", overfeat.overfeat_accurate, None),
            ("mobilenet_v2", overfeat.overfeat_mobilenet_v2, "mobilenet_v2"),
        )
    ),
)
