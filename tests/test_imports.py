"""Imports go one way, and importing minswin loads NumPy and nothing heavier."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minswin

PACKAGE = Path(minswin.__file__).parent

# Each room may import from the rooms in its set, and from itself. kernels/cpu enters its functions
# in the table, so kernels is one room.
ALLOWED = {
    "arrays": set(),
    "replacing": set(),
    "version": set(),
    "operators": set(),
    "autograd": {"arrays", "operators"},
    "reference": {"arrays"},
    "devices": {"arrays"},
    "check": {"arrays", "reference"},
    "kernels": {"arrays", "autograd", "reference"},
    "lifting": {"arrays", "autograd", "devices", "reference", "kernels"},
    "ops": {"arrays", "autograd", "devices", "reference", "kernels", "lifting"},
    "around": {"arrays", "autograd"},
    "watch": {"arrays", "autograd", "around"},
}
ALLOWED["distributed"] = {"arrays", "nccl"}  # which it imports where a GPU is named
ALLOWED["nccl"] = {"arrays", "devices", "distributed"}
ALLOWED["buckets"] = {"arrays", "distributed"}
ALLOWED["parallel"] = {*ALLOWED["ops"], "around", "distributed", "buckets"}
ALLOWED["composites"] = {*ALLOWED["ops"], "ops"}
ALLOWED["layers"] = {*ALLOWED["composites"], "composites", "around", "watch"}
ALLOWED["models"] = {*ALLOWED["layers"], "layers"}
ALLOWED["weights"] = {*ALLOWED["models"], "models", "replacing"}
ALLOWED["data"] = {"replacing"}
ALLOWED["testing"] = {*ALLOWED["models"], "check", "composites"}
ALLOWED["look"] = {*ALLOWED["models"], "models", "data", "replacing"}
ALLOWED["training"] = {
    *ALLOWED["weights"],
    "weights",
    "data",
    "look",
    "parallel",
    "buckets",
    "distributed",
    "version",
}
ALLOWED["dense"] = {*ALLOWED["training"], "training"}
ALLOWED["waiting"] = set()
ALLOWED["crosscheck"] = {*ALLOWED["training"], "training", "waiting"}
ALLOWED["bench"] = {*ALLOWED["training"], "training", "__init__"}
ALLOWED["explain"] = {*ALLOWED["bench"], "bench"}
ALLOWED["cli"] = {*ALLOWED["bench"], "bench", "explain", "check", "crosscheck", "waiting"}
ALLOWED["__main__"] = {"cli"}
# It names all rooms to type checkers, and imports few; see HEAVY.
ALLOWED["__init__"] = {*ALLOWED["cli"], "dense", "testing", "version", "watch"}

for _rooms in ALLOWED.values():  # every room may use these, which import none
    _rooms.update(("arguments", "bar", "compiling", "lazy", "opening"))
ALLOWED.update({room: set() for room in ("arguments", "bar", "compiling", "lazy", "opening")})


def imported_rooms(source: str) -> Iterator[str]:
    """The rooms of minswin that a file imports from, wherever in the file the import stands.

    What only a type checker imports is left out.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "(relative import)"
        elif isinstance(node, ast.ImportFrom) and node.module == "minswin":
            names = (alias.name for alias in node.names)
            yield from (n if n in ALLOWED else "__init__" for n in names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minswin."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "minswin":
                    yield parts[1] if len(parts) > 1 else "__init__"


def upward_imports(room: str, source: str) -> list[str]:
    return sorted({used for used in imported_rooms(source) if used not in {room, *ALLOWED[room]}})


def test_no_file_imports_from_a_room_above_it() -> None:
    seen = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        seen.add(room)
        assert not upward_imports(room, path.read_text("utf-8")), path
    assert seen == set(ALLOWED)


def test_a_planted_upward_import_is_found() -> None:
    assert upward_imports("reference", "from minswin.autograd import Tensor") == ["autograd"]
    assert upward_imports("autograd", "from minswin import ops") == ["ops"]
    assert upward_imports("layers", "def f():\n    import minswin.models.swin") == ["models"]
    assert upward_imports("ops", "from . import layers") == ["(relative import)"]
    assert upward_imports("data", "import minswin") == ["__init__"]
    assert upward_imports("ops", "from minswin.kernels import select\nimport numpy") == []


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


HEAVY = ("numba", "cupy", "mpi4py", "torch", "scipy", "matplotlib", "PIL", "safetensors")
WHICH = f"print(*(name for name in {HEAVY} if name in sys.modules))"


LAZY = ("weights", "data", "training", "dense", "look", "bench", "crosscheck", "explain", "check")


def test_importing_minswin_loads_numpy_and_nothing_heavier() -> None:
    build = "minswin.create_model('swin_shapes')"
    assert run(f"import sys, minswin; {build}; {WHICH}") == ""


def test_the_search_for_heavy_modules_finds_one() -> None:
    found = run(f"import sys, minswin, numba; {WHICH}").split()
    assert found[0] == "numba"  # which brings SciPy where that is installed


def test_importing_minswin_loads_no_room_that_is_only_named() -> None:
    loaded = f"print(*(name for name in {LAZY} if f'minswin.{{name}}' in sys.modules))"
    assert run(f"import sys, minswin; {loaded}") == ""


def test_every_room_is_there_once_minswin_is_imported() -> None:
    """Also the modules in packages, before anybody has imported them; and `dir` lists them."""
    program = """
import pkgutil, minswin
for found in pkgutil.iter_modules(minswin.__path__):
    if found.name == "__main__":
        continue
    assert found.name in dir(minswin), found.name
    room = getattr(minswin, found.name)
    assert room.__name__ == f"minswin.{found.name}", room
    if found.ispkg and found.name not in ("kernels", "cli", "weights"):
        for inner in pkgutil.iter_modules(room.__path__):
            assert inner.name in dir(room) and hasattr(room, inner.name), inner.name
print(minswin.weights.load.__name__, minswin.look.windows.__name__)
"""
    assert run(program) == "load minswin.look.windows"


@pytest.mark.parametrize("room", ["minswin", "minswin.look", "minswin.data"])
def test_a_name_that_is_not_there_is_an_attribute_error_that_knows_it(room: str) -> None:
    with pytest.raises(
        AttributeError, match=f"module '{room}' has no attribute 'weigths'"
    ) as caught:
        importlib.import_module(room).weigths  # noqa: B018
    assert caught.value.name == "weigths"


def test_type_checkers_are_told_of_every_room() -> None:
    """What __init__ imports under TYPE_CHECKING, with what it imports itself, is all there is."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    named = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "minswin"
        for alias in node.names
    }
    there = {found.name for found in pkgutil.iter_modules(minswin.__path__)}
    assert there - named == {"__main__", "cli"} and named <= there
