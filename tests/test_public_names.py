"""What is public: CONTRIBUTING says what a version promises of the names that __all__ lists."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import minswin

# Rooms that hold the commands and what only our own code uses.
INTERNAL_ROOMS = {
    *(
        "__main__",
        "arguments",
        "bar",
        "bench",
        "buckets",
        "cli",
        "compiling",
        "lazy",
        "lifting",
        "nccl",
        "opening",
        "operators",
        "replacing",
        "waiting",
    ),
    "version",
}
# Packages of which the modules are public one by one.
OPEN_ROOMS = {"crosscheck", "look", "reference"}
# Functions and classes of public modules that other rooms of ours use, and that nobody is promised.
INTERNAL_NAMES = {
    "arrays": {"as_array"},
    "around": {"Around", "goes_alone", "surrounded_by", "surroundings"},
    "autograd": {"Node", "record", "run", "wrap_vjp"},
    "check": {"main"},
    "crosscheck.conform": {
        "conform_files",
        "judge",
        "pytest_generate_tests",
        "run_conform",
        "test_conforms",
    },
    "crosscheck.folder": {
        "arrays_of",
        "builder",
        "header_of",
        "load_array",
        "read_npy",
        "require_free",
        "write_arrays",
    },
    "crosscheck.recipe": {"weights_of"},
    "crosscheck.trace": {"loss", "record_pass"},
    "devices": {"constant", "cupy", "gpu", "gpu_number", "like", "working_on"},
    "distributed": {"MPIGroup", "launched", "load_mpi"},
    "look.canvas": {"clear", "lines", "stretch"},
    "parallel": {"Part", "cores_of_a_rank"},
    "reference.elementwise": {"unbroadcast"},
    "reference.linear": {"swap"},
    "reference.maps": {"bilinear"},
    "reference.normalize": {"batch_moments", "follow_moments"},
    "reference.reduce": {"axis_of"},
    "watch": {"Place", "paths_of", "text_of"},
}


def public_modules() -> list[str]:
    rooms = [m.name for m in pkgutil.iter_modules(minswin.__path__)]
    rooms = [room for room in rooms if room not in INTERNAL_ROOMS]
    inside = [f"{r}.{name}" for r in OPEN_ROOMS for name in load(r).__all__ if name.islower()]
    return sorted(["__init__", *rooms, *inside])


def load(name: str) -> ModuleType:
    return importlib.import_module("minswin" if name == "__init__" else f"minswin.{name}")


def defined_in(module: ModuleType) -> set[str]:
    """Functions and classes that a module defines; of a package, also those that it passes on."""
    names = set()
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):  # lifted
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and hasattr(module, "__path__"):
            names |= {
                alias.asname or alias.name
                for alias in node.names
                if (node.module or "").startswith(f"{module.__name__}.")
            }
    return {name for name in names if callable(getattr(module, name, None)) and name[0] != "_"}


MODULES = public_modules()
every_module = pytest.mark.parametrize("name", MODULES)


def test_every_room_is_public_or_internal():
    rooms = {m.name for m in pkgutil.iter_modules(minswin.__path__)}
    assert rooms >= INTERNAL_ROOMS and rooms >= OPEN_ROOMS and set(MODULES) >= set(INTERNAL_NAMES)


@every_module
def test_all_names_that_are_promised_are_there(name):
    module = load(name)
    promised = module.__all__
    assert len(promised) == len(set(promised)) > 0
    for each in promised:
        assert each == "__version__" or not each.startswith("_")
        if name in OPEN_ROOMS and each.islower():
            load(f"{name}.{each}")
        assert getattr(module, each) is not None
    exec(f"from {module.__name__} import *", {})


@every_module
def test_a_public_function_is_promised_or_named_as_internal(name):
    module = load(name)
    internal = INTERNAL_NAMES.get(name, set())
    assert internal <= defined_in(module)
    assert defined_in(module) - internal <= set(module.__all__)
    assert not internal & set(module.__all__)


@every_module
def test_what_is_promised_is_described(name):
    module = load(name)
    for each in module.__all__:
        value = getattr(module, each)
        # not inspect.isclass: on Python 3.10 it takes Callable[...] for a class
        if inspect.isfunction(value) or issubclass(type(value), type):
            assert (value.__doc__ or "").strip(), f"{name}.{each} has no docstring"
