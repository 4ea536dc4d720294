"""What a command tells on a terminal while it works, and not elsewhere."""

from __future__ import annotations

import re

import tiny_training
import warm
from command_line import TRAIN
from terminal import shown


def test_a_terminal_gets_a_bar_with_loss_accuracy_speed_and_the_time_left(tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    seen = shown([tiny_training.__file__, *TRAIN, "--epochs", "9"], tmp_path, "err")
    bar = r"epoch \d/9 .*\d+/63 step .* loss \d\.\d+  accuracy [\d.]+%  [\d,]+ images/s"
    assert re.search(bar, seen)


ON_A_TERMINAL = """
import sys, time
import numpy
from minswin import cli, compiling, waiting
from minswin.cli.parsing import ELSEWHERE
from minswin.cli import looking
waiting.SILENCE, waiting.TURN = 0.2, 0.02

def slow(options):
    def last_until_told():
        while sys.stderr.isatty() and not options.waiting._shown:
            time.sleep(0.01)

    options.waiting.now("something long")
    last_until_told()
    print("result")
    if "numba" in sys.argv:
        from minswin.kernels.cpu import compiled
        begin = compiling.begin
        compiling.begin = lambda name: (begin(name), last_until_told())
        loop = lambda x: x + 1
        loop.__module__ = "minswin.loops"  # of others nothing is told
        compiled.njit(loop)(3)
    return 0

looking._models = slow
cli.main(["models"])
"""


def test_a_silent_command_reports_itself_on_a_terminal_and_clears_the_line():
    seen = shown(["-c", ON_A_TERMINAL])
    assert re.search(r"\r\x1b\[Kminswin models: something long … \d s", seen)
    assert re.search(r"…[^\n]*\r\x1b\[Kresult\r\n$", seen)  # the line is gone before the result


def test_compiling_is_reported():
    seen = shown(["-c", ON_A_TERMINAL, "numba"])
    assert "minswin models: compiling the kernels, once for all runs: <lambda>" in seen


A_PROGRAM = """
import sys
from minswin.kernels.cpu import compiled
for owner in sys.argv[1:]:
    loop = lambda x: x + 1
    loop.__module__ = owner
    compiled.njit(loop)(3)
    print("compiled for", owner)
"""


def test_a_program_that_compiles_kernels_says_so_once_on_a_terminal():
    seen = shown(["-c", A_PROGRAM, "theirs", "minswin.a", "minswin.b"]).splitlines()
    assert (
        seen[0] == "compiled for theirs" and "compiling the kernels, once for all runs" in seen[1]
    )
    assert seen[2:] == ["compiled for minswin.a", "compiled for minswin.b"]
    done = warm.run(["-c", A_PROGRAM, "minswin.a"])
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_terminal_nothing_is_reported():
    done = warm.run(["-c", ON_A_TERMINAL])
    assert (done.returncode, done.stdout, done.stderr) == (0, "result\n", "")
