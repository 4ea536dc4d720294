"""Automatic differentiation on one page, beside minswin's own: both give equal gradients.

A result remembers which values it came from, and how to send a gradient back to them. `backward`
walks from the loss to the leaves; whoever was used twice waits for both gradients.
Run: python examples/02_autograd_in_one_page.py        Then read: minswin/autograd.py
"""

import numpy as np

from minswin import Tensor, ops


class Value:
    def __init__(self, data, sources=(), vjp=None):
        self.data, self.sources, self.vjp = np.asarray(data), sources, vjp
        self.grad = np.zeros(self.data.shape)

    def __add__(self, other):
        return Value(self.data + other.data, (self, other), lambda g: (g, g))

    def __mul__(self, other):
        a, b = self.data, other.data
        return Value(a * b, (self, other), lambda g: (g * b, g * a))

    def __matmul__(self, other):
        a, b = self.data, other.data
        return Value(a @ b, (self, other), lambda g: (g @ b.T, a.T @ g))

    def tanh(self):
        y = np.tanh(self.data)
        return Value(y, (self,), lambda g: (g * (1 - y**2),))

    def sum(self):
        return Value(self.data.sum(), (self,), lambda g: (g * np.ones(self.data.shape),))

    def backward(self):
        order, seen = [], set()

        def visit(value):  # all sources of a value come before it
            if value not in seen:
                seen.add(value)
                for source in value.sources:
                    visit(source)
                order.append(value)

        visit(self)
        self.grad = np.ones(self.data.shape)
        for value in reversed(order):  # so all users of a value are done before it
            if value.vjp is not None:
                for source, g in zip(value.sources, value.vjp(value.grad), strict=True):
                    source.grad = source.grad + g  # a value that is used twice gets the sum


def loss(x, a, b, c, tanh):
    """A residual block with a gate: x, a and the hidden values h are each used twice."""
    h = tanh(x @ a) + tanh(x @ a @ b)  # (5, 3)
    return (h * h @ c + x @ a @ c).sum()


rng = np.random.default_rng(0)
arrays = [rng.standard_normal(shape) for shape in [(5, 4), (4, 3), (3, 3), (3, 2)]]

values = [Value(array) for array in arrays]
on_this_page = loss(*values, Value.tanh)
on_this_page.backward()

tensors = [Tensor(array, requires_grad=True) for array in arrays]
in_minswin = loss(*tensors, ops.tanh)
in_minswin.backward()

print(f"the loss: {on_this_page.data:.12f} on this page, {in_minswin.item():.12f} in minswin")
for name, value, tensor in zip("xabc", values, tensors, strict=True):
    difference = abs(value.grad - tensor.grad).max()
    print(f"gradient of {name} {value.data.shape}: largest difference {difference:.1e}")
    assert difference < 1e-13

# What the page does not have: `visit` calls itself, so a long chain is too deep for it.
x = Value(1.0)
for _ in range(10_000):
    x = x + Value(0.0)
try:
    x.backward()
except RecursionError:
    print("a chain of 10,000 additions is too long for the page; minswin walks without recursion:")
start = y = Tensor(np.array(1.0), requires_grad=True)
for _ in range(10_000):
    y = y + 0.0
y.backward()
print(f"its gradient there is {start.grad}")
