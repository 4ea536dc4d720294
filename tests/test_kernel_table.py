"""The table of kernels: what it chooses, that the fast code runs, and that it is compiled once."""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_cases import (
    DTYPES,
    LAYOUTS,
    NAMES,
    change_layout,
    counting_loops,
    loops,
    typical_case,
)
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from table import COMPOSITES, UPDATES, definition_of
from tiny_models import batch, tiny_model

from minswin import Tensor, kernels, ops, reference
from minswin.arrays import Array
from minswin.kernels import FAST
from minswin.kernels.cpu import compiled, losses
from minswin.lifting import OPERATIONS
from minswin.reference import updates
from minswin.training.optimizers import SGD, AdamW

# ── choosing ─────────────────────────────────────────────────────────────────────────────────────


def backend_of(name: str) -> str:
    kernel = kernels.fast(name, np.ones(1))
    found = (backend for backend, function in FAST[name].items() if function is kernel)
    return "reference" if kernel is None else next(found)


def test_numba_is_the_default_and_using_changes_it_inside_its_block() -> None:
    assert backend_of("softmax") == "numba"
    with kernels.using("reference"):
        assert backend_of("softmax") == "reference"
        with kernels.using("numba"):
            assert backend_of("softmax") == "numba"
        assert backend_of("softmax") == "reference"
    assert backend_of("softmax") == "numba"


def test_the_environment_chooses_and_using_wins_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_environment", "reference")
    assert backend_of("gelu") == "reference"
    with kernels.using("numba"):
        assert backend_of("gelu") == "numba"


def test_using_is_for_its_own_thread_only() -> None:
    seen = []
    with kernels.using("reference"):
        thread = threading.Thread(target=lambda: seen.append(backend_of("softmax")))
        thread.start()
        thread.join()
    assert seen == ["numba"]


def test_an_unknown_backend_is_named() -> None:
    message = "using: unknown backend 'cuda'; choose one of reference, numba"
    with pytest.raises(ValueError, match=message), kernels.using("cuda"):
        pass


def test_every_kernel_has_a_definition_or_a_composite_of_its_name_and_no_other_is_entered() -> None:
    kernels.report()  # all are entered
    assert not set(FAST) - set(OPERATIONS) - UPDATES
    assert all(row.keys() <= {"numba", "bfloat16", "cupy"} for row in FAST.values())
    definitions = {
        name
        for module in pkgutil.iter_modules(reference.__path__, "minswin.reference.")
        for name, function in vars(importlib.import_module(module.name)).items()
        if getattr(function, "__module__", None) == module.name
        and "Vjp" in str(function.__annotations__.get("return"))
    }
    assert set(OPERATIONS) == definitions | COMPOSITES
    assert all(getattr(updates, name) for name in UPDATES)


def test_the_report_shows_which_operations_have_a_kernel() -> None:
    lines = {line.split()[0]: line.split()[1:] for line in kernels.report().splitlines()}
    assert lines["softmax"] == lines["adamw_step"] == ["yes", "·", "yes"]
    assert lines["resize"] == ["·", "·", "yes"] and lines["mlp"] == ["yes", "yes", "yes"]
    assert "roll" not in lines and "For every other operation" in kernels.report()


def run_python(text: str, **environment: str) -> str:
    """What a fresh Python prints; its warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        env={k: v for k, v in os.environ.items() if k != "MINSWIN_KERNELS"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WITHOUT_NUMBA = """
import sys, warnings
sys.modules["numba"] = None
import numpy as np
from minswin import kernels, ops
"""


def test_without_numba_the_definitions_run_and_one_warning_says_so() -> None:
    text = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        print(ops.softmax(np.zeros(2)).numpy())
print(len(caught), caught[0].message)
print(kernels.report().splitlines()[-2])
"""
    *results, message, report = run_python(WITHOUT_NUMBA + text).splitlines()
    assert results == ["[0.5 0.5]"] * 3 and message.startswith("1 numba cannot be imported (")
    assert "pip install numba" in message and "MINSWIN_KERNELS=reference" in message
    assert report.startswith("numba cannot be imported: ")


def test_without_numba_nothing_warns_of_definitions_that_were_chosen() -> None:
    text = WITHOUT_NUMBA + "print(ops.softmax(np.zeros(2)).numpy())"
    assert run_python(text, MINSWIN_KERNELS="reference") == "[0.5 0.5]"
    text = 'with kernels.using("reference"): print(ops.softmax(np.zeros(2)).numpy())'
    assert run_python(WITHOUT_NUMBA + text) == "[0.5 0.5]"


