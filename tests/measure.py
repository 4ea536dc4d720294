"""The numbers of examples/numbers.md that an hour suffices for, printed as one table of Markdown.

    python -m tests.measure                     # all of them, one after the other
    python -m tests.measure derivatives run     # only these

Run it in a clone, with nothing else on the machine. What takes longer (CIFAR-10 on two cores, the
damaged files) keeps its date in numbers.md.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from minswin.bench.machine import machine, machine_line

ROOT = Path(__file__).parents[1]


class Measure(NamedTuple):
    """A number: its name, the command as a reader types it, what of its output is the number."""

    name: str
    claim: str
    command: str
    pattern: str
    minutes: float  # about, on two free cores


MEASURES = (
    Measure("derivatives", "derivatives against finite differences",
            "python -m minswin.check", r"\d+ operations, all below \S+", 0.5),
    Measure("masks", "shifted windows against attention in each region",
            "pytest tests/test_mask.py", r"\d+ (?:passed|failed).*", 0.5),
    Measure("kernels", "kernels against definitions",
            "pytest tests/test_kernels.py tests/test_kernel_table.py",
            r"\d+ (?:passed|failed).*", 3),
    Measure("resumed", "killed and resumed runs",
            "pytest tests/test_resume.py", r"\d+ (?:passed|failed).*", 2),
    Measure("faults", "planted faults that turn tests red",
            "pytest tests/test_planted_faults.py", r"\d+ (?:passed|failed).*", 2),
    Measure("parity", "models against other implementations",
            "pytest -m parity tests/parity", r"\d+ (?:passed|failed).*", 4),
    Measure("quick", "the quick tests",
            'python -m pytest -m "not slow"', r"\d+ (?:passed|failed).*", 5),
    Measure("run", "the first run", "minswin train", r"test accuracy .*", 2),
    Measure("writing", "strings reversed and numbers added",
            "python examples/11_reverse_and_add.py", r"without a mistake: .*", 2),
    Measure("segmentation", "segmentation",
            "python examples/13_segment.py --minutes 5", r"mean IoU .*", 6),
    Measure("detection", "detection",
            "python examples/14_detect.py --minutes 10", r"AP50 .*", 11),
    Measure("beside", "Swin, ViT and TNT side by side",
            "python examples/18_features_side_by_side.py", r"(?:Swin|ViT|TNT) .*", 2),
    Measure("pictures", "one's own pictures",
            "python examples/19_your_own_pictures.py", r"begun with .*", 2),
    Measure("race", "a training step beside PyTorch's",
            "minswin bench cifar", r".*×.*", 6),
)  # fmt: skip


def words_of(command: str) -> list[str]:
    """What is run for a command that a reader types: with this very Python."""
    first, *rest = shlex.split(command)
    module = {"python": [], "minswin": ["-m", "minswin"], "pytest": ["-m", "pytest"]}[first]
    return [sys.executable, *module, *rest]


def taken(measure: Measure, folder: Path) -> str:
    """A row of the table; where the command fails, its status and last line stand there."""
    began = time.perf_counter()
    words = [
        str(ROOT / word) if word.startswith("examples/") else word
        for word in words_of(measure.command)
    ]
    place = ROOT if "pytest" in measure.command else folder  # programs leave their files there
    done = subprocess.run(words, capture_output=True, text=True, cwd=place)
    numbers = re.findall(f"^.*?({measure.pattern})", done.stdout, re.MULTILINE)
    printed = "<br>".join(" ".join(number.split()).strip("= ") for number in numbers)
    if done.returncode or not numbers:
        lines = (done.stderr or done.stdout).splitlines() or ["it printed nothing"]
        printed = f"failed with status {done.returncode}: {printed or lines[-1].strip()}"
    seconds = time.perf_counter() - began
    return f"| {measure.claim} | `{measure.command}` | {printed} | {seconds:.0f} s |"


def table(measures: Iterable[Measure]) -> Iterable[str]:
    """The lines, each as soon as it is known."""
    yield f"Taken on {datetime.now(timezone.utc):%Y-%m-%d}: {machine_line(machine())}.\n"
    yield "| what | command | printed | time |\n|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for measure in measures:
            yield taken(measure, Path(folder))


def main() -> None:
    names = [measure.name for measure in MEASURES]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    wanted = parser.parse_args().names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"unknown {unknown[0]!r}; choose from {', '.join(names)}")
    for line in table(m for m in MEASURES if not wanted or m.name in wanted):
        print(line, flush=True)


if __name__ == "__main__":
    main()
