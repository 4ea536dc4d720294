"""The whole of training in twenty lines: forward, loss, backward, SGD with momentum.

A small Swin learns to tell rings from bars.
Run: python examples/06_train_by_hand.py        Then read: minswin/training/loop.py
"""

import numpy as np

from minswin import create_model, data, no_grad, ops

RING, BARS = data.KINDS.index("ring"), data.KINDS.index("bars")


def images_and_labels(split):
    images = data.load("shapes", split=split)
    images = images.subset(np.flatnonzero(np.isin(images.labels, [RING, BARS])))
    mean, std = data.STATISTICS["shapes"]
    return data.normalize(images.images, mean=mean, std=std), (images.labels == BARS).astype(int)


rng = np.random.default_rng(0)
model = create_model("swin_shapes", num_classes=2, rng=rng)
x, labels = images_and_labels("train")  # (2000, 3, 32, 32), (2000,)

velocity = [np.zeros_like(p.data) for p in model.parameters()]
for step in range(400):
    batch = rng.choice(len(x), 32, replace=False)
    loss = ops.cross_entropy(model(x[batch]), labels[batch])
    model.zero_grad()
    loss.backward()
    length = np.sqrt(sum((p.grad**2).sum() for p in model.parameters()))
    for p, v in zip(model.parameters(), velocity, strict=True):
        v *= 0.9
        v += p.grad / max(length, 1)  # no gradient is longer than 1
        p.data -= 0.1 * (1 - step / 400) * v  # the learning rate falls to 0
    if step % 50 == 0:
        print(f"step {step:3}   loss {loss.item():.3f}")

x, labels = images_and_labels("test")
with no_grad():
    logits = model(x).numpy()  # (400, 2)
accuracy = (logits.argmax(axis=1) == labels).mean()
print(f"after 400 steps {accuracy:.1%} of {len(x)} new images are right; chance is 50 %")
assert accuracy > 0.85
