"""The tool that changes the sources: which changes it makes, and what it reports of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from limits import HANG
from mutate import reporting
from mutate.changes import changes
from mutate.reporting import Result, equivalent, progress, survivors, table
from mutate.tree import TARGETS, Map, targets

ROOT = Path(__file__).parents[1]


def becomes(source: str) -> set[str]:
    """What the lines of the source become, one for each change."""
    return {change.lines(source.encode())[1] for change in changes("a.py", source.encode())}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y = a + b", {"y = a - b"}),
        ("y = a**b", {"y = a*b"}),
        ("y = (a) // (b)", {"y = (a) / (b)"}),
        ("y = a < b", {"y = a <= b", "y = a > b"}),
        ("y = a is  not b", {"y = a is b"}),
        ("y = a and b or c", {"y = a or b or c", "y = a and b and c"}),
        ("y = -a", {"y = (a)"}),
        ("y = not a", {"y = (a)"}),
        ("y = 0", {"y = 1", "y = (-1)"}),
        ("y = 0.5", {"y = 1.0"}),
        ("y = True", {"y = False"}),
        ("y = f(a, b)", {"y = f(b, a)"}),
        ("y = f(a, a, *b)", set()),
        ("y = zip(a, strict=True)", set()),
        ("y = np.maximum(min(a, b), c)", set()),
        ("y = a if b else c", {"y = a if (not (b)) else c"}),
        ("y = x[1:]", {"y = x[2:]", "y = x[0:]"}),
        ("y += a", {"pass", "y -= a"}),
        ("f(a)", {"pass"}),
        ("y = 'é' + a", {"y = 'é' - a"}),
        ("y: Any = a", set()),
        ("'''Text with 1 number.'''", set()),
        ("import a, b", set()),
        ("raise ValueError(1, a + b)", {"pass"}),
        ("y = f'{a + b}'", set()),
    ],
)
def test_the_changes_of_a_line(line: str, expected: set[str]) -> None:
    assert becomes(f"{line}\n") == expected


def test_conditions_loops_defaults_and_returned_values_are_changed() -> None:
    source = "def f(a: int = 2) -> int:\n    if a:\n        return a, b\n"
    assert becomes(source) == {
        "def f(a: int = 3) -> int:",
        "def f(a: int = 1) -> int:",
        "if (not (a)):",
        "return b, a",
    }
    assert "if (not (a)): break" not in becomes("while x:\n    if a:\n        break\n")
    assert {"while (not (x)):", "continue"} <= becomes("while x:\n    if a:\n        break\n")


def test_a_change_has_its_line_its_function_and_the_lines_that_run_it() -> None:
    source = b"class A:\n    def f(self, n=1):\n        return (\n            n + n\n        )\n"
    first, *_, last = changes("a.py", source)
    assert (first.line, first.where, first.runs) == (2, "A.f", (2, 5))  # a default: any line of f
    assert (last.line, last.where, last.runs) == (4, "A.f", (3, 5))
    assert last.apply(source) == source.replace(b"n + n", b"n - n")


def test_every_change_of_the_package_compiles() -> None:
    for file in targets(ROOT)[::20]:
        source = (ROOT / file).read_bytes()
        for change in changes(file, source):
            compile(change.apply(source), file, "exec")
            assert change.apply(source) != source


def test_every_glob_of_targets_matches_a_file() -> None:
    assert [glob for glob in TARGETS if not list(ROOT.glob(glob))] == []
    assert targets(ROOT, ["minswin/ops.py", "./minswin/ops.py"]) == ["minswin/ops.py"]


def test_what_is_listed_as_equivalent_is_still_there_and_has_a_reason() -> None:
    for (file, where, was, after), reason in equivalent().items():
        source = (ROOT / file).read_bytes()
        lines = [(c.where, *c.lines(source)) for c in changes(file, source)]
        assert (where, was, after) in lines, f"{file}: no change of {was!r} into {after!r}"
        assert len(reason) > 10


# ── what is run ──────────────────────────────────────────────────────────────────────────────────


def test_the_cheapest_tests_of_the_line_come_first(tmp_path: Path) -> None:
    record = {
        "tests/test_a.py::x": {"seconds": 2.0, "lines": {"p/a.py": [2, 3]}},
        "tests/test_a.py::y": {"seconds": 1.0, "lines": {"p/a.py": [3], "p/b.py": [1, 2, 3]}},
        "tests/test_a.py::z": {"seconds": 0.1, "lines": {"p/a.py": [9]}},
    }
    other = {"tests/test_b.py::w": {"seconds": 9.0, "lines": {"p/a.py": [9], "p/b.py": [5, 6]}}}
    tests_of = Map(tmp_path, "p", tmp_path / "map")
    (tmp_path / "map/a.json").write_text(json.dumps(record))
    (tmp_path / "map/b.json").write_text(json.dumps(other))
    source = b"A = 1\ndef f(x):\n    return x + 1\n"
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a.py").write_bytes(source)
    constant, *_, inside = changes("p/a.py", source)
    assert [test.name[-1] for test in tests_of.tests_of(inside)] == ["y", "x"]
    assert [test.name[-1] for test in tests_of.tests_of(constant)] == ["z", "y", "x", "w"]
    assert tests_of.own_files["p/a.py"][0] == "tests/test_a.py"


# ── what is printed ──────────────────────────────────────────────────────────────────────────────


def test_the_table_counts_by_file_and_survivors_have_their_lines() -> None:
    line = ("constant", "f", "return 1", "return 2")
    results = [
        Result("a.py", 1, *line, "own", "test"),
        Result("a.py", 1, *line, "survived", ""),
        Result("b.py", 3, *line, "not run", ""),
        Result("b.py", 3, *line, "suite", "test"),
        Result("b.py", 3, *line, "suite", "test"),
        Result("b.py", 3, *line, "equivalent", "a reason"),
    ]
    *_, a, b, whole = table(results)
    assert a == "| a.py | 2 | 1 | 0 | 1 | 0 | 50.0% |"
    assert b == "| b.py | 4 | 0 | 2 | 1 | 1 | 66.7% |"
    assert whole == "| all | 6 | 1 | 2 | 2 | 1 | 60.0% |"
    assert [text.split("\n")[0] for text in survivors(results)] == [
        "a.py:1  f  (constant)",
        "b.py:3  f  (constant; no quick test runs it)",
    ]
    assert "  - return 1\n  + return 2" in next(survivors(results))
    assert progress(results, 9) == "6/9  killed 3 (own tests 1)  survived 2  equivalent 1"


SOURCE = """
def area(width, height):
    if width < 0:
        raise ValueError
    while height is None:
        pass
    return width * height
