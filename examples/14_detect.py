"""A small Swin learns to find objects: a box, a class and a score for each, in pictures of several.

Run: python examples/14_detect.py [--backbone resnet] [--minutes 5] [-o boxes.png]
Then read: minswin/dense/detection.py
"""

import argparse
import time

import numpy as np

from minswin import dense
from minswin.data.scenes import scenes
from minswin.dense.pictures import save_boxes
from minswin.look.canvas import picture_path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backbone", choices=("swin", "resnet"), default="swin")
parser.add_argument("--steps", type=int, default=1600, help="of 16 pictures each")
parser.add_argument("--minutes", type=float, help="stop learning after so many, if not done before")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--quick", action="store_true", help="only to see that it runs")
parser.add_argument("-o", "--output", default="boxes.png")
args = parser.parse_args()
output = picture_path(args.output)  # an error now, not after the training
steps, pictures = (2, 72) if args.quick else (args.steps, 2400)
size = 64 if args.quick else 96  # maps of 24×24, 12×12 and 6×6 tokens

rng = np.random.default_rng(args.seed)
train = scenes(pictures, seed=0, size=size)
test = scenes(pictures // 6, seed=0, size=size, split="test")

backbone = dense.small_backbone(args.backbone, img_size=size, stride=4, rng=rng)
model = dense.Detector(backbone, len(train.classes), rng=rng)
locations = model.locations((size, size))
print(f"{args.backbone} with {backbone.macs():,} multiply-adds; "
      f"{model.parameter_count():,} parameters in all")  # fmt: skip


def loss(output, aims):
    return dense.detection_losses(output, aims, locations).total


began = time.perf_counter()
batches = dense.detection_batches(train.images, train.boxes, train.labels, 16, locations=locations)
losses = dense.fit(model, batches, loss, steps=steps, minutes=args.minutes, lr=1e-3, rng=rng)
print(f"{len(losses)} steps in {time.perf_counter() - began:.0f} s, "
      f"loss {losses[0]:.3f} → {np.mean(losses[-50:]):.3f}")  # fmt: skip

predicted = dense.detect(model, dense.as_input(test.images))
truth = list(zip(test.boxes, test.labels, strict=True))
result = dense.average_precision(predicted, truth, len(test.classes))
for name, ap in zip(test.classes, result.per_class, strict=True):
    print(f"{name:>10}  AP {ap:.3f}")
objects = sum(len(boxes) for boxes in test.boxes)
print(f"AP50 {result.ap50:.3f}, AP50:95 {result.ap:.3f} "
      f"on {objects} objects in {len(test)} new pictures")  # fmt: skip
save_boxes(test.images[:12], test.boxes[:12], predicted[:12], test.classes, output)
print(f"twelve of them are drawn in {output}")
if args.quick:
    print("\nNothing is learnt in so few steps: these numbers only show that the program runs.")
