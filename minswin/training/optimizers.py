"""SGD and AdamW, in place on the parameters, and how their learning rate changes with the step.

The formulas of the updates stand in reference/updates.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from minswin import kernels
from minswin.arguments import at_least_zero, below_one, positive, switch
from minswin.arrays import Array, array_module, to_numpy
from minswin.autograd import Tensor
from minswin.devices import to_device
from minswin.layers.base import once
from minswin.reference import updates


def decays(name: str, parameter: Any) -> bool:
    """Whether weight decay pulls this parameter to zero.       Swin's rule, Liu et al. 2021, code

    Not: what has one axis (gains and biases), and what is marked so, as tables of positions are.
    """
    if len(parameter.shape) <= 1 or name.endswith(".bias"):
        return False
    return bool(getattr(parameter, "decays", True))


def clip_gradients(parameters: Iterable[Any], max_norm: float | None) -> float | Array:
    """Scale all gradients so that their joint length is at most `max_norm`; give the length before.

    The factor is max_norm / (length + 1e-6), as in torch.nn.utils.clip_grad_norm_. With None, or
    where the length is not finite, it is only measured. Squares are added up in float64. On a GPU
    the length stays there, a 0-d array, and nothing waits for it; the arrays are scaled in place.
    """
    number = hasattr(max_norm, "__float__") and not isinstance(max_norm, bool)
    if max_norm is not None and not (number and max_norm > 0):
        raise ValueError(
            f"clip_gradients: max_norm must be a positive number, got {max_norm!r}; use None to "
            "measure without clipping"
        )
    distinct = {id(p): p for p in _as_list(parameters)}.values()
    with_gradient = [p for p in distinct if p.grad is not None]
    if with_gradient and array_module(with_gradient[0].grad) is not np:
        return _clip_there(with_gradient, math.inf if max_norm is None else max_norm)
    squares = 0.0
    for p in with_gradient:  # not sum(), which adds floats otherwise from Python 3.12 on
        squares += float(_square(p.grad))
    norm = math.sqrt(squares)
    if max_norm is not None and max_norm < norm < math.inf:
        factor = max_norm / (norm + 1e-6)
        for p in with_gradient:
            p.grad = p.grad * factor  # a new array: two parameters may share one gradient
    return norm


def _as_list(parameters: Any) -> list[Any]:
    """What clip_gradients gets, as a list; a Tensor is one: its rows would have no gradients."""
    if isinstance(parameters, Tensor):
        return [parameters]
    listed = list(parameters) if isinstance(parameters, Iterable) else [parameters]
    for p in listed:
        if not hasattr(p, "grad"):
            raise TypeError(
                f"clip_gradients: parameters must hold Parameters, got a {type(p).__name__}; pass "
                "model.parameters()"
            )
    return listed


def _clip_there(parameters: list[Any], max_norm: float) -> Array:
    """clip_gradients without a question to the CPU: where nothing is cut off, the factor is 1."""
    gradients = [p.grad for p in parameters]
    if kernels.chosen(gradients[0]) == "cupy":
        from minswin.kernels.gpu import parameters as together

        if together.takes(*gradients):
            return together.clip(gradients, max_norm)
    xp = array_module(parameters[0].grad)
    norm = xp.sqrt(sum(_square(p.grad) for p in parameters))  # 0-d
    cut = (norm > max_norm) & xp.isfinite(norm)
    factor = xp.where(cut, max_norm / (norm + 1e-6), 1.0)
    for p in parameters:
        p.grad = p.grad * factor.astype(p.grad.dtype)
    return norm


def _square(x: Array) -> Array:
    """The sum of all squares; float32 would turn those of 1e20 into infinity, of 1e-30 into 0."""
    x = x.astype(np.float64, copy=False).ravel()
    return array_module(x).vdot(x, x)


def by_name(who: str, named_parameters: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The parameters by their names; one that has several names is there once, under the first."""
    pairs = list(named_parameters)
    if any(not isinstance(pair, tuple) or len(pair) != 2 for pair in pairs):
        raise TypeError(
            f"{who}: named_parameters must be pairs of a name and a parameter, got "
            f"{type(pairs[0]).__name__}; pass model.named_parameters()"
        )
    if not pairs:
        raise ValueError(f"{who}: named_parameters is empty; pass model.named_parameters()")
    parameters: dict[str, Any] = {}
    for name, p in once(pairs):
        if name in parameters:
            raise ValueError(
                f"{who}: two parameters have the name {name!r}; give the names of each model a "
                "different prefix"
            )
        parameters[name] = p
    return parameters


