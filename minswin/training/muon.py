"""Muon on the matrices inside a model, AdamW on all the rest. The formulas: reference/muon.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from minswin.arguments import below_one, switch, whole
from minswin.arrays import Array
from minswin.reference.muon import muon_step
from minswin.training.optimizers import AdamW, Optimizer, by_name, decays

REST = "rest."  # before the names of what AdamW keeps


class Muon(Optimizer):
    """Steps whose singular values are alike, for matrices between hidden channels.

    The first layer and the heads have a side that is no hidden channel, and vectors and tables have
    no singular values to speak of: all these move by AdamW, with the same rate and decay.
    heads: the layers whose matrices give an answer, or, as embeddings of words, take one
    threads: that share the matrices of a step, each of which is one thread's; on a GPU 1
    """

    slots = ("momentum",)

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Any]],
        lr: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.05,
        heads: Iterable[str] = ("head",),
        threads: int = 1,
    ) -> None:
        named, heads = by_name("Muon", named_parameters), tuple(heads)
        hidden = {n: p for n, p in named.items() if is_hidden(n, p, heads)}
        if not hidden:
            raise ValueError(
                "Muon: there is no matrix between hidden channels among these parameters; use AdamW"
            )
        super().__init__(hidden.items(), lr, weight_decay)
        self.momentum = below_one("Muon", "momentum", momentum)
        self.nesterov = switch("Muon", "nesterov", nesterov)
        self.threads = whole("Muon", "threads", threads)
        others = {n: p for n, p in named.items() if n not in hidden}
        self.rest = AdamW(others.items(), lr, betas, weight_decay=weight_decay) if others else None

    def step(self, lr: float | None = None) -> None:
        """Move every parameter that has a gradient once, with the learning rate of this step."""
        super().step(lr)
        if self.rest is not None:
            self.rest.step(self.lr if lr is None else lr)

    def _move(self, names: list[str], settings: dict[str, Any]) -> None:
        def move(name: str) -> None:
            p, v = self.parameters[name], self.state["momentum"][name]
            muon_step(p.data, p.grad, v, decay=self.decay[name], **settings)

        if self.threads == 1:
            for name in names:
                move(name)
            return
        largest_first = sorted(names, key=lambda name: -self.parameters[name].data.size)
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(move, largest_first))

    def settings(self, lr: float, t: int) -> dict[str, Any]:
        return {"lr": lr, "momentum": self.momentum, "nesterov": self.nesterov}

    def to(self, device: str) -> None:
        """Follow a model that was moved there."""
        super().to(device)
        if self.rest is not None:
            self.rest.to(device)

    def state_dict(self) -> dict[str, Array]:
        """The arrays by name, those of AdamW behind "rest."; no copies."""
        others = {} if self.rest is None else self.rest.state_dict()
        return {**super().state_dict(), **{REST + name: array for name, array in others.items()}}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy a saved state into the arrays of this optimizer."""
        super().load_state_dict(state)
        if self.rest is not None:
            others = {n.removeprefix(REST): a for n, a in state.items() if n.startswith(REST)}
            self.rest.load_state_dict(others)


def is_hidden(name: str, parameter: Any, heads: tuple[str, ...] = ("head",)) -> bool:
    """Whether a parameter is a matrix (hidden, hidden): no head, no table, no convolution."""
    inside = name.split(".")[0] not in heads
    return len(parameter.shape) == 2 and inside and decays(name, parameter)