"""
TESTS = """
import pytest
from toy.area import area

def test_area():
    assert area(3, 5) == 15

def test_a_negative_side():
    with pytest.raises(ValueError):
        area(-1, 2)
"""


def write_toy(root: Path, tests: str) -> None:
    for name, text in (("toy/area.py", SOURCE), ("tests/test_area.py", tests)):
        (root / name).parent.mkdir()
        (root / name).write_text(text)


def mutate_toy(root: Path, jobs: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "mutate", "--count", "99", "--jobs", jobs, "toy/area.py",
         "--work", "0.3",  # of a test that loops for ever; the others take a millisecond
         "--root", str(root), "--package", "toy"],
        env={
            **os.environ, "PYTHONPATH": str(ROOT / "tests"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a toy needs none, and each change loads them
            "PYTEST_PLUGINS": "xdist.plugin" * (jobs != "1"),
        },
        capture_output=True, text=True, timeout=HANG,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_tests_that_die_leave_no_verdict(tmp_path: Path) -> None:
    write_toy(tmp_path, "import os\n\n\ndef test_the_end():\n    os.abort()\n")
    status, out, err = mutate_toy(tmp_path, "1")
    assert status == 1 and "did not run to their end (status -6)" in err and not out


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.long), "2"])
def test_a_planted_survivor_is_reported_and_a_killed_change_is_not(
    tmp_path: Path, jobs: str
) -> None:
    write_toy(tmp_path, TESTS)
    status, out, err = mutate_toy(tmp_path, jobs)
    assert status == 1, err
    assert "+ if width <= 0:" in out and "+ if width < 1:" in out  # no test has a side of 0
    assert "width / height" not in out and "+ pass" not in out and "(not (width < 0))" not in out
    assert (tmp_path / "toy/area.py").read_text() == SOURCE  # the working tree is as it was
    (tmp_path / "tests/test_area.py").write_text(
        TESTS + "\ndef test_a_side_of_zero():\n    assert area(0, 2) == 0\n"
    )
    status, out, _ = mutate_toy(tmp_path, jobs)
    assert "+ if width < 1:" not in out  # survivors are tried again when a test has changed
    lines = (tmp_path / ".mutate/results.jsonl").read_text("utf-8").splitlines()
    results = [json.loads(line) for line in lines]
    assert len(results) < 2 * len(changes("a", SOURCE.encode()))  # and killed ones are not
    assert {r["result"][6] for r in results} <= {"own", "suite", "survived", "not run"}


def test_equivalent_changes_are_read_from_a_list(tmp_path: Path) -> None:
    entry = {"file": "a.py", "where": "f", "was": "x", "becomes": "y", "reason": "both are 1"}
    (tmp_path / "same.json").write_text(json.dumps([entry]))
    assert reporting.equivalent(tmp_path / "same.json") == {("a.py", "f", "x", "y"): "both are 1"}
