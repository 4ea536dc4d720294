"""Put minswin's probes to the adapters of this folder, and write the README beside it.

    python examples/conformance/audit.py

A package that is not installed is said to be missing, and its adapter is not run.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import minswin
from minswin.crosscheck.adapter import load_adapter
from minswin.crosscheck.conform import examine, questions
from minswin.crosscheck.probes import pack
from minswin.crosscheck.report import Verdict, asked, differences, function_table, summary
from minswin.replacing import write_text

HERE = Path(__file__).parent
ADAPTERS = {
    "transformers_swin.py": ("transformers", "torch"),
    "timm_swin.py": ("timm", "torch"),
    "jax_flax.py": ("jax", "flax"),
}

CAUSES = {
    "transformers_swin.py": (
        "Version 2 adds the mask twice. A window that a small image shrinks, and its shift, are "
        "kept for later images. Refused is a map smaller than the window: the bias table has the "
        "size of the configured window, where the original's shrinks."
    ),
    "timm_swin.py": (
        "The map is rolled before it is padded. Window and shift are fitted to each axis by "
        "itself, at construction: an image of another size keeps them. Refused is a map smaller "
        "than the window that is not square: its window, and so the table, has another shape."
    ),
}

TEXT = """\
# Other implementations, under minswin's probes

Written by `python examples/conformance/audit.py`: do not edit. Every probe is a small input that is
aimed at one known mistake; the truth is minswin's definitions in float64, and what is allowed is
what rounding explains. "Differs" means: another function than the original Swin's for this input,
not that somebody is to blame: some of these are choices, and both can be trained. "Refused" means
that it says no to this input (a line of Python that raises), and answers another one rightly. "Not
covered" means that the adapter offers no such function.

| file | what it shows |
|---|---|
| `transformers_swin.py`, `timm_swin.py` | adapters of existing models, with `torch_arrays.py` |
| `jax_flax.py` | an adapter for a port that one writes oneself |
| `swin_block.c` | attention in windows in C: reads the probes' files, writes its answers |

Start your own: `minswin conform --functions` says what a module may define, and
`minswin conform --module mypkg.adapter` puts the probes to it. As tests, one for each probe:
`MINSWIN_ADAPTER=mypkg.adapter pytest --pyargs minswin.crosscheck.conform`, with `--junitxml FILE`
for JUnit XML, and with MINSWIN_ANSWERS=FOLDER in the place of the adapter for files. What a module
lacks is not covered, and never called passed.

Other languages: `minswin conform --write probes` writes each probe's arrays and settings, and
`minswin conform --files answers` judges what was written to `answers/FUNCTION/CASE/NAME.npy` (or
`.f32`, `.f64`: the numbers alone, little-endian, in C order; or a probe's all in an `answers.npz`),
in the shapes of `probes/manifest.json`. A probe without a file is not covered, a file that answers
none is named, and the status is 1 if one differs.

Whole models need no adapter: `minswin.crosscheck.torch.check` for a module of PyTorch, `minswin
compare TRACE model.onnx`, `minswin.crosscheck.saving.save` for trees of JAX and NumPy arrays.
"""


def audit() -> str:
    parts = [TEXT]
    for file, packages in ADAPTERS.items():
        parts.append(f"## `{file}`\n")
        try:
            versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
            adapter = load_adapter(str(HERE / file))
        except (ImportError, importlib.metadata.PackageNotFoundError) as error:
            parts.append(f"Not run: {error}\n".replace(f"{HERE}/", ""))
            continue
        laws = "jax" not in packages  # JAX compiles anew for every shape that a law draws
        verdicts = [examine(adapter, q) for q in (questions() if laws else pack())]
        parts.append(f"{versions}, in {adapter.dtype}: {summary(verdicts)}.\n")
        parts += [CAUSES[file] + "\n"] if file in CAUSES else []
        parts += [*section(verdicts), ""]
    versions = f"numpy {np.__version__}, minswin {minswin.__version__}"
    return "\n".join([*parts, f"Run with {versions}."]) + "\n"


def section(verdicts: Sequence[Verdict]) -> list[str]:
    wrong = differences(verdicts)
    lines = [*wrong, ""] if len(wrong) > 2 else ["Nothing differs.", ""]
    table = function_table(asked(verdicts))
    return [*lines, "<details><summary>By function</summary>", "", *table, "", "</details>"]


if __name__ == "__main__":
    write_text(HERE / "README.md", audit(), who="audit")
    print(HERE / "README.md")