class Steps(Protocol):
    """What a loop of training asks of an optimizer."""

    def step(self, lr: float) -> None: ...


class Optimizer:
    """What SGD and AdamW share: the named parameters, their decay, the state as named arrays.

    A parameter without a gradient is left alone, and its count of steps with it, as in PyTorch.
    """

    slots: tuple[str, ...] = ()  # the arrays kept for each parameter
    update: str = ""  # the name of its kernel

    def __init__(
        self, named_parameters: Iterable[tuple[str, Any]], lr: float, weight_decay: float
    ) -> None:
        who = type(self).__name__
        self.parameters = by_name(who, named_parameters)
        self.lr = at_least_zero(who, "lr", lr)
        weight_decay = at_least_zero(who, "weight_decay", weight_decay)
        self.decay = {n: weight_decay if decays(n, p) else 0.0 for n, p in self.parameters.items()}
        self.steps = dict.fromkeys(self.parameters, 0)
        self.state = {
            slot: {n: array_module(p.data).zeros_like(p.data) for n, p in self.parameters.items()}
            for slot in self.slots
        }

    def step(self, lr: float | None = None) -> None:
        """Move every parameter that has a gradient once, with the learning rate of this step."""
        who = type(self).__name__  # `lr` becomes a Python float: NumPy's would widen float32
        lr = at_least_zero(who, "lr", self.lr if lr is None else lr)
        at: dict[int, list[str]] = {}  # names by count of steps, nearly always all under one
        for name, p in self.parameters.items():
            if p.grad is not None:
                self.steps[name] += 1
                at.setdefault(self.steps[name], []).append(name)
        for t, names in at.items():
            self._move(names, self.settings(lr, t))

    def _move(self, names: list[str], settings: dict[str, Any]) -> None:
        """One launch for all parameters where the kernel can do that, else one after the other."""
        rows = []
        for name in names:
            p = self.parameters[name]
            rows.append((p.data, p.grad, *(self.state[slot][name] for slot in self.slots)))
        decays = [self.decay[name] for name in names]
        update = kernels.fast(self.update, rows[0][0]) or getattr(updates, self.update)
        together = getattr(update, "together", None)
        if together is not None:
            together(rows, decays=decays, **settings)
            return
        for row, decay in zip(rows, decays, strict=True):
            update(*row, decay=decay, **settings)

    def settings(self, lr: float, t: int) -> dict[str, Any]:
        """The arguments of the update besides the arrays, at step t."""
        raise NotImplementedError

    def to(self, device: str) -> None:
        """Follow a model that was moved there."""
        for arrays in self.state.values():
            arrays.update({name: to_device(array, device) for name, array in arrays.items()})

    def state_dict(self) -> dict[str, Array]:
        """The arrays by name, as "momentum.head.weight", and "steps" (parameters,); no copies."""
        arrays = {f"{s}.{n}": a for s, by_name in self.state.items() for n, a in by_name.items()}
        return {**arrays, "steps": np.array(list(self.steps.values()), dtype=np.int64)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy a saved state into the arrays of this optimizer."""
        current = self.state_dict()
        wrong = sorted(current.keys() ^ state.keys())
        wrong += [n for n in current.keys() & state.keys() if current[n].shape != state[n].shape]
        if wrong:
            raise ValueError(
                f"{type(self).__name__}: the saved state does not fit these parameters: "
                f"{len(wrong)} entries are missing, unexpected or misshapen "
                f"({', '.join(wrong[:3])}, …); use the optimizer and model that it was saved from"
            )
        for slot in self.slots:
            for name, array in self.state[slot].items():
                array[...] = array_module(array).asarray(state[f"{slot}.{name}"])
        self.steps = dict(zip(self.steps, map(int, to_numpy(state["steps"])), strict=True))


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as reference.updates.sgd_step defines it."""

    slots = ("momentum",)
    update = "sgd_step"

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Any]],
        lr: float,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(named_parameters, lr, weight_decay)
        self.momentum = below_one("SGD", "momentum", momentum)
        self.nesterov = switch("SGD", "nesterov", nesterov)

    def settings(self, lr: float, t: int) -> dict[str, Any]:
        return {"lr": lr, "momentum": self.momentum, "nesterov": self.nesterov}


