"""Who takes part in a race: this code, and PyTorch running a model of the same shape (peers.py).

A contender is built in a process of its own and gives two functions without arguments: one step of
training (forward, cross-entropy, backward, SGD with momentum) and one of inference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minswin.bench import peers
from minswin.bench.clock import Step
from minswin.bench.setups import Setup, check_model, data, our_model


class Contender(NamedTuple):
    train: Step
    infer: Step
    parameters: int


OURS = {"minswin": "numba", "reference": "reference"}  # the backend of each
MEANINGS = {
    "minswin": "this code, its kernels",
    "reference": "this code, its definitions only",
    "timm": "timm, attention spelled out",
    "timm-fused": "timm, scaled_dot_product_attention",
    "timm-compiled": "timm, attention spelled out, torch.compile",
    "transformers": "transformers, attention spelled out",
    "transformers-fused": "transformers, scaled_dot_product_attention",
}


def load(contender: str) -> None:
    """Import all that a contender needs, so that what this costs can be told from its model."""
    if contender in OURS:
        from minswin import kernels

        with kernels.using(OURS[contender]):
            return
    peers.load(contender)


def build(contender: str, setup: Setup, threads: int) -> Contender:
    """A contender of the shape of `setup`, working with this many threads."""
    check_model(setup.model)
    if contender in OURS:
        return _ours(setup, threads, OURS[contender])
    return Contender(*peers.build(contender, setup, threads))


def _ours(setup: Setup, threads: int, backend: str) -> Contender:
    from minswin import data_parallel, kernels, no_grad, ops
    from minswin.training.optimizers import SGD

    images, labels = data(setup)
    model = our_model(setup, np.random.default_rng(0))
    parallel = data_parallel(model, threads)
    backend = "bfloat16" if backend == "numba" and setup.precision == "bfloat16" else backend
    optimizer = SGD(model.named_parameters(), 0.01, momentum=0.9)

    def train() -> float:
        with kernels.using(backend):
            model.train()
            model.zero_grad()
            loss = ops.cross_entropy(parallel(images), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

    def infer() -> np.ndarray:
        with kernels.using(backend), no_grad():
            model.eval()
            return parallel(images).numpy()

    return Contender(train, infer, model.parameter_count())