@pytest.mark.parametrize(
    "choice", ['with kernels.using("numba"): pass', "ops.softmax(np.zeros(2))"]
)
def test_without_numba_its_kernels_are_an_error_where_they_were_chosen(choice: str) -> None:
    text = f"""
try:
    {choice}
except ImportError as error:
    print(error)
"""
    message = run_python(WITHOUT_NUMBA + text, MINSWIN_KERNELS="numba")
    assert "pip install numba" in message and "MINSWIN_KERNELS=reference" in message


# ── the fast code runs ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_runs_its_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    row = FAST[name]

    def counted(*arrays: Any, **settings: Any) -> Any:
        value, vjp = row["numba"](*arrays, **settings)
        calls.append("value")
        return value, lambda g: (calls.append("vjp"), vjp(g))[1]

    monkeypatch.setitem(FAST, name, {**row, "numba": counted})
    arrays, settings = typical_case(name, np.float32)
    operation = OPERATIONS[name]
    inputs = [None if x is None else Tensor(x, requires_grad=True) for x in arrays]
    y = operation(*inputs, **settings)
    y.backward(y.data)
    assert calls == ["value", "vjp"]
    with kernels.using("reference"):
        operation(*inputs, **settings)
    assert calls == ["value", "vjp"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward_run_compiled_loops_whatever_the_layout(
    name: str, dtype: type
) -> None:
    kernel = FAST[name]["numba"]
    arrays, settings = typical_case(name, dtype)
    value, vjp = kernel(*arrays, **settings)
    vjp(value)  # compiled
    for layout in LAYOUTS:
        with counting_loops() as ran:
            value, vjp = kernel(*change_layout(layout, arrays), **settings)
            assert ran, f"{name} computed its value without a compiled loop ({layout.__name__})"
            ran.clear()
            vjp(layout(value) if value.ndim else value)
            assert ran or name == "linear", f"{name}: no compiled loop in vjp ({layout.__name__})"


def test_a_kernel_that_falls_back_to_its_definition_runs_no_loop() -> None:
    """What the test above looks for, seen where it is right: for unequal dtypes."""
    with counting_loops() as ran:
        FAST["softmax"]["numba"](np.ones((2, 3), np.int64))
        FAST["layer_norm"]["numba"](np.ones((2, 3)), np.ones(3), np.ones(3, np.float32))
        FAST["cross_entropy"]["numba"](np.ones((2, 3), np.float32), np.ones((2, 3)))
    assert not ran


def test_a_loss_of_few_logits_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "FEWEST", 2**14)
    cross_entropy = FAST["cross_entropy"]["numba"]
    for rows, loops_run in ((128, False), (2048, True)):
        logits = np.ones((rows, 10), np.float32)
        with counting_loops() as ran:
            value, vjp = cross_entropy(logits, np.zeros(rows, int))
            vjp(value)
        assert bool(ran) == loops_run


WITHOUT_KERNEL = {"add", "dropout", "mean", "transpose"}
BY_DEFINITION = {"conv2d"}  # patches that do not overlap: nothing is faster than their one product


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_a_training_step_takes_every_fast_path(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, targets) = tiny_model(rate=0.3, dtype=np.float32), batch(3, np.float32)
    optimizer = make(model.named_parameters(), 0.01, weight_decay=0.1)

    def step() -> None:
        loss = ops.cross_entropy(model(x), targets, smoothing=0.1)
        loss.backward()
        optimizer.step()

    step()  # compiled
    seen: dict[str, str] = {}
    choose = kernels.fast

    def noted(name: str, array: Array) -> Callable[..., Any] | None:
        function = choose(name, array)
        seen[name] = "numba" if function is not None else "reference"
        return function

    monkeypatch.setattr(kernels, "fast", noted)
    for name in (set(NAMES) | UPDATES) - COMPOSITES - BY_DEFINITION:
        refuse_definition(name, monkeypatch)
    step()
    fast = {name for name, backend in seen.items() if backend == "numba"}
    assert fast == {name for name in seen if "numba" in FAST.get(name, {})}
    assert {"shifted_window_attention", "mlp", "layer_norm", "linear", "cross_entropy"} < fast
    assert fast & UPDATES
    assert seen.keys() - fast == WITHOUT_KERNEL


def refuse_definition(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arrays: Any, **settings: Any) -> Any:
        raise AssertionError(f"{name}: the kernel fell back to its definition")

    home = sys.modules[definition_of(name).__module__]
    monkeypatch.setattr(home, name, refuse)


def test_a_refused_definition_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, arrays in (("gelu", (1,)), ("linear", (np.ones((2, 3)), np.ones((4, 3), "f"), None))):
        refuse_definition(name, monkeypatch)
        with pytest.raises(AssertionError, match=f"{name}: the kernel fell back"):
            FAST[name]["numba"](*(np.asarray(a) if a is not None else a for a in arrays))


# ── compiled once ────────────────────────────────────────────────────────────────────────────────


