"""How a ViT knows where a patch is: five answers, which differ in one setting of the model.

Attention does not see the order of its tokens. So a ViT without positions takes an image for a bag
of patches, and gives the same answer after they have changed their places: shown first, in
numbers. Then a small ViT learns two questions about noisy pictures with one bright patch: which
colour it has, and in which quarter of the picture it lies. Chance is 25 % for both. The colour is
learnt with any of the five (100 %); the quarter, by three seeds,

    learned          71%  100%  100%
    learned_2d       73%   76%   58%
    sinusoidal      100%  100%  100%
    relative         51%   67%   28%

and without positions never. That is not a matter of training: a bag has no quarters. Where it is
less than 100 % the 500 steps were too few; the 28 % is a seed that had learnt nothing yet.
Run: python examples/08_positions.py [--quick]        Then read: minswin/layers/embeddings.py
"""

import argparse
import time

import numpy as np

from minswin import create_model, no_grad
from minswin.models.vit import POSITIONS
from minswin.training import AdamW, fit, warmup_cosine

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few steps: shows that it runs")
args = parser.parse_args()

SEEDS, STEPS = ([0], 5) if args.quick else ([0, 1, 2], 500)
SMALL = {"img_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
SMALL |= {"num_classes": 4, "drop_path_rate": 0.0, "global_pool": "avg"}
COLOURS = 2 * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])


def draw(count, rng):
    """Pictures (B, 3, 16, 16) of 4×4 patches, the quarter and the colour (B,) of the bright one."""
    x = 0.3 * rng.standard_normal((count, 3, 4, 4, 4, 4), np.float32)  # row, pixels, column, pixels
    row, column, colour = rng.integers(0, 4, (3, count))
    x[np.arange(count), :, row, :, column] += COLOURS[colour][:, :, None, None]
    return x.reshape(count, 3, 16, 16), 2 * (row > 1) + (column > 1), colour


def shuffled(x, rng):
    """The 4×4 patches in another order."""
    patches = x.reshape(len(x), 3, 4, 4, 4, 4).transpose(2, 4, 0, 1, 3, 5)  # (4, 4, B, 3, 4, 4)
    patches = rng.permutation(patches.reshape(16, len(x), 3, 4, 4)).reshape(4, 4, len(x), 3, 4, 4)
    return patches.transpose(2, 3, 0, 4, 1, 5).reshape(x.shape)  # (B, 3, 16, 16)


def train(positions, question, seed, steps):
    """Train a ViT on one question, and give the share of right answers for 1,000 new pictures."""
    rng = np.random.default_rng(seed)
    model = create_model("vit_cifar_small", **SMALL, positions=positions, rng=rng)

    def batches():
        for _ in range(steps):
            x, *answers = draw(32, rng)
            yield x, answers[question]

    def rate(step):
        rates = {"start": 3e-5, "base": 3e-3, "final": 3e-5}
        return warmup_cosine(step, steps=steps, warmup=steps // 10, **rates)

    list(fit(model, batches(), optimizer=AdamW(model.named_parameters(), 3e-3), lr=rate))
    x, *answers = draw(1000, np.random.default_rng(99))
    with no_grad():
        return (model.eval()(x).data.argmax(axis=1) == answers[question]).mean()


def moves(positions):
    """How far the logits move when the patches of a picture change places, beside the largest."""
    rng = np.random.default_rng(0)
    model = create_model("vit_cifar_small", **SMALL, positions=positions, rng=rng, dtype=np.float64)
    for p in model.parameters():  # fresh ones are so small that places would hardly show
        p.data += 0.3 * rng.standard_normal(p.shape)
    x = rng.standard_normal((4, 3, 16, 16))
    with no_grad():
        a, b = (model(images).data for images in (x, shuffled(x, rng)))
    return abs(a - b).max() / abs(a).max()


began, rights = time.perf_counter(), {}
print(f"which quarter: {STEPS} steps, seeds {SEEDS}; the first line comes after some seconds\n")
print("positions       logits move   right colour   right quarter")
for positions in POSITIONS:
    moved = moves(positions)
    assert (moved < 1e-12) == (positions == "none")
    colour = train(positions, 1, 0, STEPS // 3)
    right = rights[positions] = [train(positions, 0, seed, STEPS) for seed in SEEDS]
    each, seconds = "  ".join(f"{share:4.0%}" for share in right), time.perf_counter() - began
    print(f"{positions:14} {moved:12.0e} {colour:14.0%}   {each:18} {seconds:4.0f} s", flush=True)

if args.quick:
    print("\nNothing is learnt in so few steps: these numbers only show that the program runs.")
else:
    bag, others = rights.pop("none"), np.concatenate(list(rights.values()))
    print(f"\nThe colour needs no positions. The quarter does: {others.mean():.0%} on average with")
    print(
        f"one of the four ({others.min():.0%} to {others.max():.0%}: some seeds need more steps),"
    )
    print(f"{np.mean(bag):.0%} without, which is chance.")
    assert others.mean() > 0.5 > 0.35 > np.mean(bag)
