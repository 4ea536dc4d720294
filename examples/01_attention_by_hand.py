"""Attention, its derivative, and the proof that the derivative is right.

Run: python examples/01_attention_by_hand.py        Then read: minswin/reference/attention.py
"""

import numpy as np

from minswin.reference.attention import attention

rng = np.random.default_rng(0)
q, k, v = rng.standard_normal((3, 5, 4))  # 5 tokens with 4 channels each

# Every query takes a mean of the values, weighted by how well it fits each key.
weights = np.exp(q @ k.T / np.sqrt(4))
weights /= weights.sum(axis=1, keepdims=True)
by_hand = weights @ v

y, vjp = attention(q, k, v, None)
print("the five rows of weights sum to", weights.sum(axis=1).round(15))
print("largest difference to minswin  ", abs(y - by_hand).max())

# How much does ⟨g, y⟩ change when the queries move along t? Once by the hand-written rule …
g, t = rng.standard_normal((2, 5, 4))
dq, dk, dv, _ = vjp(g)
by_rule = (dq * t).sum()

# … and once by moving them.
h = 1e-6
moved = [(g * attention(q + e * t, k, v, None)[0]).sum() for e in (h, -h)]
by_moving = (moved[0] - moved[1]) / (2 * h)
print(f"derivative by rule              {by_rule:.10f}")
print(f"derivative by moving            {by_moving:.10f}")
assert abs(by_rule - by_moving) < 1e-8
