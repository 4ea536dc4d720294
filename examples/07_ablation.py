"""What the shift and the position bias are worth: Liu et al. 2021, Table 4, on the built-in images.

One model, trained four times from the same first weights on the same batches: as it is, without
the shift, without the bias, without either. Nothing in the model's files is changed: a block whose
`attn.shift` is False uses windows that stay where they are, and a bias table that holds zeros and
requires no gradient stays zero.

    shift   bias    accuracy of the seeds        mean   spread   to the whole
    yes     yes      65.8%   63.9%   64.6%      64.8%     1.9%    +0.0
    no      yes      61.0%   65.9%   54.2%      60.4%    11.7%    -4.4
    yes     no       73.5%   68.4%   61.1%      67.7%    12.4%    +2.9
    no      no       66.3%   67.5%   59.7%      64.5%     7.8%    -0.3

What this shows: the seeds of one row lie up to 12 points apart, and no mean differs from another by
as much. The shift looks worth something, 4.4 points with the bias and 3.2 without, five pairs of
six; but three seeds do not prove it. The bias is worth nothing to be seen. The paper finds 1.1 and
1.2 points, with ImageNet, and a hundred times the steps. What a shift does for certain needs no
training: without it a token never sees beyond its window (questions.md, 2).
The whole takes some minutes; --seeds 0 does a third of it.
Run: python examples/07_ablation.py [--quick]        Then read: minswin/look/receptive.py
"""

import argparse
import time

import numpy as np

from minswin import create_model, data, data_parallel, no_grad, ops
from minswin.layers import WindowAttention
from minswin.training import AdamW, clip_gradients, warmup_cosine

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="one seed, few steps: shows that it runs")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
args = parser.parse_args()

SEEDS, STEPS = ([0], 4) if args.quick else (args.seeds, 600)
KINDS = [data.KINDS.index(kind) for kind in ("ring", "square", "cross", "bars", "heart")]
SMALL = {"embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "window_size": 2, "mlp_ratio": 2.0}


def load(split):
    """Five of the ten kinds of images, so that minutes suffice."""
    images = data.load("shapes", split=split, count=400 if args.quick else None)
    return images.subset(np.flatnonzero(np.isin(images.labels, KINDS)))


learn_from, test = load("train"), load("test")


def build(seed, shift, bias):
    """A Swin on 8×8 and 4×4 tokens with 2×2 windows; shift and bias as asked."""
    model = create_model("swin_shapes", **SMALL, rng=np.random.default_rng(seed))
    for layer in model.layers_within():
        if isinstance(layer, WindowAttention):
            layer.shift = layer.shift and shift
            if not bias:
                layer.relative_position_bias_table.data[...] = 0
                layer.relative_position_bias_table.requires_grad = False
    return model


def train(model, seed):
    """Train it, and give the share of new images that it names rightly."""
    forward, batches = data_parallel(model), data.Batches(learn_from, 32, seed=seed)
    optimizer = AdamW(model.named_parameters(), 2e-3, weight_decay=0.05)
    for step in range(STEPS):
        x, labels = batches.batch(*divmod(step, len(batches)))  # (32, 3, 32, 32), (32,)
        model.zero_grad()
        ops.cross_entropy(forward(x), labels).backward()
        clip_gradients(model.parameters(), 1.0)
        rates = {"start": 2e-5, "base": 2e-3, "final": 2e-5}
        optimizer.step(warmup_cosine(step, steps=STEPS, warmup=STEPS // 10, **rates))
    model.eval()
    with no_grad():
        parts = data.Batches.evaluation(test, 200).epoch(0)
        right = [forward(x).data.argmax(axis=1) == labels for x, labels in parts]
    return np.concatenate(right).mean()


def check(model, shift, bias):
    """What was switched off is off after the training too: seen from outside, in the values."""
    layers = [layer for layer in model.layers_within() if isinstance(layer, WindowAttention)]
    learnt = [np.ptp(layer.relative_position_bias_table.data) for layer in layers]
    assert all(learnt) if bias else not any(learnt)
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    moved = x.copy()
    moved[0, :, 8, 8] += 1  # token (2, 2): a corner of its plain window, inside a shifted one
    with no_grad():
        a, b = (model.feature_maps(image)[0].data for image in (x, moved))
    changed = (abs(a - b).max(axis=(0, 3)) > 1e-6).sum()
    assert changed > 4 if shift else changed == 4  # tokens of the first stage: one window, or more


began = time.perf_counter()
accuracy = {}
for shift, bias in [(True, True), (False, True), (True, False), (False, False)]:
    found = accuracy[shift, bias] = []
    for seed in SEEDS:
        model = build(seed, shift, bias)
        found.append(train(model, seed))
        check(model, shift, bias)
        print(f"{time.perf_counter() - began:4.0f} s   {shift=} {bias=} {seed=}: {found[-1]:.2%}")

print(f"\n{len(test)} new images, chance is 20 %; {STEPS} steps, seeds {SEEDS}\n")
print("shift   bias    accuracy of the seeds        mean   spread   to the whole")
whole = np.mean(accuracy[True, True])
for (shift, bias), found in accuracy.items():
    each = "  ".join(f"{a:6.1%}" for a in found)
    spread, mean = max(found) - min(found), np.mean(found)
    row = [f"{'yes' if on else 'no':7}" for on in (shift, bias)]
    row += [f"{each:26}", f"{mean:6.1%}", f" {spread:6.1%}", f"  {100 * (mean - whole):+5.1f}"]
    print(" ".join(row))

if args.quick:
    print("\nNothing is learnt in so few steps: these numbers only show that the program runs.")
elif len(SEEDS) == 1:
    print("\nOne seed has no spread: no difference of this table shows anything.")
else:
    noise = max(max(found) - min(found) for found in accuracy.values())
    print(
        f"\nThe seeds of one row lie up to {noise:.1%} apart: a smaller difference shows nothing."
    )
