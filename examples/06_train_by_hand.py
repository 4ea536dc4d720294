"""The whole of training: a small Swin learns to tell rings from bars.

Run: python examples/06_train_by_hand.py        Then read: minswin/training/fit.py, the loop itself
"""

import numpy as np

from minswin import create_model, data, no_grad
from minswin.training import fit

STEPS = 400
RING, BARS = data.KINDS.index("ring"), data.KINDS.index("bars")


def images_and_labels(split):
    images = data.load("shapes", split=split)
    images = images.subset(np.flatnonzero(np.isin(images.labels, [RING, BARS])))
    mean, std = data.STATISTICS["shapes"]
    return data.normalize(images.images, mean=mean, std=std), (images.labels == BARS).astype(int)


rng = np.random.default_rng(0)
model = create_model("swin_shapes", num_classes=2, rng=rng)
x, labels = images_and_labels("train")  # (2000, 3, 32, 32), (2000,)


def batches():
    for _ in range(STEPS):
        chosen = rng.choice(len(x), 32, replace=False)
        yield x[chosen], labels[chosen]


# Forward, cross-entropy, backward, no gradient longer than 1, SGD with momentum 0.9.
rates = [0.1 * (1 - step / STEPS) for step in range(STEPS)]  # falls to 0
for step, loss in enumerate(fit(model, batches(), lr=lambda step: rates[step], clip=1.0)):
    if step % 50 == 0:
        print(f"step {step:3}   loss {loss:.3f}")

x, labels = images_and_labels("test")
with no_grad():
    logits = model.eval()(x).numpy()  # (400, 2)
accuracy = (logits.argmax(axis=1) == labels).mean()
print(f"after {STEPS} steps {accuracy:.1%} of {len(x)} new images are right; chance is 50 %")
assert accuracy > 0.85
