"""The same model on a GPU: where arrays are, how they move, and that the numbers stay.

Without a GPU it says what is missing, and what the lines would do.
Run: python examples/17_gpu.py        Then read: minswin/devices.py
"""

import time

import numpy as np

from minswin import Tensor, create_model, devices, ops

SHOW = """
on a GPU these lines would run:

    model.to("gpu")                       # the parameters move; they stay the same objects
    x = Tensor(images).to("gpu")          # nothing moves unless asked
    loss = ops.cross_entropy(model(x), labels)
    loss.backward()                       # the gradients are on the GPU too
    model.to("cpu")                       # and back, with their gradients

and in the command line:

    minswin train --device gpu            # whole steps are recorded and replayed
    minswin bench --device gpu            # beside PyTorch on the same GPU
"""


def step(model, x, labels):
    """Loss and gradients of one batch, brought to the CPU; and the seconds they took."""
    began = time.perf_counter()
    model.zero_grad()
    loss = ops.cross_entropy(model(x), labels)
    loss.backward()
    gradients = {n: devices.to_device(p.grad, "cpu") for n, p in model.named_parameters()}
    return loss.item(), gradients, time.perf_counter() - began


rng = np.random.default_rng(0)
model = create_model("swin_cifar_small", rng=rng)
images = rng.standard_normal((128, 3, 32, 32)).astype(np.float32)
labels = rng.integers(10, size=128)

print(f"the weights are on: {devices.device_of(model.head.weight.data)}")
step(model, Tensor(images), labels)  # compiles the kernels
loss, expected, seconds = step(model, Tensor(images), labels)
print(f"cpu: loss {loss:.6f}, {seconds * 1e3:.1f} ms for 128 images")
try:
    devices.cupy()
except (ImportError, OSError) as missing:
    print(f"\n{missing}")
    print(SHOW)
else:
    model.to("gpu")
    x, labels = Tensor(images).to("gpu"), devices.to_device(labels, "gpu")
    print(f"the weights are on: {devices.device_of(model.head.weight.data)}")
    step(model, x, labels)  # compiles there
    loss, gradients, seconds = step(model, x, labels)
    print(f"gpu: loss {loss:.6f}, {seconds * 1e3:.1f} ms")
    name = max(expected, key=lambda n: abs(gradients[n] - expected[n]).max())
    scale = max(abs(g).max() for g in expected.values())
    error = abs(gradients[name] - expected[name]).max() / scale
    print(f"largest difference of a gradient: {error:.1e} of the largest gradient, in {name}")
    assert error < 1e-4