def test_no_layout_and_no_read_only_array_compiles_a_loop_anew() -> None:
    def run_all(layout: Callable[[Array], Array]) -> dict[str, int]:
        for dtype in DTYPES:
            for name in NAMES:
                arrays, settings = typical_case(name, dtype)
                value, vjp = FAST[name]["numba"](*change_layout(layout, arrays), **settings)
                vjp(layout(value) if value.ndim else value)
        return {f"{module.__name__}.{name}": len(f.signatures) for module, name, f in loops()}

    before = run_all(np.ascontiguousarray)
    assert max(before.values()) >= len(DTYPES)
    for layout in LAYOUTS:
        assert run_all(layout) == before, layout.__name__


NORM = """
import numpy as np
from minswin.kernels.cpu import layer_norm as module
row = np.ones(3, np.float32)
module.layer_norm(row, row, row)
stats = module._forward.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what numba keeps of a first run."""
    folder = tmp_path_factory.mktemp("kept")
    assert run_python(NORM, NUMBA_CACHE_DIR=str(folder)) == "0 1"
    return folder


def test_the_second_run_compiles_nothing(kept: Path) -> None:
    assert run_python(NORM, NUMBA_CACHE_DIR=str(kept)) == "1 0"


def test_code_compiled_before_a_source_file_changed_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    source, old, new = (tmp_path / f for f in ("a.py", "__pycache__/b.nbi", "__pycache__/c.nbi"))
    for path, time in ((tmp_path / "b.py", 0), (old, 100), (source, 200), (new, 300)):
        path.touch()
        os.utime(path, (time, time))
    compiled.forget_stale_code(tmp_path, tmp_path / "__pycache__")
    assert new.exists() and not old.exists()


def test_stale_code_is_forgotten_where_numba_keeps_it(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    indices = list(tmp_path.rglob("*.nbi"))
    assert indices
    for index in indices:
        os.utime(index, (0, 0))
    run_python("import minswin.kernels.cpu.layer_norm", NUMBA_CACHE_DIR=str(tmp_path))
    assert not list(tmp_path.rglob("*.nbi"))


@pytest.fixture
def warned_before():
    """The warning comes once in a process: here it may come again."""
    compiled._warn_that_code_is_not_kept.cache_clear()
    yield
    compiled._warn_that_code_is_not_kept.cache_clear()


@pytest.mark.usefixtures("warned_before")
def test_without_a_folder_for_compiled_code_there_is_one_line_of_warning(monkeypatch: Any) -> None:
    def nowhere(self: Any) -> None:
        raise RuntimeError("cannot cache function: no locator available")  # as numba does

    monkeypatch.setattr(Dispatcher, "enable_caching", nowhere)
    with pytest.warns(RuntimeWarning, match="compiled code cannot be kept on disk") as seen:
        double, triple = (compiled.compiled(f) for f in (lambda x: 2 * x, lambda x: 3 * x))
    assert len(seen) == 1 and double(3) == 6 and triple(3) == 9
    shown = warnings.formatwarning(
        seen[0].message, seen[0].category, seen[0].filename, seen[0].lineno
    )
    assert shown.count("\n") == 1


@pytest.mark.usefixtures("warned_before")
def test_a_full_disk_does_not_stop_what_was_compiled(monkeypatch: Any, tmp_path: Path) -> None:
    def full(self: Any, signature: Any, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FunctionCache, "_save_overload", full)
    source = tmp_path / "loops.py"
    source.write_text("def double(x):\n    return 2 * x\n")
    names: dict[str, Any] = {}
    exec(compile(source.read_text(), str(source), "exec"), names)
    double = compiled.compiled(names["double"])
    with pytest.warns(RuntimeWarning, match="compiled code cannot be kept on disk"):
        assert double(3) == 6
    assert double(3.5) == 7


def test_where_compiling_is_forbidden_the_definitions_run() -> None:
    text = """
import numpy as np
from minswin import kernels, ops
print(kernels.chosen(np.ones(1)), ops.softmax(np.zeros(2)).data.tolist())
print(kernels.report().splitlines()[-1])
try:
    with kernels.using("numba"):
        pass
except ValueError as error:
    print(error)
"""
    chosen, report, message = run_python(text, NUMBA_DISABLE_JIT="1").splitlines()
    assert chosen == "reference [0.5, 0.5]" and report.startswith("For every other operation")
    assert "which NUMBA_DISABLE_JIT forbids" in message
    message = "import minswin.ops as ops\ntry: ops.exp(1.0)\nexcept ValueError as e: print(e)"
    said = run_python(message, NUMBA_DISABLE_JIT="1", MINSWIN_KERNELS="numba")
    assert said.startswith("MINSWIN_KERNELS: the backend 'numba' compiles")
