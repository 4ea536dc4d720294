"""The original Transformer learns to read digits backwards, and to add numbers written as text.

    "40718"  →  "81704"        "47+86"  →  "331": the sum 133, written from the right as on paper

Nothing tells it what a digit is. Tested on texts that it never met: 1000 of the 100,000 strings of
five digits, and a fifth of the 10,000 sums of two numbers below 100.
Run: python examples/11_reverse_and_add.py [--quick]        Then read: minswin/models/transformer.py
"""

import argparse
import time

import numpy as np

from minswin.models.transformer import Transformer, sequence_loss
from minswin.models.writing import beam_search, greedy
from minswin.training import AdamW, clip_gradients
from minswin.training.optimizers import noam

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="few steps: shows that it runs")
args = parser.parse_args()

PAD, START, STOP, PLUS = 10, 11, 12, 13  # the words 0 to 9 are the digits
STEPS, BATCH, TESTS = (20, 128, 50) if args.quick else (1500, 128, 1000)
rng = np.random.default_rng(0)


def digits(numbers, count):
    """The digits of numbers (B,), the last one first: (B, count)."""
    return numbers[:, None] // 10 ** np.arange(count) % 10


def reversals(numbers):
    """Texts of five digits (B, 5), and what to write: their digits from the last to the first."""
    backwards = digits(numbers, 5)
    return backwards[:, ::-1], np.pad(backwards, ((0, 0), (0, 1)), constant_values=STOP)


def additions(pairs):
    """Texts like 47+86 (B, 5), and what to write: three digits of the sum, the last one first."""
    a, b = np.divmod(pairs, 100)
    plus = np.full((len(pairs), 1), PLUS)
    source = np.concatenate([digits(a, 2)[:, ::-1], plus, digits(b, 2)[:, ::-1]], axis=1)
    target = np.pad(digits(a + b, 3), ((0, 0), (0, 1)), constant_values=STOP)
    return source, np.pad(target, ((0, 0), (0, 2)), constant_values=PAD)


def exact(found, target):
    """The share of texts without a single wrong word."""
    found = np.pad(found, ((0, 0), (0, target.shape[1] - found.shape[1])), constant_values=PAD)
    return (found == target).all(axis=1).mean()


new_strings, strings = np.split(rng.permutation(100_000), [TESTS])
new_pairs, pairs = np.split(rng.permutation(10_000), [2 * TESTS])
model = Transformer(
    14, embed_dim=64, depth=2, num_heads=4, mlp_ratio=4, drop_rate=0.0, pad=PAD, rng=rng
)
optimizer = AdamW(model.named_parameters(), 0.0, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0)
print("the least loss that label smoothing allows is 0.547")
began = time.perf_counter()
for step in range(STEPS):
    tasks = (
        reversals(rng.choice(strings, BATCH // 3)),
        additions(rng.choice(pairs, BATCH - BATCH // 3)),
    )
    source, target = (np.concatenate(parts) for parts in zip(*tasks, strict=True))
    given = np.insert(target[:, :-1], 0, START, axis=1)  # each word is to be told from those before
    loss = sequence_loss(model(source, given), target, pad=PAD, smoothing=0.1)
    model.zero_grad()
    loss.backward()
    clip_gradients(model.parameters(), 1.0)
    optimizer.step(noam(step, channels=64, warmup=200, factor=0.3))
    if step % 100 == 0 or step == STEPS - 1:
        print(f"step {step:4}   loss {loss.item():.3f}   {time.perf_counter() - began:4.0f} s")

backwards, sums = reversals(new_strings), additions(new_pairs)
setting = {"start": START, "stop": STOP, "length": 6}
shares = [exact(greedy(model, x, **setting), y) for x, y in (backwards, sums)]
of = f"{shares[0]:.1%} of {TESTS} new strings, {shares[1]:.1%} of {2 * TESTS} new sums"
print(f"without a mistake: {of}")
half = TESTS // 2
by_beam = exact(beam_search(model, sums[0][:half], **setting, width=4), sums[1][:half])
print(f"with a beam of 4, {by_beam:.1%} of the first {half} sums")
assert args.quick or min(shares) > 0.99
if args.quick:
    print("\nNothing is learnt in so few steps: these numbers only show that the program runs.")
