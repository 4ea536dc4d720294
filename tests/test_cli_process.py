"""The command as a process: what it loads, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import warm

import minswin

TERMINATED = """
import os, signal, sys
from minswin import cli
from minswin.cli.parsing import ELSEWHERE
from minswin.cli import looking
from minswin.replacing import replacing

def half(options):
    with replacing("a.txt") as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

looking._models = half
sys.exit(cli.main(["models"]))
"""


def test_a_terminated_command_leaves_nothing_half_written(tmp_path):
    assert warm.run(["-c", TERMINATED], tmp_path).returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_the_module_runs_as_a_program_and_ends_well_when_its_reader_leaves():
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(minswin.__file__))}
    command = f"{sys.executable} -m minswin info swin_tiny | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and done.stdout.strip() in ("0", "141")


def test_the_command_line_alone_loads_nothing_heavy():
    program = "import sys, minswin.cli; minswin.cli._parser(); print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", "import json;" + program], capture_output=True, text=True, check=True
    )
    heavy = {"numba", "safetensors", "matplotlib", "PIL"}
    assert heavy.isdisjoint(json.loads(done.stdout))
