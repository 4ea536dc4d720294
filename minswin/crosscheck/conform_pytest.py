"""How pytest learns which adapter to test: an environment variable, an option, or the ini file.

    MINSWIN_ADAPTER=mypkg.adapter pytest --pyargs minswin.crosscheck.conform
    pytest -p minswin.crosscheck.conform_pytest --minswin-adapter=mypkg.adapter \
        --pyargs minswin.crosscheck.conform

With the plugin (`-p`, also as `addopts`), `minswin_adapter = mypkg.adapter` in the ini file does.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from minswin.crosscheck.adapter import Adapter, load_adapter

OPTION, INI, VARIABLE = "--minswin-adapter", "minswin_adapter", "MINSWIN_ADAPTER"


def pytest_addoption(parser: Any) -> None:
    does = "module of your Swin that minswin's probes are put to"
    parser.addoption(OPTION, metavar="MODULE", default=None, help=does)
    parser.addini(INI, does, default="")


def chosen_adapter(config: Any) -> Adapter:
    """The adapter to test; a usage error where none is named, or it cannot be loaded."""
    import pytest

    name = config.getoption(OPTION, default=None) or _ini(config) or os.environ.get(VARIABLE)
    if not name:
        raise pytest.UsageError(
            f"minswin conform: no adapter is named; set {VARIABLE}=mypkg.adapter in the environment"
        )
    try:
        return _loaded(name)
    except (ImportError, ValueError, OSError) as error:
        raise pytest.UsageError(str(error)) from None


_loaded = lru_cache(maxsize=None)(load_adapter)


def _ini(config: Any) -> str:
    try:
        return str(config.getini(INI))
    except (KeyError, ValueError):  # the plugin is not there
        return ""
