"""The changes that were once not noticed, where automatic ones are made, and those that change nothing."""

from __future__ import annotations

from changes import Mutation

CONTRACT = "tests/models/test_contract.py"
SINGLE_MAP = "tests/models/test_single_map.py"
R_CNN = "tests/models/test_r_cnn.py"
PP_YOLO = "tests/models/detection/test_pp_yolo.py"
SEARCH = "tests/ops/proposals/test_selective_search.py"
TRANSFORMS = "tests/data/test_transforms.py"

# (file, old text, new text, tests, what it is)
_NAMED = [
    (
        "ops/boxes.py",
        "wh * torch.log(h / ah))",
        "ww * torch.log(h / ah))",
        ["tests/ops/test_boxes.py"],
        "the height's weight replaced by the width's when encoding",
    ),
    ("ops/boxes.py", "(dh / wh)", "(dh / ww)", ["tests/ops/test_boxes.py"], "and when decoding"),
    (
        "ops/regions.py",
        " + 1e-6).floor()",
        ").floor()",
        ["tests/ops/test_regions.py", "-k", "just_below"],
        "the pyramid's level rule without its 1e-6",
    ),
    (
        "training/loop.py",
        "net.parameters(), recipe.clip_norm)",
        "net.parameters(), 10 * recipe.clip_norm)",
        ["tests/training/test_loop.py", "-k", "gradient_longer"],
        "gradient clipping ten times as wide",
    ),
    (
        "training/checkpoint.py",
        "+ value * images",
        "+ value",
        ["tests/training/test_loop.py", "-k", "loss_is"],
        "an epoch's losses averaged without the batch's size",
    ),
    (
        "training/alternating.py",
        "            model.backbone.load_state_dict(start)\n",
        "",
        ["tests/training/test_alternating.py", "-k", "each_step"],
        "step 2 of alternating training from another start",
    ),
    (
        "models/detection/r_cnn_stages.py",
        "(values > -1)",
        "(values > 0)",
        [R_CNN, "-k", "hard_negatives"],
        "hard negatives without the margin",
    ),
    ("models/detection/r_cnn.py", "16 / 227", "32 / 227", [R_CNN, "-k", "sixteen"], "R-CNN's context twice as wide"),
    (
        "models/detection/r_cnn_stages.py",
        "first_negatives: int = 2000",
        "first_negatives: int = 4000",
        [R_CNN, "-k", "numbers_of_the_paper"],
        "twice as many first negatives",
    ),
    (
        "models/detection/r_cnn_stages.py",
        "random.permutation(rows)[:share]",
        "rows[:share]",
        [R_CNN, "-k", "drawn_at_random"],
        "the first negatives not at random",
    ),
    (
        "models/detection/r_fcn.py",
        "before_nms=(12000, 6000)",
        "before_nms=(12000, 3000)",
        [SINGLE_MAP, "-k", "r_fcn_has"],
        "R-FCN: proposals before suppression",
    ),
    (
        "models/detection/r_fcn.py",
        "after_nms=(2000, 300), min_size=16",
        "after_nms=(2000, 1000), min_size=16",
        [SINGLE_MAP, "-k", "r_fcn_has"],
        "R-FCN: proposals after suppression",
    ),
    ("models/detection/r_fcn.py", "nms_iou=0.3", "nms_iou=0.5", [SINGLE_MAP, "-k", "r_fcn_has"], "R-FCN's suppression"),
    (
        "models/detection/pp_yolo.py",
        "iou_power: float = 0.4",
        "iou_power: float = 0.6",
        [PP_YOLO, "-k", "two_fifths"],
        "PP-YOLO's IoU power",
    ),
    (
        "models/detection/pp_yolo.py",
        "object_score ** (1 - power) * outputs.iou.float().sigmoid() ** power",
        "object_score ** power * outputs.iou.float().sigmoid() ** (1 - power)",
        [PP_YOLO, "-k", "two_fifths"],
        "PP-YOLO's IoU power on the objectness",
    ),
    (
        "evaluation/errors.py",
        "    counted = ~(objects.crowd | objects.difficult)\n    pairs = overlapping_pairs(shown",
        "    counted = ~objects.difficult\n    pairs = overlapping_pairs(shown",
        ["tests/evaluation/test_errors.py", "-k", "crowds_are"],
        "crowds among the objects of the error kinds",
    ),
    (
        "evaluation/errors.py",
        "    counted = ~(objects.crowd | objects.difficult)\n    matched, ignored",
        "    counted = ~objects.difficult\n    matched, ignored",
        ["tests/evaluation/test_errors.py", "-k", "crowds_are"],
        "crowds among the objects of the operating point",
    ),
    (
        "data/transforms/targets.py",
        'boxes[~target.crowd.cpu().numpy()] if "crowd" in target else boxes',
        "boxes",
        [TRANSFORMS, "-k", "not_for_crowds"],
        "crops care for crowds",
    ),
    (
        "data/transforms/crops.py",
        "1 / generator.uniform(*self.ratio)",
        "generator.uniform(1 / self.ratio[1], 1 / self.ratio[0])",
        [TRANSFORMS, "-k", "evenly"],
        "zoom-out's distribution",
    ),
    (
        "nn/heads/yolo_v2.py",
        "[self.passthrough(fine), self.convolutions(coarse)]",
        "[self.convolutions(coarse), self.passthrough(fine)]",
        ["tests/models/detection/test_yolo_v2.py", "-k", "passthrough_comes"],
        "the order of YOLO v2's passthrough",
    ),
    (
        "nn/heads/keypoint.py",
        "points[..., 2] > 0",
        "points[..., 2] > 1",
        ["tests/models/test_mask_rcnn.py", "-k", "cells_by_hand or labelled_keypoints"],
        "visible in place of labelled keypoints",
    ),
    (
        "evaluation/shapes.py",
        "sum(seen > 0 for",
        "sum(seen > 1 for",
        ["tests/evaluation/test_shapes.py", "-k", "hidden"],
        "and when they are measured",
    ),
    (
        "nn/heads/box.py",
        "(10.0, 10.0, 5.0, 5.0)",
        "(10.0, 10.0, 5.0, 10.0)",
        ["tests/nn/test_heads.py", "-k", "by_ten_and"],
        "the box head's published weights",
    ),
    (
        "ops/proposals/regions.py",
        "max(steepest, 1e-6)",
        "max(steepest, 1.0)",
        [SEARCH, "-k", "steepest"],
        "texture's scale",
    ),
    (
        "ops/proposals/grouping.py",
        "- boxes * box_weight",
        "+ boxes * box_weight",
        [SEARCH, "-k", "fill_joins"],
        "fill's sign in selective search",
    ),
    (
        "ops/proposals/grouping.py",
        "(by_fill - by_size) / regions.area",
        "(0 - by_size) / regions.area",
        [SEARCH, "-k", "fill_joins"],
        "fill without the regions' sizes",
    ),
    (
        "structures/batch.py",
        "[(w / ow, h / oh) for (h, w), (oh, ow) in zip(self.sizes, self.original_sizes, strict=True)]",
        "[(self.sizes[0][1] / self.original_sizes[0][1], self.sizes[0][0] / self.original_sizes[0][0])] * len(self)",
        ["tests/models/test_preprocess.py", "-k", "two_factors"],
        "every image of a batch given the first one's scale",
    ),
    (
        "ops/geometry.py",
        "values.new_tensor([*scale, 1.0])",
        "values.new_tensor([scale[0], scale[0], 1.0])",
        ["tests/models/test_preprocess.py", "-k", "two_factors"],
        "keypoints scaled by one factor",
    ),
    (
        "models/detection/keypoint_rcnn.py",
        "new_tensor([sx, sy, 1.0])",
        "new_tensor([sx, sx, 1.0])",
        ["tests/models/test_mask_rcnn.py", "-k", "come_back_by"],
        "keypoints scaled back by one factor",
    ),
    (
        "nn/heads/keypoint.py",
        "(terms * counted).sum() / counted.sum().clamp(min=1)",
        "(terms * counted).mean()",
        ["tests/models/test_mask_rcnn.py", "-k", "labelled_keypoints"],
        "the keypoint loss as a mean over all points",
    ),
    (
        "models/detection/ssd.py",
        "positive.sum().clamp(min=1)",
        "counted.sum().clamp(min=1)",
        ["tests/models/detection/test_ssd.py", "-k", "divided_by"],
        "SSD's normaliser",
    ),
    (
        "models/detection/ssd.py",
        "probabilities = logits.float().softmax(-1)[..., 1:].transpose(1, 2)  # [N, K, D]",
        "probabilities = logits.float().softmax(-1)[..., 1:].transpose(1, 2)\n"
        "        probabilities = probabilities / probabilities.amax()",
        ["tests/models/detection/test_ssd.py", "-k", "softmax_s"],
        "SSD's scores divided by their maximum",
    ),
    (
        "ops/regions.py",
        "sampling_ratio: int = 2,",
        "sampling_ratio: int = 1,",
        ["tests/ops/test_regions.py", "-k", "two_samples"],
        "one RoI sample in place of two",
    ),
]
NAMED = [Mutation(file, old, new, tests, note=note) for file, old, new, tests, note in _NAMED]

