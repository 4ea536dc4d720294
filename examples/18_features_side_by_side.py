"""Images as points: what a Swin, a ViT and a TNT make of the same new images, side by side.

Each learns for some seconds from five kinds of images of the built-in set. What its head is then
given for an image is a vector; the plane on which these vary most (PCA) shows which kinds it tells
apart already. Where scikit-learn is installed, a second row shows t-SNE, which keeps neighbours
together.

After 300 steps the Swin is last: of new images it gets 40 % right, TNT 54 %, ViT 59 % (one seed).
32×32 pixels are 64 tokens, and there a window saves nothing; it only keeps tokens apart. With few
images the order is another one: 21_why_swin.py. What a Swin is for shows when the image grows.
Multiply-adds of one image, in millions, as printed here:

    side of the image      32      64     128     256     512
    Swin                  7.8    31.4   125.5     502   2,007
    ViT                   5.0    33.8   361.6   5,070  78,263
    TNT                   4.1    25.9   254.4   3,433  52,388

Four times the area costs a Swin four times as much, and a ViT with the same patches up to sixteen
times: at 512×512 it costs 39 Swins. So a ViT takes larger patches there, and loses small things.
Run: python examples/18_features_side_by_side.py [--quick] [-o features.png]
Then read: minswin/look/planes.py
"""

import argparse
import time

import numpy as np

from minswin import create_model, data, data_parallel, ops
from minswin.look import canvas, features, planes
from minswin.training import AdamW, clip_gradients, warmup_cosine

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few steps: shows that it runs")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("-o", "--output", default="features.png")
args = parser.parse_args()
output = canvas.picture_path(args.output)  # an error now, not after the training

STEPS, IMAGES = (2, 50) if args.quick else (300, 300)
SMALL = {"embed_dim": 48, "num_heads": 3, "drop_path_rate": 0.0}
MODELS = {  # name, settings, learning rate
    "Swin": ("swin_shapes", {}, 1e-3),
    "ViT": ("vit_cifar_small", {**SMALL, "depth": 3}, 2e-3),
    "TNT": ("tnt_cifar", {**SMALL, "depth": 2, "inner_dim": 8}, 2e-3),
}
KINDS = [data.KINDS.index(kind) for kind in ("ring", "square", "cross", "bars", "heart")]


def load(split):
    images = data.load("shapes", split=split, count=400 if args.quick else None)
    return images.subset(np.flatnonzero(np.isin(images.labels, KINDS)))


train, test = load("train"), load("test").subset(slice(IMAGES))
x, labels = next(iter(data.Batches.evaluation(test, IMAGES).epoch(0)))  # (images, 3, 32, 32)


def learn(model, rate):
    """Train a model for a while; gives the loss of its last batch."""
    forward, batches = data_parallel(model), data.Batches(train, 32, seed=args.seed)
    optimizer = AdamW(model.named_parameters(), rate, weight_decay=0.05)
    for step in range(STEPS):
        images, truth = batches.batch(*divmod(step, len(batches)))  # (32, 3, 32, 32), (32,)
        model.zero_grad()
        loss = ops.cross_entropy(forward(images), truth)
        loss.backward()
        clip_gradients(model.parameters(), 1.0)
        rates = {"start": rate / 100, "base": rate, "final": rate / 100}
        optimizer.step(warmup_cosine(step, steps=STEPS, warmup=STEPS // 10, **rates))
    return loss.item()


vectors = {}
print("model  parameters   time  last loss  new images right  variance kept by a plane")
for name, (kind, settings, rate) in MODELS.items():
    began = time.perf_counter()
    model = create_model(kind, **settings, rng=np.random.default_rng(args.seed))
    loss, seconds = learn(model, rate), time.perf_counter() - began
    vectors[name] = features.pooled_features(model, x)  # (images, C)
    logits = vectors[name] @ model.head.weight.numpy().T + model.head.bias.numpy()
    right = logits.argmax(axis=1) == labels
    _, share = planes.principal_plane(vectors[name])
    print(
        f"{name:5} {model.parameter_count():11,} {seconds:4.0f} s {loss:10.2f} "
        f"{right.mean():17.0%} {share.sum():25.0%}"
    )

methods = planes.available_methods()
figure, axes = canvas.figure(len(vectors), len(methods), width=3.0, height=2.6)
numbers, names = np.searchsorted(sorted(KINDS), labels), [data.KINDS[k] for k in sorted(KINDS)]
planes.draw_planes(axes, vectors, numbers, names, methods=methods)
canvas.save(figure, output, dpi=110)
print(f"{output} shows them: {', '.join(methods)}\n")

sides = (32, 64, 128, 256, 512)
print("millions of multiply-adds of one image, by its side")
print(f"{'':5}" + "".join(f"{side:8}" for side in sides))
for name, (kind, settings, _) in MODELS.items():
    sized = (create_model(kind, **settings, img_size=side) for side in sides)
    costs = [sum(row.macs for row in model.summary()) / 1e6 for model in sized]
    print(f"{name:5}" + "".join(f"{cost:8,.{0 if cost > 400 else 1}f}" for cost in costs))
if args.quick:
    print("\nNothing is learnt in so few steps: the shares right only show that the program runs.")
else:
    print("\nWindows save nothing at 32×32, and nearly everything at 512×512.")
