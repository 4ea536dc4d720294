"""The engine of the page, run in Node: questions in, arrays out."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minswin.look.page

ENGINE = Path(minswin.look.page.__file__).with_name("engine.js")
HARNESS = Path(__file__).with_name("page_engine.js")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

Job = tuple[str, dict[str, Any]]  # a call of page_engine.js, and its arguments by name
Answer = Any  # an array, or arrays by name


def run_engine(jobs: list[Job], engine: Path = ENGINE) -> list[Answer]:
    """The answers to several questions, from one process."""
    text = json.dumps([_written(call, arguments) for call, arguments in jobs])
    done = subprocess.run(
        ["node", str(HARNESS), str(engine)], input=text, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [_read(answer) for answer in json.loads(done.stdout)]


def _written(call: str, arguments: dict[str, Any]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    values = [_put(value, arrays) for value in arguments.values()]
    return {"call": call, "arguments": values, "arrays": arrays}


def _put(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _put(inner, arrays) for name, inner in value.items()}
    if isinstance(value, list):
        return [_put(inner, arrays) for inner in value]
    if not isinstance(value, np.ndarray):
        return value
    name = str(len(arrays))
    arrays[name] = value.shape, base64.b64encode(value.astype("<f4").tobytes()).decode()
    return f"${name}"


def _read(answer: Any) -> Answer:
    if isinstance(answer, dict):
        return {name: _read(inner) for name, inner in answer.items()}
    shape, text = answer
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)
