"""How a ViT knows where a patch is: five answers, which differ in one setting of the model.

Attention does not see the order of its tokens. So a ViT without positions takes an image for a bag
of patches, and gives the same answer after they have changed their places: shown first, in
numbers. Then the same small ViT learns from the same images with each answer.
It is one seed and a short training: a difference of some points means nothing (see 07_ablation.py).
Run: python examples/08_positions.py [--quick]        Then read: minswin/layers/embeddings.py
"""

import argparse
import time

import numpy as np

from minswin import create_model, data, data_parallel, no_grad, ops
from minswin.models.vit import POSITIONS
from minswin.training import AdamW, clip_gradients, warmup_cosine

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few steps: shows that it runs")
args = parser.parse_args()

STEPS = 10 if args.quick else 400
SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3, "drop_path_rate": 0.0}
KINDS = [data.KINDS.index(kind) for kind in ("ring", "square", "cross", "bars", "heart")]


def load(split):
    """Five of the ten kinds of images, so that a minute suffices."""
    images = data.load("shapes", split=split)
    return images.subset(np.flatnonzero(np.isin(images.labels, KINDS)))


learn_from, test = load("train"), load("test")
x = np.random.default_rng(1).standard_normal((4, 3, 32, 32))


def shuffled(x, rng):
    """The 8×8 patches of 4×4 pixels in another order."""
    patches = x.reshape(len(x), 3, 8, 4, 8, 4).transpose(2, 4, 0, 1, 3, 5)  # (8, 8, B, 3, 4, 4)
    patches = rng.permutation(patches.reshape(64, len(x), 3, 4, 4)).reshape(8, 8, len(x), 3, 4, 4)
    return patches.transpose(2, 3, 0, 4, 1, 5).reshape(x.shape)  # (B, 3, 32, 32)


def train(model):
    """Train it, and give the share of new images that it names rightly."""
    forward, batches = data_parallel(model), data.Batches(learn_from, 32, seed=0)
    optimizer = AdamW(model.named_parameters(), 2e-3, weight_decay=0.05)
    for step in range(STEPS):
        images, labels = batches.batch(*divmod(step, len(batches)))  # (32, 3, 32, 32), (32,)
        model.zero_grad()
        ops.cross_entropy(forward(images), labels).backward()
        clip_gradients(model.parameters(), 1.0)
        rates = {"start": 2e-5, "base": 2e-3, "final": 2e-5}
        optimizer.step(warmup_cosine(step, steps=STEPS, warmup=STEPS // 10, **rates))
    model.eval()
    with no_grad():
        parts = data.Batches.evaluation(test, 200).epoch(0)
        right = [forward(images).data.argmax(axis=1) == labels for images, labels in parts]
    return np.concatenate(right).mean()


print("logits move when patches change places; and of new images, right after training:\n")
print("positions        learnt   logits    right")
for positions in POSITIONS:
    began, rng = time.perf_counter(), np.random.default_rng(0)
    model = create_model("vit_cifar_small", **SMALL, positions=positions, rng=rng, dtype=np.float64)
    for p in model.parameters():  # fresh ones are so small that places would hardly show
        p.data += 0.3 * rng.standard_normal(p.shape)
    with no_grad():
        a, b = (model(images).data for images in (x, shuffled(x, rng)))
    moves = abs(a - b).max() / abs(a).max()
    assert (moves < 1e-12) == (positions == "none")

    model = create_model("vit_cifar_small", **SMALL, positions=positions, rng=rng)
    learnt = sum(p.size for name, p in model.named_parameters() if "pos" in name)
    right, seconds = train(model), time.perf_counter() - began
    print(f"{positions:14} {learnt:8,} {moves:8.0e} {right:8.1%}   {seconds:4.0f} s")
