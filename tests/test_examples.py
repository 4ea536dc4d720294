"""Every example runs; the Python of the README and of the questions prints what it says."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import warm

from minswin import cli

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
(BUG,) = (path for path in EXAMPLES if path.stem.endswith("find_the_bug"))  # tested by itself
README = (ROOT / "README.md").read_text("utf-8")
QUESTIONS_TEXT = (ROOT / "examples/questions.md").read_text("utf-8")


def python_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


BLOCKS = python_of(README)
START, *QUESTIONS = re.split(r"^### ", QUESTIONS_TEXT, flags=re.MULTILINE)


def run(program: list[str], folder: Path | None = None) -> str:
    """What a program prints; folder: where it works, and leaves its files."""
    done = warm.run(program, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shortened(path: Path) -> str:
    """The program of an example that has no --quick, with few steps, of which nothing is asked."""
    text = path.read_text("utf-8")
    for written, becomes in SHORT[path.stem]:
        assert text.count(written) == 1
        text = text.replace(written, becomes)
    return text


SHORT = {
    "06_train_by_hand": (
        ("STEPS = 400", "STEPS = 8"),
        (
            "split=split)\n",
            "split=split, count=500)\n",
        ),  # of 12,000, which take two seconds to draw
        ("accuracy > 0.85", "accuracy > 0"),
    )
}
RUN = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.long] * (path.stem in SHORT))
    for path in EXAMPLES
    if path != BUG
]


@pytest.mark.parametrize("name", SHORT)
def test_an_example_runs_with_few_steps(name: str) -> None:
    printed = run(["-c", shortened(ROOT / f"examples/{name}.py")])
    assert "step   0   loss 0." in printed and "after 8 steps" in printed


@pytest.mark.parametrize("path", RUN)
def test_an_example_runs_and_prints(path: Path, tmp_path: Path) -> None:
    text = path.read_text("utf-8")
    quick = ["--quick"] if '"--quick"' in text else []
    quick += ["-o", str(tmp_path / "picture.png")] if '"-o"' in text else []
    printed = run([str(path), *quick], tmp_path).strip()
    assert printed
    if "--quick" in quick:  # no finished-looking table of what was not learnt
        assert "Nothing is learnt in so few steps" in printed.splitlines()[-1]
    assert all(picture.stat().st_size > 1000 for picture in tmp_path.rglob("*.png"))
    draws = '"-o"' in text or "canvas.save" in text
    assert bool(list(tmp_path.rglob("*.png"))) == draws


def test_the_examples_are_numbered_without_a_gap() -> None:
    assert [int(path.stem.split("_")[0]) for path in EXAMPLES] == list(range(1, 23))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_how_to_run_it_and_what_to_read_next(path: Path) -> None:
    text = path.read_text("utf-8").split('"""')[1]
    assert f"python examples/{path.name}" in text
    named = re.findall(r"\b(?:minswin|tests)/[\w/]+\.\w+", text.split("Then read:")[1])
    assert named and all((ROOT / name).is_file() for name in named)


def test_the_port_with_a_bug_is_right_once_its_line_is_mended() -> None:
    program = BUG.read_text("utf-8")
    found = run([str(BUG)])
    assert "32×32 images: the port is right" in found  # square images show nothing
    assert "48×32 images: the port is wrong" in found
    assert "[layers.0.blocks.0.attn.map]" in found and "your turn" in found
    diagnosis = found.partition("In short: ")[2]
    assert "this mistake gives exactly their numbers" in diagnosis
    assert "- x = x.reshape(B, H // Mh, W // Mw," in diagnosis
    assert "+ x = x.reshape(B, W // Mw, H // Mh," in diagnosis
    wrong, right = "B, W // M, H // M, M, M, C", "B, H // M, W // M, M, M, C"
    assert program.count(wrong) == 1
    mended = run(["-c", program.replace(wrong, right)])
    assert mended.count("the port is right") == 2 and "your turn" not in mended


# ── the questions ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long  # each answer by itself: below
def test_the_questions_run_as_a_reader_runs_them() -> None:
    assert run(["-m", "doctest", "examples/questions.md"], ROOT) == ""


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda text: text.split(".")[0])
def test_the_lines_of_an_answer_run_by_themselves_after_the_first_lines(question: str) -> None:
    told: list[str] = []
    name = question.splitlines()[0]
    example = doctest.DocTestParser().get_doctest(START + question, {}, name, None, None)
    results = doctest.DocTestRunner().run(example, out=told.append)
    assert results.attempted > 3  # more than the lines with which all begin
    assert not results.failed, "".join(told)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda text: text.split(".")[0])
def test_the_tests_and_files_that_an_answer_names_are_there(question: str) -> None:
    tests = re.findall(r"`(test_\w+\.py)::(\w+)`", question)
    assert tests
    for file, name in tests:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text("utf-8")
    files = re.findall(r"\]\((.*?)\)|`(\d+_\w+\.py)`", question)
    assert all((ROOT / "examples" / (link or example)).is_file() for link, example in files)


def test_there_are_twenty_eight_questions_in_order() -> None:
    assert START.startswith("# Twenty-eight questions\n")
    assert [int(question.split(".")[0]) for question in QUESTIONS] == list(range(1, 29))


# ── the README ───────────────────────────────────────────────────────────────────────────────────


def test_all_python_of_the_readme_is_tested_here() -> None:
    beginnings = "import numpy", "def attention", "from hypothesis"  # the last in test_testing.py
    assert len(BLOCKS) == 3 and all(block.startswith(beginnings) for block in BLOCKS)


def test_the_program_in_the_readme_prints_what_its_comments_promise() -> None:
    (program,) = (block for block in BLOCKS if "create_model" in block)
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


CLUSTER = [*sorted((ROOT / "examples").glob("cluster/*")), ROOT / "examples/many_machines.md"]


@pytest.mark.parametrize("path", CLUSTER, ids=lambda path: path.name)
def test_a_command_for_many_processes_is_one_that_minswin_knows(path: Path) -> None:
    """The words after `minswin` on each line; variables of the shell stand for names."""
    lines = re.findall(r"minswin ((?:train|bench) --[^\n`#]*)", path.read_text("utf-8"))
    assert lines
    for line in lines:
        options = cli._parser().parse_args(shlex.split(re.sub(r"\$\{[^}]*\}", "name", line)))
        assert options.command in ("train", "bench")


def test_the_script_for_slurm_is_bash() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    subprocess.run([bash, "-n", ROOT / "examples/cluster/slurm.sbatch"], check=True)
