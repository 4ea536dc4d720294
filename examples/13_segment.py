"""A small Swin learns to say for every pixel what it shows: ten kinds of object, or background.

Run: python examples/13_segment.py [--backbone resnet] [--head uper] [--minutes 2] [-o segments.png]
Then read: minswin/dense/segmentation.py
"""

import argparse
import time

import numpy as np

from minswin import data, dense
from minswin.dense.pictures import save_segments
from minswin.look.canvas import picture_path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--backbone", choices=("swin", "resnet"), default="swin")
parser.add_argument("--head", choices=("fpn", "uper"), default="fpn")
parser.add_argument("--steps", type=int, default=2400, help="of 32 images each")
parser.add_argument("--minutes", type=float, help="stop learning after so many, if not done before")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--quick", action="store_true", help="only to see that it runs")
parser.add_argument("-o", "--output", default="segments.png")
args = parser.parse_args()
output = picture_path(args.output)  # an error now, not after the training
steps, images = (3, 64) if args.quick else (args.steps, 10_000)

rng = np.random.default_rng(args.seed)
train = data.load("shapes", split="train", count=images)  # 32×32
test = data.load("shapes", split="test", count=images // 5)
names = ("background", *train.classes)

backbone = dense.small_backbone(args.backbone, img_size=32, stride=2, rng=rng)
model = dense.Segmenter(backbone, len(names), head=args.head, rng=rng)
print(f"{args.backbone} with {backbone.macs():,} multiply-adds, {args.head} head; "
      f"{model.parameter_count():,} parameters in all")  # fmt: skip

began = time.perf_counter()
batches = dense.segmentation_batches(train.images, dense.class_masks(train), 32)
losses = dense.fit(
    model, batches, dense.pixel_cross_entropy, steps=steps, minutes=args.minutes, rng=rng
)
print(f"{len(losses)} steps in {time.perf_counter() - began:.0f} s, "
      f"loss {losses[0]:.3f} → {np.mean(losses[-50:]):.3f}")  # fmt: skip

truth = dense.class_masks(test)
predicted = dense.segment(model, dense.as_input(test.images))
table = dense.confusion(predicted, truth, len(names))
mean, per_class = dense.mean_iou(table)
empty = (truth == 0).mean()
for name, iou in zip(names, per_class, strict=True):
    print(f"{name:>10}  {iou:6.1%}")
print(f"mean IoU {mean:.1%}, {np.trace(table) / table.sum():.1%} of the pixels right, "
      f"on {len(test)} new images; {empty:.1%} are background")  # fmt: skip
save_segments(test.images[:10], truth[:10], predicted[:10], test.classes, output)
print(f"ten of them are drawn in {output}")
if args.quick:
    print("\nNothing is learnt in so few steps: these numbers only show that the program runs.")
