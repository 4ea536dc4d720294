"""A running mean of the weights, which often classifies better than the last weights themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from minswin import kernels
from minswin.arrays import Array, array_module
from minswin.devices import to_device
from minswin.training.optimizers import by_name


class WeightAverage:
    """Keep an exponential moving average of the parameters.          Polyak & Juditsky 1992; DeiT

        a ← a + (1 − d) (p − a)        d = min(decay, (1 + t) / (10 + t)),  t = 1, 2, …

    The smaller d of the first steps lets the average forget the random weights that it began with.
    """

    def __init__(self, named_parameters: Iterable[tuple[str, Any]], decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"WeightAverage: decay must lie between 0 and 1, got {decay}")
        self.parameters = by_name("WeightAverage", named_parameters)
        self.decay = decay
        self.step = 0
        self.average = {name: p.data.copy() for name, p in self.parameters.items()}

    def update(self) -> None:
        """Move the average towards the parameters; called once after each optimizer step."""
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        pairs = [(self.average[name], p.data) for name, p in self.parameters.items()]
        if kernels.chosen(pairs[0][0]) == "cupy":
            from minswin.kernels.gpu import parameters as together

            if together.takes(*(x for pair in pairs for x in pair)):
                return together.average(pairs, 1 - decay)
        for average, p in pairs:
            average += (1 - decay) * (p - average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside this block the model has the averaged weights; afterwards its previous ones."""
        weights = {name: p.data.copy() for name, p in self.parameters.items()}
        self._write(self.average)
        try:
            yield
        finally:
            self._write(weights)

    def _write(self, values: Mapping[str, Array]) -> None:
        for name, p in self.parameters.items():
            p.data[...] = values[name]

    def to(self, device: str) -> None:
        """Follow a model that was moved there."""
        self.average = {name: to_device(a, device) for name, a in self.average.items()}

    def state_dict(self) -> dict[str, Array]:
        """The averaged weights by name: live, no copies. The count `step` is saved beside them."""
        return dict(self.average)

    def load_state_dict(self, state: Mapping[str, Array], *, step: int) -> None:
        """Copy a saved average into this average."""
        if state.keys() != self.average.keys():
            wrong = sorted(state.keys() ^ self.average.keys())
            raise ValueError(
                f"WeightAverage: the saved average does not fit: {len(wrong)} names are missing or "
                f"unexpected ({', '.join(wrong[:3])}, …); use the model that it was saved from"
            )
        for name, array in self.average.items():
            if not getattr(self.parameters[name], "left_out", False):
                array[...] = array_module(array).asarray(state[name])
        self.step = step
