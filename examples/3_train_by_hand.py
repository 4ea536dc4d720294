"""The whole of training in twenty lines: forward, loss, backward, SGD.

Run: python examples/3_train_by_hand.py        Then read: minswin/training/loop.py
"""

import numpy as np

from minswin import create_model, data, no_grad, ops

rng = np.random.default_rng(0)
model = create_model("swin_shapes", num_classes=10, rng=rng)
images = data.load("shapes", split="train", count=2048)
x = data.normalize(images.images, *data.STATISTICS["shapes"])  # (2048, 3, 32, 32)

velocity = [np.zeros_like(p.data) for p in model.parameters()]
for step in range(64):
    batch = rng.choice(len(x), 64, replace=False)
    loss = ops.cross_entropy(model(x[batch]), images.labels[batch])
    model.zero_grad()
    loss.backward()
    for p, v in zip(model.parameters(), velocity, strict=True):
        v *= 0.9
        v += p.grad
        p.data -= 0.02 * v
    if step % 8 == 0:
        print(f"step {step:3}   loss {loss.item():.3f}")

test = data.load("shapes", split="test", count=512)
with no_grad():
    logits = model(data.normalize(test.images, *data.STATISTICS["shapes"])).numpy()
accuracy = (logits.argmax(axis=1) == test.labels).mean()
print(f"after 64 steps: {accuracy:.1%} of 512 new images are right; chance is 10 %")
assert accuracy > 0.15