class AdamW(Optimizer):
    """Adam with decoupled weight decay, as reference.updates.adamw_step defines it."""

    slots = ("mean", "square")
    update = "adamw_step"

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(named_parameters, lr, weight_decay)
        beta1, beta2 = betas
        self.betas = below_one("AdamW", "beta1", beta1), below_one("AdamW", "beta2", beta2)
        self.eps = positive("AdamW", "eps", eps)

    def settings(self, lr: float, t: int) -> dict[str, Any]:
        return {"lr": lr, "beta1": self.betas[0], "beta2": self.betas[1], "eps": self.eps, "t": t}


# ── learning rates: functions of the step alone, so that a resumed run continues ─────────────────


def warmup_cosine(
    step: int, *, steps: int, warmup: int, base: float, start: float, final: float
) -> float:
    """Rise in a straight line, then fall along half a cosine.     Loshchilov & Hutter 2017, eq. (5)

        t < w   start + (base − start) t/w
        t ≥ w   c base + (1 − c) final,  c = (1 + cos π (t−w)/(T−w)) / 2      t = step, w = warmup

    Steps count from 0, so the first update uses `start`, update w uses `base` exactly, and `final`
    is reached at step T = steps, one after the last update. The cosine spans the T − w steps after
    the warm-up: there is no jump at w.
    """
    if not 0 <= warmup <= steps or steps < 1:
        raise ValueError(
            f"warmup_cosine: expected 0 <= warmup <= steps and steps >= 1, "
            f"got warmup={warmup} and steps={steps}"
        )
    for name, rate in (("base", base), ("start", start), ("final", final)):
        at_least_zero("warmup_cosine", name, rate)
    if not step >= 0:
        raise ValueError(f"warmup_cosine: step counts from 0, got {step}")
    if step < warmup:
        return start + (base - start) * step / warmup
    if step >= steps:
        return final
    c = (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2  # from 1 to 0
    return c * base + (1 - c) * final


def noam(step: int, *, channels: int, warmup: int = 4000, factor: float = 1.0) -> float:
    """Rise in a straight line, then fall with 1/√t.                 Vaswani et al. 2017, eq. (3)

        factor · C^−½ · min(t^−½, t · w^−1.5)        t = step + 1, C = channels, w = warmup

    Steps count from 0, the t of the paper from 1. The largest value, at t = w, is
    factor / √(C w): 0.0007 for the paper's C = 512 and w = 4000.
    """
    if not (warmup >= 1 and channels >= 1):
        raise ValueError(
            f"noam: warmup and channels must be 1 or more, got warmup={warmup} and "
            f"channels={channels}"
        )
    positive("noam", "factor", factor)
    if not step >= 0:
        raise ValueError(f"noam: step counts from 0, got {step}")
    t = step + 1
    return factor * channels**-0.5 * min(t**-0.5, t * warmup**-1.5)
