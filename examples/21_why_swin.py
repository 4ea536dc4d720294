"""Why Swin? Right answers against the number of training images: a Swin, a ViT and a ResNet.

The three cost the same, about 8 million multiply-adds for an image of 32×32. Each learns the ten
kinds of the built-in set from few or from many images, in the same number of steps, with several
seeds: a seed chooses the weights, the images and their order. All see them mirrored and moved at
random. The same 2,000 new images judge all. In 800 steps, means of three seeds,

    images        250   1,000   4,000  16,000
    Swin        45.8%   60.5%   58.3%   58.8%
    ViT         21.8%   35.1%   27.9%   28.4%
    ResNet      98.4%   99.8%   99.8%   99.9%

are named rightly; chance is 10 %. The more a model takes for granted, the fewer steps it needs: a
ResNet, that neighbours belong together wherever they are; a Swin, by windows and biases, a little
of that; a ViT, nothing. About half an hour of one core for all.
Run: python examples/21_why_swin.py [--quick] [--images 250] [--seeds 0 1 2] [--steps 800]
Then read: minswin/layers/windows.py, minswin/layers/convolutions.py
"""

import argparse
import time

import numpy as np

from minswin import create_model, data, data_parallel
from minswin.training import AdamW, fit, warmup_cosine
from minswin.training.evaluation import evaluate

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few steps: shows that it runs")
parser.add_argument("--steps", type=int, default=800, help="of 32 images each")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--images", type=int, nargs="+", default=[250, 1000, 4000, 16_000])
parser.add_argument("--rate", type=float, help="for all three, instead of each one's own")
args = parser.parse_args()
if args.quick:
    args.steps, args.seeds, args.images = 5, [0], [250]

VIT = {"embed_dim": 48, "depth": 5, "num_heads": 3, "drop_path_rate": 0.0}
MODELS = {  # settings, learning rate: the best of 1e-3, 2e-3, 4e-3 (the ViT's were alike) after
    # 300 steps with 4,000 images and a seed of its own, 7
    "Swin": ("swin_shapes", {}, 1e-3),
    "ViT": ("vit_cifar_small", VIT, 1e-3),
    "ResNet": ("resnet20", {"width": 8, "depths": (3, 2, 2)}, 4e-3),
}
judges = data.Batches.evaluation(
    data.load("shapes", split="test", count=200 if args.quick else None), 200
)


def right(name, count, seed):
    """The share of new images that a model names rightly after it has learnt from `count`."""
    kind, settings, rate = MODELS[name]
    rate = args.rate or rate
    model = create_model(kind, **settings, rng=np.random.default_rng(seed))
    images = data.make_shapes(count, seed=100 + seed)  # the test images have another seed
    order = data.Batches(images, 32, seed=seed, augment="basic")
    batches = (order.batch(*divmod(step, len(order))) for step in range(args.steps))

    def lr(step):
        rates = {"start": rate / 100, "base": rate, "final": rate / 100}
        return warmup_cosine(step, steps=args.steps, warmup=args.steps // 10, **rates)

    optimizer = AdamW(model.named_parameters(), rate, weight_decay=0.05)
    list(fit(model, batches, optimizer=optimizer, lr=lr, forward=data_parallel(model)))
    return evaluate(model, judges.epoch(0)).accuracy


print(f"{args.steps} steps of 32 images; right of {len(judges.dataset):,} new images, by seed")
print("a line takes a minute or two on a free core\n", flush=True)
print("training images   model      mean    of each seed                 time")
for count in args.images:
    for name in MODELS:
        began = time.perf_counter()
        shares = [right(name, count, seed) for seed in args.seeds]
        each, seconds = " ".join(f"{share:6.1%}" for share in shares), time.perf_counter() - began
        print(
            f"{count:15,}   {name:8} {np.mean(shares):6.1%}    {each:26} {seconds:4.0f} s",
            flush=True,
        )
if args.quick:
    print("\nNothing is learnt in so few steps: these numbers only show that the program runs.")
