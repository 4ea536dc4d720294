"""Print the parity tables: against which implementation and version, and the errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from minswin import kernels


@contextmanager
def skipping(what: object) -> Iterator[None]:
    """Say why something was left out, and go on."""
    try:
        yield
    except pytest.skip.Exception as reason:
        print(f"{what}: skipped, {reason}")


def models() -> bool:
    """The table of whole models; whether all is well."""
    from .cases import CASES, pairs
    from .compare import TOLERANCE, compare, table

    rows = []
    for case, against in pairs(CASES):
        with skipping(f"{case} against {against}"):
            rows.append(compare(case, against))
    backend = kernels.chosen(np.zeros(1))
    print(f"Whole models, float64, random weights, kernels {backend}; tolerance {TOLERANCE:g}\n")
    print(table(rows) + "\n")
    return bool(rows) and all(row.largest < TOLERANCE for row in rows)


def trainings() -> bool:
    """The table of ten training steps."""
    from .peers import PEERS, torch
    from .test_training import TOLERANCE, TRAININGS, train_both

    lines, well = [], True
    for training in TRAININGS:
        with skipping(training.name):
            losses, weights, _ = train_both(training)
            against = PEERS[training.against].version()
            lines.append(f"| {training.name} | {against} | {losses:.1e} | {weights:.1e} |")
            well &= max(losses, weights) < TOLERANCE
    print(
        f"Ten training steps, float64, against torch {torch.__version__}'s optimizers; "
        f"tolerance {TOLERANCE:g}\n\n| optimizer | model of | losses | weights |\n|---|---|---|---|"
    )
    print("\n".join(lines) + "\n")
    return bool(lines) and well


def swin_tiny() -> bool:
    """The error of the float32 logits of Swin-T."""
    from .peers import PEERS
    from .test_published import TOLERANCE, swin_tiny_error

    with skipping("Swin-T"):
        error, against = swin_tiny_error(), PEERS["transformers"].version()
        print(f"Swin-T, float32, logits against {against}: {error:.1e}; tolerance {TOLERANCE:g}")
        return error < TOLERANCE
    return True


def main() -> None:
    sections: tuple[Callable[[], bool], ...] = models, trainings, swin_tiny
    well = False
    with skipping("parity"):  # without torch there is nothing to say
        well = all([section() for section in sections])
    if not well:
        raise SystemExit("parity: a comparison failed, or none was made")


if __name__ == "__main__":
    main()
