"""A DeiT learns from a ResNet, and a second one without it: from the same 1000 labelled images.

Both DeiTs have two heads and are equal in everything but one: what the second head is told. That
is the teacher's choice, or the label once more. Images are mirrored and moved at random, and the
teacher looks at the very pixels that the student sees.
Run: python examples/09_distil_a_deit.py [--quick]        Then read: minswin/models/deit.py
"""

import argparse
import time

import numpy as np

from minswin import create_model, data, data_parallel, no_grad, ops
from minswin.models.deit import hard_distillation_loss
from minswin.training import AdamW, clip_gradients, warmup_cosine
from minswin.training.distillation import TwoHeads

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="one epoch: shows that it runs")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

few = data.load("shapes", split="train", count=150 if args.quick else 1000)
test = data.load("shapes", split="test", count=200 if args.quick else None)
RESNET = {"img_size": 32, "width": 8, "depths": (1, 1, 1), "num_classes": 10}  # 19,000 parameters
DEIT = {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 4}


def fit(model, loss, epochs):
    """Train: loss(x, labels) is the loss of a batch."""
    batches = data.Batches(few, 50, seed=args.seed, augment="basic")
    optimizer = AdamW(model.named_parameters(), 2e-3, weight_decay=0.05)
    steps = epochs * len(batches)
    for step in range(steps):
        x, labels = batches.batch(*divmod(step, len(batches)))  # (50, 3, 32, 32), (50,)
        model.zero_grad()
        loss(x, labels).backward()
        clip_gradients(model.parameters(), 1.0)
        rates = {"start": 2e-5, "base": 2e-3, "final": 2e-5}
        optimizer.step(warmup_cosine(step, steps=steps, warmup=steps // 10, **rates))


def answers(forward):
    """Logits for the test images."""
    with no_grad():
        batches = data.Batches.evaluation(test, 200).epoch(0)
        return np.concatenate([forward(x).numpy() for x, _ in batches])


def right(logits):
    return f"{(logits.argmax(axis=1) == test.labels).mean():10.1%}"


began = time.perf_counter()
teacher = create_model("resnet20", **RESNET, rng=np.random.default_rng(args.seed))
fit(teacher, lambda x, labels: ops.cross_entropy(teacher(x), labels), 1 if args.quick else 30)
advise = data_parallel(teacher.eval())
print(f"teacher: {teacher.parameter_count():,} parameters, {time.perf_counter() - began:.0f} s")

rows = [("ResNet, the teacher", ["", "", right(answers(advise))])]
for name, listens in (("DeiT on its own", False), ("DeiT with a teacher", True)):
    began = time.perf_counter()
    rng = np.random.default_rng(args.seed)
    student = create_model("deit_cifar_distilled", **DEIT, mlp_ratio=2.0, num_classes=10, rng=rng)
    both = data_parallel(TwoHeads(student))  # images (B, 3, H, W) to logits (B, 2, 10)

    def loss(x, labels, both=both, listens=listens):
        with no_grad():
            advice = advise(x).data if listens else np.eye(10, dtype=x.dtype)[labels]  # (B, 10)
        heads = both(x)
        return hard_distillation_loss((heads[:, 0], heads[:, 1]), labels, advice)

    fit(student, loss, 1 if args.quick else 30)
    student.eval()
    heads = answers(both)  # (images, 2, 10)
    rows.append((name, [right(heads[:, 0]), right(heads[:, 1]), right(heads.mean(axis=1))]))
    print(f"{name}: {student.parameter_count():,} parameters, {time.perf_counter() - began:.0f} s")

print(f"\nof {len(test)} new images, right:")
print(f"{'':22}{'head':>10}{'head_dist':>10}{'both':>10}")
for name, columns in rows:
    print(f"{name:22}" + "".join(f"{column:>10}" for column in columns))

if args.quick:
    print("\nNothing is learnt in so few steps: these numbers only show that the program runs.")
else:
    print(
        f"\nA share of {len(test)} images is known to ±2 points, and another seed (--seed 1) gives"
    )
    print("other weights besides: a smaller difference shows nothing.")