_DETECTION = "tests/models/detection/"
_SEGMENTATION = "tests/models/segmentation/"
_LAYERS = "tests/nn/layers/test_detector_layers.py"
_FORMATS = "tests/data/formats/"
_CONVERT = [f"{_FORMATS}test_convert.py", "-k", "not million"]
_LOOP, _PARTS = "tests/training/test_loop.py", "tests/training/test_parts.py"
_RESUME = "tests/training/test_resume.py"
_SHORT = "accumul or loss_is or gradient_longer or backbone_learns or validates_every or closing or writes"
_SHORT += " or step_it_came_in"
_KEPT = "killed_after or failed_write or sgd or best_is_kept or loss_is or writes"

AREAS: dict[str, dict[str, list[str]]] = {
    "ops": {
        "ops/boxes.py": ["tests/ops/test_boxes.py"],
        "ops/anchors.py": ["tests/ops/test_anchors.py"],
        "ops/assignment.py": ["tests/ops/test_assignment.py"],
        "ops/losses.py": ["tests/ops/test_losses.py"],
        "ops/pixel_losses.py": ["tests/ops/test_pixel_losses.py"],
        "ops/masks.py": ["tests/ops/test_masks.py"],
        "ops/matrix_nms.py": ["tests/ops/test_matrix_nms.py"],
        "ops/merging.py": ["tests/ops/test_merging.py"],
        "ops/regions.py": ["tests/ops/test_regions.py"],
        "ops/_sampling.py": ["tests/ops/test_regions.py"],
        "ops/suppression.py": ["tests/ops/test_suppression.py"],
        "ops/task_alignment.py": ["tests/ops/test_task_alignment.py"],
        "ops/upsampling.py": ["tests/ops/test_upsampling.py"],
        "ops/word_tree.py": ["tests/ops/test_word_tree.py"],
        "ops/proposals/grouping.py": [SEARCH],
        "ops/proposals/regions.py": [SEARCH],
        "ops/proposals/selective_search.py": [SEARCH],
        "ops/_range_max.py": ["tests/ops/test_regions.py"],
        "ops/_rois.py": ["tests/ops/test_regions.py"],
        "ops/anchor_clusters.py": ["tests/data/test_anchors.py"],
        "ops/boundary_weights.py": ["tests/ops/test_pixel_losses.py"],
        "ops/deform_conv.py": ["tests/ops/test_deform_conv.py"],
        "ops/outlines.py": ["tests/ops/test_masks.py"],
        "ops/position_sensitive.py": ["tests/ops/test_regions.py", SINGLE_MAP],
        "ops/proposals/colours.py": [SEARCH],
        "ops/warping.py": ["tests/ops/test_warping.py"],
    },
    "heads": {
        "nn/heads/box.py": ["tests/nn/test_heads.py"],
        "nn/heads/decoupled.py": ["tests/nn/test_heads.py", f"{_DETECTION}test_sightline_detector.py"],
        "nn/heads/efficientdet.py": [f"{_DETECTION}test_efficientdet.py"],
        "nn/heads/keypoint.py": ["tests/models/test_mask_rcnn.py", "tests/nn/test_heads.py"],
        "nn/heads/mask.py": ["tests/models/test_mask_rcnn.py", "tests/nn/test_heads.py"],
        "nn/heads/position_sensitive.py": [SINGLE_MAP],
        "nn/heads/retinanet.py": ["tests/nn/test_heads.py", f"{_DETECTION}test_retinanet.py"],
        "nn/heads/rpn.py": ["tests/nn/test_heads.py"],
        "nn/heads/rpn_single.py": [SINGLE_MAP],
        "nn/heads/ssd.py": [f"{_DETECTION}test_ssd.py", "tests/nn/test_heads.py"],
        "nn/heads/yolo_v1.py": ["tests/nn/test_heads.py", f"{_DETECTION}test_yolo_v1.py"],
        "nn/heads/yolo_v2.py": [f"{_DETECTION}test_yolo_v2.py"],
        "nn/layers/space_to_depth.py": ["tests/nn/layers/test_detector_layers.py"],
        "nn/necks/fpn.py": ["tests/nn/test_heads.py", "tests/nn/test_backbones.py"],
        "nn/necks/bifpn.py": ["tests/nn/necks/test_bifpn.py"],
        "nn/heads/yolo_v3.py": [PP_YOLO],
        "nn/necks/pan.py": ["tests/nn/test_heads.py", f"{_DETECTION}test_sightline_detector.py"],
        "nn/necks/yolo_v3.py": [PP_YOLO],
        "nn/layers/coordinates.py": [_LAYERS],
        "nn/layers/drop_block.py": [_LAYERS],
        "nn/layers/fully_convolutional.py": ["tests/nn/test_fully_convolutional.py", "-k", "not average"],
        "nn/layers/spatial_pyramid.py": [_LAYERS],
    },
    "systems": {
        "models/detection/faster_rcnn.py": ["tests/models/test_mask_rcnn.py", "-k", "not overfit and not training"],
        "models/detection/fcos.py": [f"{_DETECTION}test_fcos.py"],
        "models/detection/retinanet.py": [f"{_DETECTION}test_retinanet.py"],
        "models/detection/ssd.py": [f"{_DETECTION}test_ssd.py"],
        "models/detection/yolo_v1.py": [f"{_DETECTION}test_yolo_v1.py"],
        "models/detection/yolo_v2.py": [f"{_DETECTION}test_yolo_v2.py"],
        "models/detection/pp_yolo.py": [PP_YOLO],
        "models/detection/efficientdet.py": [f"{_DETECTION}test_efficientdet.py", "-k", "not overfits"],
        "models/detection/sightline_detector.py": [f"{_DETECTION}test_sightline_detector.py"],
        "models/detection/r_cnn.py": [R_CNN],
        "models/detection/r_cnn_stages.py": [R_CNN],
        "models/detection/overfeat.py": ["tests/models/test_overfeat.py"],
        "models/detection/localiser.py": ["tests/models/test_localiser.py"],
        "models/detection/light_head_rcnn.py": [SINGLE_MAP],
        "models/preprocess.py": ["tests/models/test_preprocess.py"],
        "models/segmentation/fcn.py": ["tests/models/segmentation/test_fcn.py"],
        "models/segmentation/unet.py": ["tests/models/segmentation/test_unet.py"],
        "models/detection/detector.py": ["tests/models/test_mask_rcnn.py", "-k", "not overfit and not training"],
        "models/detection/fast_rcnn.py": ["tests/models/test_mask_rcnn.py", SINGLE_MAP, "-k", "not overfit"],
        "models/detection/faster_rcnn_single.py": [SINGLE_MAP],
        "models/detection/grid_sliding.py": ["tests/models/test_grid_sliding.py"],
        "models/detection/keypoint_rcnn.py": ["tests/models/test_mask_rcnn.py", "-k", "not overfit and not training"],
        "models/detection/mask_rcnn.py": ["tests/models/test_mask_rcnn.py", "-k", "not overfit and not training"],
        "models/detection/proposal_network.py": ["tests/evaluation/test_proposals.py", SINGLE_MAP],
        "models/detection/proposers.py": [R_CNN, SINGLE_MAP],
        "models/detection/parts.py": ["tests/models/test_mask_rcnn.py", "-k", "not overfit and not training"],
        "models/detection/r_fcn.py": [SINGLE_MAP],
        "models/detection/sliding_window.py": ["tests/models/test_sliding_window.py"],
        "models/detection/ssd_mobilenet.py": [f"{_DETECTION}test_ssd.py"],
        "models/detection/ssdlite.py": [f"{_DETECTION}test_ssd.py"],
        "models/detection/yolo_9000.py": [f"{_DETECTION}test_yolo_9000.py"],
        "models/segmentation/deconvnet.py": [f"{_SEGMENTATION}test_unpooled.py"],
        "models/segmentation/deeplab_v3.py": [f"{_SEGMENTATION}test_published.py"],
        "models/segmentation/full_resolution.py": [f"{_SEGMENTATION}test_full_resolution.py"],
        "models/segmentation/segmenter.py": [f"{_SEGMENTATION}test_segmenter.py"],
        "models/segmentation/sliding_segmentation.py": [f"{_SEGMENTATION}test_sliding_segmentation.py"],
    },
    "metrics": {
        "evaluation/_arrays.py": ["tests/evaluation/test_detection.py", "tests/evaluation/test_errors.py"],
        "evaluation/coco.py": ["tests/evaluation/test_detection.py", "tests/evaluation/test_shapes.py"],
        "evaluation/detection.py": [f"tests/evaluation/test_{name}.py" for name in ("detection", "evaluate", "shapes")],
        "evaluation/errors.py": ["tests/evaluation/test_errors.py"],
        "evaluation/proposals.py": ["tests/evaluation/test_proposals.py"],
        "evaluation/segmentation.py": ["tests/evaluation/test_segmentation.py"],
        "evaluation/shapes.py": ["tests/evaluation/test_shapes.py"],
        "evaluation/voc.py": ["tests/evaluation/test_voc.py"],
        "evaluation/__init__.py": ["tests/evaluation/test_evaluate.py"],
        "evaluation/_table.py": ["tests/evaluation/test_table.py", "tests/evaluation/test_detection.py"],
        "verbs/held_out.py": ["tests/verbs/test_held_out.py"],
    },
    "formats": {
        "data/formats/coco.py": [f"{_FORMATS}test_coco.py"],
        "data/formats/coco_gather.py": [f"{_FORMATS}test_coco.py"],
        "data/formats/coco_columns.py": [f"{_FORMATS}test_coco.py"],
        "data/formats/coco_write.py": [f"{_FORMATS}test_coco.py", *_CONVERT],
        "data/formats/yolo.py": [f"{_FORMATS}test_yolo.py", *_CONVERT],
        "data/formats/yolo_seg.py": [f"{_FORMATS}test_yolo_seg.py", f"{_FORMATS}test_yolo.py"],
        "data/formats/voc.py": [f"{_FORMATS}test_voc.py"],
        "data/formats/voc_write.py": [f"{_FORMATS}test_voc.py", *_CONVERT],
        "data/formats/cvat.py": [f"{_FORMATS}test_cvat.py"],
        "data/formats/cvat_shapes.py": [f"{_FORMATS}test_cvat.py"],
        "data/formats/labelme.py": [f"{_FORMATS}test_labelme.py"],
        "data/formats/via.py": [f"{_FORMATS}test_via.py"],
        "data/formats/masks.py": [f"{_FORMATS}test_masks.py"],
        "data/formats/semantic.py": [f"{_FORMATS}test_semantic.py"],
        "data/formats/shapes.py": [f"{_FORMATS}test_shapes.py"],
        "data/columns.py": ["tests/data/test_dataset.py", f"{_FORMATS}test_coco.py"],
        "data/formats/archives.py": [f"{_FORMATS}test_archives.py"],
        "data/formats/cityscapes.py": [f"{_FORMATS}test_cityscapes.py"],
        "data/formats/cityscapes_instances.py": [f"{_FORMATS}test_cityscapes.py"],
        "data/formats/createml.py": [f"{_FORMATS}test_createml.py"],
        "data/formats/csv_boxes.py": [f"{_FORMATS}test_csv_boxes.py"],
        "data/formats/csv_columns.py": [f"{_FORMATS}test_csv_boxes.py"],
        "data/formats/cvat_write.py": [f"{_FORMATS}test_cvat.py", *_CONVERT],
        "data/formats/datumaro.py": [f"{_FORMATS}test_datumaro.py"],
        "data/formats/files.py": [f"{_FORMATS}test_layouts.py", *_CONVERT],
        "data/formats/gather.py": [f"{_FORMATS}test_odd_values.py", f"{_FORMATS}test_coco.py"],
        "data/formats/huggingface.py": [f"{_FORMATS}test_huggingface.py"],
        "data/formats/jsonstream.py": [f"{_FORMATS}test_jsonstream.py", f"{_FORMATS}test_coco.py"],
        "data/formats/label_studio.py": [f"{_FORMATS}test_label_studio.py"],
        "data/formats/label_studio_brush.py": [f"{_FORMATS}test_label_studio.py"],
        "data/formats/labelme_write.py": [
            f"{_FORMATS}test_labelme.py",
            f"{_FORMATS}test_convert.py",
            "-k",
            "not million",
        ],
        "data/formats/listed.py": [f"{_FORMATS}test_layouts.py", f"{_FORMATS}test_csv_boxes.py"],
        "data/formats/masks_voc.py": [f"{_FORMATS}test_masks.py"],
        "data/formats/masks_write.py": [f"{_FORMATS}test_masks.py", f"{_FORMATS}test_layouts.py"],
        "data/formats/panoptic.py": [f"{_FORMATS}test_panoptic.py"],
        "data/formats/refusal.py": [f"{_FORMATS}test_layouts.py"],
        "data/formats/semantic_classes.py": [f"{_FORMATS}test_semantic.py"],
        "data/formats/semantic_write.py": [f"{_FORMATS}test_semantic.py"],
        "data/formats/supervisely.py": [f"{_FORMATS}test_supervisely.py"],
        "data/formats/via_write.py": [f"{_FORMATS}test_via.py", *_CONVERT],
        "data/formats/voc_devkit.py": [f"{_FORMATS}test_voc_devkit.py", f"{_FORMATS}test_voc.py"],
        "data/formats/voc_lists.py": [f"{_FORMATS}test_voc.py", f"{_FORMATS}test_voc_devkit.py"],
        "data/formats/yolo_config.py": [f"{_FORMATS}test_yolo.py", f"{_FORMATS}test_layouts.py"],
        "data/formats/yolo_layout.py": [f"{_FORMATS}test_yolo.py", f"{_FORMATS}test_layouts.py"],
        "data/formats/yolo_lines.py": [f"{_FORMATS}test_yolo.py", f"{_FORMATS}test_odd_values.py"],
        "data/formats/yolo_pose.py": [f"{_FORMATS}test_yolo_pose.py"],
    },
    "transforms": {
        "data/transforms/colour.py": [TRANSFORMS],
        "data/transforms/compose.py": [TRANSFORMS],
        "data/transforms/crops.py": [TRANSFORMS],
        "data/transforms/geometry.py": [TRANSFORMS],
        "data/transforms/mosaic.py": ["tests/data/transforms/test_mosaic.py"],
        "data/transforms/resample.py": [TRANSFORMS],
        "data/transforms/motion.py": [TRANSFORMS],
        "data/transforms/objects.py": [TRANSFORMS, "tests/training/test_boxes_over_the_edge.py"],
        "data/transforms/targets.py": [TRANSFORMS],
        "data/transforms/tone.py": [TRANSFORMS],
        "data/transforms/mirroring.py": ["tests/data/transforms/test_mirroring.py"],
        "data/transforms/recipes.py": [TRANSFORMS, "tests/data/transforms/test_mosaic.py"],
    },
    "training": {
        "training/alternating.py": ["tests/training/test_alternating.py"],
        "training/checkpoint.py": [_RESUME, _LOOP, "-k", _KEPT],
        "training/ema.py": [_PARTS, "-k", "ema"],
        "training/guard.py": [_LOOP, _PARTS, "-k", "non_finite or refusals or batch_of"],
        "training/half.py": ["tests/training/test_half.py", "-k", "not learns"],
        "training/loader.py": [_PARTS],
        "training/loop.py": [_LOOP, "tests/training/test_closing.py", _RESUME, "-k", _SHORT],
        "training/optimizer.py": [_PARTS, _LOOP, "-k", "backbone or decay or optimizer"],
        "training/records.py": [_LOOP, "-k", "best_by or best_is_kept or validates_every or writes"],
        "training/schedule.py": ["tests/training/test_schedule.py", "-k", "not ends_within"],
        "training/recipe.py": ["tests/training/test_recipe.py"],
        "training/validation.py": [_LOOP, "-k", "loss_is or validation_leaves"],
        "training/budget.py": ["tests/training/test_budget.py"],
        "training/devices.py": [_PARTS],
        "training/progress.py": [_PARTS],
        "training/run.py": [_PARTS, _LOOP, "-k", f"{_SHORT} or run or processor or environment"],
        "training/trained_on.py": ["tests/verbs/test_held_out.py"],
    },
}
"""Area → file below src/sightline → the tests that should notice a fault of it."""

