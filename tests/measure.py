"""The numbers of examples/numbers.md that an hour suffices for: measured, and the document printed.

    python -m tests.measure                     # all of them; prints the document with the new rows
    python -m tests.measure derivatives run     # only these; the other rows stay, with their dates
    python -m tests.measure --write             # and writes the document
    python -m tests.measure --smallest          # does every command still run? prints only a table

Run it in a clone, with nothing else on the machine where times are measured. What takes longer
(CIFAR-10 on two cores, the damaged files) has its command and date beside it in the document.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from minswin.bench.machine import machine
from minswin.replacing import write_text

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "examples" / "numbers.md"
HEAD = "| what | command | printed | date, CPU |\n|---|---|---|---|\n"
PASSED = r"\d+ (?:passed|failed)[^=]*?(?= in )"  # what pytest says of its tests, without the time


class Measure(NamedTuple):
    """A number: its name, the command as a reader types it, what of its output is the number."""

    name: str
    claim: str
    command: str
    pattern: str
    minutes: float  # about, on two free cores
    smallest: str = ""  # the command that only shows that it runs; "": there is no smaller one
    times: bool = False  # whether seconds are a part of the number; others are left out


MEASURES = (
    Measure("derivatives", "derivatives against finite differences",
            "python -m minswin.check", r"\d+ operations, the largest error [\d.e-]+", 0.5),
    Measure("masks", "shifted windows against attention in each region",
            "python -m pytest tests/test_mask.py", PASSED, 0.5),
    Measure("kernels", "kernels against definitions",
            "python -m pytest tests/test_kernels.py tests/test_kernel_table.py", PASSED, 3,
            "python -m pytest tests/test_kernel_table.py"),
    Measure("resumed", "killed and resumed runs",
            "python -m pytest tests/test_resume.py", PASSED, 2),
    Measure("faults", "planted faults that turn tests red",
            "python -m pytest tests/test_planted_faults.py", PASSED, 2),
    Measure("parity", "models against other implementations",
            "python -m pytest -m parity tests/parity --ignore=tests/parity/test_unseen.py",
            PASSED, 6,
            "python -m pytest -m parity tests/parity/test_conform.py"),
    Measure("quick", "the quick tests",
            'python -m pytest -m "not slow"', r"\d+ (?:passed|failed).*", 5,
            'python -m pytest -m "not slow" tests/test_measure.py', times=True),
    Measure("run", "the first run", "minswin train", r"test accuracy .*", 2,
            "minswin train --epochs 1", times=True),
    Measure("writing", "strings reversed and numbers added",
            "python examples/11_reverse_and_add.py", r"without a mistake: .*", 2,
            "python examples/11_reverse_and_add.py --quick"),
    Measure("segmentation", "segmentation",
            "python examples/13_segment.py --steps 2000", r"mean IoU .*", 5,
            "python examples/13_segment.py --quick"),
    Measure("detection", "detection",
            "python examples/14_detect.py --steps 1151", r"AP50 .*", 10,
            "python examples/14_detect.py --quick"),
    Measure("beside", "Swin, ViT and TNT side by side",
            "python examples/18_features_side_by_side.py", r"(?:Swin|ViT|TNT) .*%", 2,
            "python examples/18_features_side_by_side.py --quick"),
    Measure("pictures", "one's own pictures",
            "python examples/19_your_own_pictures.py", r"begun with .*", 2,
            "python examples/19_your_own_pictures.py --quick"),
    Measure("race", "a training step beside PyTorch's",
            "minswin bench cifar --race", r"against the best peer .*", 6,
            "minswin bench cifar --race --rounds 1", times=True),
)  # fmt: skip


def words_of(command: str) -> list[str]:
    """What is run for a command that a reader types: with this very Python."""
    first, *rest = shlex.split(command)
    module = {"python": [], "minswin": ["-m", "minswin"]}[first]
    return [sys.executable, *module, *rest]


def taken(measure: Measure, folder: Path, *, smallest: bool = False) -> str:
    """A row of the table; where the command fails, its status and last line stand there."""
    command = (measure.smallest if smallest else "") or measure.command
    words = [
        str(ROOT / word) if word.startswith("examples/") else word for word in words_of(command)
    ]
    place = ROOT if "pytest" in command else folder  # programs leave their files there
    done = subprocess.run(words, capture_output=True, text=True, cwd=place)
    numbers = re.findall(f"^.*?({measure.pattern})", done.stdout, re.MULTILINE)
    if not measure.times:
        numbers = [re.sub(r" \d+ s\b", "", number) for number in numbers]
    printed = "<br>".join(" ".join(number.split()).strip("= ") for number in numbers)
    if done.returncode or not numbers:
        lines = (done.stderr or done.stdout).splitlines() or ["it printed nothing"]
        printed = f"failed with status {done.returncode}: {printed or lines[-1].strip()}"
    return f"| {measure.claim} | `{command}` | {printed} | {where_and_when()} |"


def where_and_when() -> str:
    found = machine()
    date = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    return f"{date}, {found['processor']}, {found['cores_usable']} cores"


# ── the document ─────────────────────────────────────────────────────────────────────────────────


def rows(document: str) -> dict[str, str]:
    """The rows of the table in the document, by what they are about."""
    table = document.partition(HEAD)[2].partition("\n\n")[0]
    return {row.split("|")[1].strip(): row for row in table.splitlines()}


def with_rows(document: str, new: dict[str, str]) -> str:
    """The document with these rows in place of those of the same names, in the order of MEASURES.

    A number that nobody took yet has a row that says so.
    """
    before, head, rest = document.partition(HEAD)
    if not head:
        raise ValueError(f"measure: the document has no table that begins with\n{HEAD}")
    known = {**rows(document), **new}
    table = [
        known.get(m.claim, f"| {m.claim} | `{m.command}` | not taken yet | |") for m in MEASURES
    ]
    return before + head + "\n".join(table) + "\n\n" + rest.partition("\n\n")[2].lstrip("\n")


def main() -> None:
    names = [measure.name for measure in MEASURES]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--smallest", action="store_true", help="only see that all commands run")
    parser.add_argument("--write", action="store_true", help="write the document too")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"unknown {unknown[0]!r}; choose from {', '.join(names)}")
    if options.smallest and options.write:
        parser.error("--smallest measures nothing that is worth to be written")
    new = {}
    with tempfile.TemporaryDirectory() as folder:
        for measure in MEASURES:
            if not options.names or measure.name in options.names:
                row = taken(measure, Path(folder), smallest=options.smallest)
                print(row, file=sys.stderr, flush=True)
                new[measure.claim] = row
    failed = [row for row in new.values() if "| failed with status" in row]
    document = with_rows(DOCUMENT.read_text("utf-8"), new)
    print("\n".join(new.values()) if options.smallest else document)
    if failed:
        sys.exit(f"measure: {len(failed)} of {len(new)} commands failed; nothing was written")
    if options.write:
        write_text(DOCUMENT, document, who="measure")


if __name__ == "__main__":
    main()
