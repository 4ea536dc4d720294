"""Every example runs, and the README's Python runs and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def run(program: list[str]) -> str:
    done = subprocess.run([sys.executable, *program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints(path: Path) -> None:
    assert run([str(path)]).strip()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


def test_the_program_in_the_readme_prints_what_its_comments_promise() -> None:
    (program,) = (block for block in BLOCKS if "import" in block)
    promised = re.findall(r"^print\(.*\)  # (.*)$", program, re.MULTILINE)
    assert len(promised) == 2
    assert run(["-c", program]).splitlines() == promised


def test_the_definition_shown_in_the_readme_is_the_one_that_runs() -> None:
    (shown,) = (block for block in BLOCKS if block.startswith("def attention"))
    source = (ROOT / "minswin/reference/attention.py").read_text("utf-8")
    # The docstring and the types are left out there, and comments are lined up.
    code = [line.split("#")[0].strip() for line in source.split('"""')[-1].splitlines()]
    lines = [line.split("#")[0].strip() for line in shown.splitlines()[1:]]
    typed = [re.sub(r"def vjp\(.*", "def vjp(g):", line) for line in code]
    assert [line for line in lines if line] == [line for line in typed if line]


@pytest.mark.parametrize("heading", ["Run", "Test"])
def test_the_readme_has_one_line_under_its_heading(heading: str) -> None:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert len(block.splitlines()) == 1
