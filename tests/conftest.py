"""How the tests run: one thread for each process, a process for each core, kernels compiled first.

Hypothesis draws the same examples every time where CI is set, new ones elsewhere.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
from pathlib import Path

import pytest
import warm
import workers
from hypothesis import HealthCheck, settings

for variable in workers.THREADS:  # read when NumPy, numba and torch are imported: not yet
    os.environ.setdefault(variable, "1")

# Thousands of collected tests stay alive: to look through them at every 700 new objects, as Python
# does, is a twelfth of all time. Not gc.freeze: the cross-check looks for functions among objects.
gc.set_threshold(50_000, 20, 20)

# A shell that started the tests in the background has these ignored: a run would not stop by them.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

os.fsync = lambda file: None  # no test cuts the power: what is written need not reach the disk

package = importlib.util.find_spec("minswin")  # installed or not, programs find the same one
paths = [Path(package.origin).parents[1], os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(str(path) for path in paths if path)

pytest.register_assert_rewrite("minswin.testing.claims")
pytest_plugins = ["drawn_pictures"]

CLOCK = [HealthCheck.too_slow]  # how fast examples are drawn says how busy the machine is
settings.register_profile("free", deadline=None, max_examples=20, suppress_health_check=CLOCK)
settings.register_profile("ci", settings.get_profile("free"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "free")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Before pytest-xdist, where it is installed, reads its own options."""
    if workers.wanted(config):
        config.option.numprocesses, config.option.dist = workers.count(), "worksteal"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m "not slow"` chooses: what is long is slow too."""
    slow = set(workers.slow_tests())
    for item in items:
        named = item.nodeid in slow or item.nodeid.split("[")[0] in slow
        if named or item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before pytest-xdist starts the workers, which would all compile the same kernels."""
    if workers.distributed(session.config):
        workers.keep_bytecode(session.config)
        if workers.folders(session.config):
            workers.compile_kernels(session.config)


def pytest_sessionfinish() -> None:
    warm.stop()
