"""Dense tasks on a pyramid of maps: a class for every pixel, a box for every object."""

from typing import TYPE_CHECKING

from minswin import lazy
from minswin.dense.backbones import Backbone, small_backbone
from minswin.dense.batches import as_input, class_masks, detection_batches, segmentation_batches
from minswin.dense.boxes import box_iou, clip_boxes, nms
from minswin.dense.detection import Detections, Detector, detect, detection_losses
from minswin.dense.learning import fit
from minswin.dense.metrics import AveragePrecision, average_precision, confusion, mean_iou
from minswin.dense.segmentation import Segmenter, pixel_cross_entropy, segment

__all__ = [
    "AveragePrecision",
    "Backbone",
    "Detections",
    "Detector",
    "Segmenter",
    "as_input",
    "average_precision",
    "box_iou",
    "class_masks",
    "clip_boxes",
    "confusion",
    "detect",
    "detection_batches",
    "detection_losses",
    "fit",
    "mean_iou",
    "nms",
    "pixel_cross_entropy",
    "segment",
    "segmentation_batches",
    "small_backbone",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.submodules(__name__)
