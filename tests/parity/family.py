"""The table of the whole family: the largest error of each proof, and against whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from minswin import models

WHAT = ("forward", "gradients", "ten steps", "parameters", "MACs", "weights in", "weights out")
FAMILIES: dict[type, str] = {  # first in the table; others by the names of their classes
    models.SwinTransformer: "Swin",
    models.SwinTransformerV2: "Swin V2",
    models.VisionTransformer: "ViT",
    models.DistilledVisionTransformer: "DeiT",
    models.TNT: "TNT",
    models.ResNet: "ResNet",
    models.Transformer: "Transformer",
}


class Proof(NamedTuple):
    """One comparison with another implementation."""

    family: type
    what: str  # one of WHAT
    against: str
    error: float  # the largest: relative; of losses, parameters and MACs the difference


def proofs_of(rows: Iterable[Any]) -> Iterator[Proof]:
    """The two proofs of each row of the table of configurations."""
    for row in rows:
        yield Proof(row.family, "forward", row.against, row.logits)
        yield Proof(row.family, "gradients", row.against, row.gradient)


def family_table(proofs: list[Proof]) -> str:
    """Markdown: a line for each family, and the largest error against each implementation.

    >>> print(family_table([Proof(models.ResNet, "MACs", "timm 1", 0)]).splitlines()[-1])
    | ResNet | – | – | – | – | 0 | – | – | timm 1 |
    """
    lines = ["| | " + " | ".join(WHAT) + " | against |", "|---" * (len(WHAT) + 2) + "|"]
    for family in dict.fromkeys([*FAMILIES, *(proof.family for proof in proofs)]):
        own = [proof for proof in proofs if proof.family is family]
        if own:
            cells = [_largest([p.error for p in own if p.what == what]) for what in WHAT]
            against = ", ".join(dict.fromkeys(proof.against for proof in own))
            lines.append(
                f"| {FAMILIES.get(family, family.__name__)} | "
                + " | ".join(cells)
                + f" | {against} |"
            )
    return "\n".join(lines)


def _largest(errors: list[float]) -> str:
    if not errors:
        return "–"
    largest = max(abs(error) for error in errors)
    return f"{largest:.1e}" if largest else "0"
