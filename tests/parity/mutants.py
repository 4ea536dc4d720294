"""How many random mutants of timm's and transformers' text does a comparison name?

    pip install --no-deps mutmut==3.8.1 libcst pyyaml
    python -m tests.parity.mutants --seed 1 --count 14 "V1" "V1 of transformers"

Nobody here chose them: mutmut makes all mutants of the functions that a model runs, but for those
of `__init__`. Drawn are such as run, and give other logits than the right model and one another.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import random
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from types import CodeType, FrameType, SimpleNamespace
from typing import Any

import numpy as np

from tests.parity.test_unseen import judged
from tests.parity.wrong_ports import Change, Mistake, seen

TEXTS = re.compile(r"timm\.(models|layers)\.|transformers\.models\.swin")
ANSWERS = ("output", "classifier")


def texts_of(family: str) -> dict[str, str]:
    """The source of every function that runs while a model is built and called, by its place."""
    codes: dict[CodeType, str] = {}

    def see(frame: FrameType, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        code = frame.f_code
        plain = code.co_filename.endswith(".py") and code.co_flags & inspect.CO_NEWLOCALS
        if event == "call" and plain and TEXTS.match(module):
            codes.setdefault(code, module)

    sys.setprofile(see)
    try:
        seen(None, family)
    finally:
        sys.setprofile(None)
    found = {}
    for code, module in codes.items():
        if "<" in code.co_qualname or code.co_name == "__init__":
            continue
        text = textwrap.dedent(inspect.getsource(code))
        found[f"{module}:{code.co_qualname}"] = re.sub(r"^(@.*\n)+", "", text)
    return found


def mutants_of(text: str) -> Iterator[str]:
    import mutmut.configuration
    from mutmut.mutation.file_mutation import create_mutations

    mutmut.configuration._config = SimpleNamespace(do_not_mutate_patterns=[])
    module, mutations, *_ = create_mutations("text.py", text)
    for one in mutations:
        yield module.deep_replace(one.original_node, one.mutated_node).code


def drawn(family: str, count: int, seed: int) -> Iterator[Mistake]:
    """Mutants whose logits are other ones, in random order."""
    every = [(where, text, m) for where, text in texts_of(family).items() for m in mutants_of(text)]
    random.Random(seed).shuffle(every)
    known, left = [_logits(None, family)], count
    for where, text, mutant in every:
        lines = difflib.unified_diff(text.splitlines(), mutant.splitlines(), lineterm="", n=0)
        rows = [f"{row[0]} {row[1:].strip()}" for row in lines if re.match(r"[+-](?![+-])", row)]
        mistake = Mistake(family, " → ".join(rows), where, (Change(where, text, mutant),), "")
        try:
            y = _logits(mistake, family)
        except Exception:  # it cannot run
            continue
        fits = y.shape == known[0].shape and np.isfinite(y).all()
        if fits and not any(
            np.allclose(y, other, rtol=0, atol=1e-4 * abs(other).max()) for other in known
        ):
            known.append(y)
            left -= 1
            yield mistake
        if not left:
            return


def _logits(mistake: Mistake | None, family: str) -> np.ndarray:
    found = seen(mistake, family)
    return next(found[n] for n in ANSWERS if n in found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.parity.mutants", description=__doc__)
    parser.add_argument("family", nargs="+", help="V1, V2, ViT, TNT, 'V1 of transformers', …")
    parser.add_argument("--count", type=int, default=10, help="mutants of each; default: 10")
    parser.add_argument("--seed", type=int, default=0, help="which; default: 0")
    options = parser.parse_args()
    for family in options.family:
        named, tried = 0, 0
        for mistake in drawn(family, options.count, options.seed):
            start = time.process_time()
            comparison, diagnosis = judged(mistake)
            first = comparison.first.name if comparison.first else "none"
            sure = diagnosis is not None and diagnosis.named
            told = diagnosis.causes[0].edit.diff if diagnosis and diagnosis.causes else ""
            named, tried = named + sure, tried + 1
            print(f"{family} | {mistake.met} | {mistake.name} | {first} | "
                  f"{'named' if sure else 'not sure' if told else 'not named'}: "
                  f"{told.replace(chr(10), ' → ')} | {time.process_time() - start:.1f} s",
                  flush=True)  # fmt: skip
        print(f"{family}: {named} of {tried} named", flush=True)


if __name__ == "__main__":
    main()
