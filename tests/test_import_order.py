"""Whatever module of minswin is imported first, it imports what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_imports import ALLOWED, PACKAGE

IMPORT_EACH = """
import functools, gc, importlib.machinery, sys, types
gc.disable()  # hundreds of imports leave much behind, and are over soon
Loader = importlib.machinery.SourceFileLoader
Loader.get_code = functools.cache(Loader.get_code)  # each file is read once, and run each time

def forget():
    for name in [n for n in sys.modules if n == "minswin" or n.startswith("minswin.")]:
        del sys.modules[name]

names, home = sys.argv[3:], sys.argv[2]
for name in names:
    forget()
    if sys.argv[1] == "empty":
        sys.modules["minswin"] = package = types.ModuleType("minswin")
        package.__path__ = [home]
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
"""


def modules_below(room_of_init: bool) -> list[str]:
    """The modules of the package that may (or may not) import from minswin/__init__.py."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        above = "__init__" in ALLOWED[parts[0]] or parts[0] in ABOVE_INIT
        if above == room_of_init and parts[-1] != "__main__" and parts != ("__init__",):
            names.append(".".join(("minswin", *(p for p in parts if p != "__init__"))))
    return names


ABOVE_INIT = {"explain", "cli"}  # they import rooms that import minswin/__init__.py


@pytest.mark.slow
@pytest.mark.parametrize("init", ["empty", "own"])
@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 3))])
def test_any_module_may_be_imported_first(part: int, init: str) -> None:
    """In an empty minswin, where its own __init__ cannot have imported what is needed."""
    names = modules_below(room_of_init=init == "own")[part::4]
    assert len(names) > 5
    program = [sys.executable, "-c", IMPORT_EACH, init, str(PACKAGE), *names]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_a_module_that_needs_another_one_first_is_found() -> None:
    names = ["minswin.arrays", "minswin.nothing"]
    program = [sys.executable, "-c", IMPORT_EACH, "empty", str(PACKAGE), *names]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert (
        done.stdout == "minswin.nothing: ModuleNotFoundError: No module named 'minswin.nothing'\n"
    )