_DEFAULTS, _FROZEN = "tests/test_default_numbers.py", "tests/models/test_frozen.py"
COMMON: dict[str, list[str]] = {
    "ops": [_DEFAULTS],
    "heads": [_DEFAULTS, "tests/nn/test_starts.py", _FROZEN],
    "systems": [_FROZEN, _DEFAULTS, "tests/nn/test_starts.py", f"{_DETECTION}test_anchor_shapes.py"],
    "metrics": [_DEFAULTS],
    "formats": [_DEFAULTS, f"{_FORMATS}test_parts.py", f"{_FORMATS}test_recognition.py"],
    "transforms": [_DEFAULTS],
    "training": [_DEFAULTS],
}
"""Area → tests of the numbers that all its files have: they run after the nearest."""

EQUIVALENT: dict[tuple[str, str], str] = {
    (
        "data/transforms/crops.py",
        "if generator.random() > self.p:",
    ): "differs where a random number of 53 bits equals the probability",
    (
        "nn/heads/position_sensitive.py",
        "settings = replace(settings or BoxSettings(), samples=2**40, positive_fraction=1.0)",
    ): "more than any image has, as before: all proposals",
    (
        "data/formats/yolo.py",
        "with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 2))) as pool:",
    ): "how many files are read at a time decides the time alone",
    (
        "data/formats/coco_write.py",
        "boxes = boxes.round(6) - 0.0  # no −0",
    ): "whole numbers are written as integers, which have no −0",
    (
        "evaluation/__init__.py",
        "with running(model, device) as place, bar as advance, ThreadPoolExecutor(2) as reader:",
    ): "a second reader has nothing to do: one batch at a time is asked for",
    (
        "ops/boundary_weights.py",
        "near = two_nearest(objects, math.ceil(12 * sigma)).sum(0)",
    ): "two objects six sigmas away each add 10 · exp(−72) to a weight of 1, which float32 does not hold",
    (
        "data/transforms/compose.py",
        "if generator.random() > self.p:",
    ): "differs where a random number of 53 bits equals the probability",
    (
        "models/detection/r_cnn_stages.py",
        "width = model.svm_weight.shape[1] - model.box_weight.shape[2]",
    ): "of no regions, too, there is one part, so that the width is never asked for",
    (
        "evaluation/_arrays.py",
        "bounds = np.searchsorted(rows.image, np.arange(len(predictions) + 2)).tolist()",
    ): "one bound more is never asked for: the pairs end with the predictions",
    (
        "ops/proposals/grouping.py",
        "for chunk in np.array_split(regions.pairs, len(regions.pairs) // 16384 + 1):",
    ): "how many pairs are compared at a time decides the memory alone",
    (
        "ops/regions.py",
        "which = (level - lowest).to(torch.int64) if len(features) >= 1 else None",
    ): "on one map every region is of level 0, said or not",
    (
        "ops/task_alignment.py",
        "place = torch.arange(len(objects), device=iou.device) - (admitted.cumsum(0))[objects]",
    ): "the columns are counted from the other end, where written and where read",
    (
        "data/formats/voc.py",
        'file = read.get(own) or (read_xml(self.root / own) if own else VocFile("", (1, 0), []))',
    ): "one side of 0 is as unknown as two: the image's header is read",
    (
        "data/transforms/mosaic.py",
        "mirrored = generator.random() <= self.flip, generator.random() < self.vertical_flip",
    ): "differs where a random number of 53 bits equals the probability",
    (
        "data/transforms/compose.py",
        "if view.size == size and np.allclose(view.matrix, np.eye(3), rtol=0, atol=2e-09):",
    ): "a bound on rounding errors: no piece moves a picture by a billionth of a pixel",
    (
        "data/formats/label_studio.py",
        "size: Size = (0, 1)",
    ): "one side of 0 is as unknown as two: the image's header is read",
}
"""(file, the changed line) → why nothing can tell it from the original."""

HISTORY = (
    "The named changes are those that once survived. The others are chosen by seed, in samples; after each, tests were "
    "written for the changes that had survived, and the survivors run once more, so that the shares in this table are "
    "near 100 % by the way it is made, and say nothing of a new change. "
    "What the nearest tests noticed when a sample was new, of the changes that change anything, is the honest estimate "
    "for a change made at random: seed 0, 91 of 126 (9 ran out of time); seed 1, 15 of 21; seed 2, 30 of 41; seed 3, "
    "50 of 69; seed 4, 32 of 39; seed 5, 25 of 34; seed 6, 24 of 31. From seed 2 on the samples are drawn of twice as "
    "many files, and few of a file, so that files without tests of their own count as much as the others. “Nearest” "
    "matters: a survivor may be noticed by a test of another file, as one of seed 5 was. A result is of the source on "
    "the day it was recorded; `--only killed` runs the others once more."
)
"""What the table says above its numbers."""
