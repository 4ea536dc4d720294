"""A forked child has none of its parent's threads: they are made anew, or there is an error."""

from __future__ import annotations

import os

import pytest
import warm

# The child works on what its parent made; the parent ends a child that has not answered for long.
PROGRAM = """
import os, signal, sys, warnings
import numpy as np
from minswin.data.ahead import ahead
from minswin.layers import Linear
from minswin.parallel import data_parallel

warnings.simplefilter("ignore", DeprecationWarning)  # Python's own warning about fork and threads
model = Linear(3, 2, rng=0)
split, x, g = data_parallel(model, 2), np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
pending = split(x)  # the threads of the parent run
batches = ahead(int, range(9), workers=2)
next(batches)
child = os.fork()
if child == 0:
    signal.alarm(300)  # instead of hanging for ever
    try:
        {work}
        code = 0
    except BaseException as error:
        print(type(error).__name__, error)
        code = 1
    sys.stdout.flush()
    os._exit(code)
_, status = os.waitpid(child, 0)
split(x).backward(g)  # the parent's threads are as they were
print("parent", list(batches))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run(work: str) -> tuple[int, str]:
    program = PROGRAM.format(work=work)
    done = warm.run(["-c", program])
    assert done.stdout.splitlines()[-1:] == ["parent [1, 2, 3, 4, 5, 6, 7, 8]"], done.stderr
    return done.returncode, done.stdout


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.mark.parametrize(
    "work",
    [
        "assert np.array_equal(split(x).data, pending.data)",
        "pending.backward(g); assert model.weight.grad.shape == (2, 3)",
        "split.close()",
    ],
)
def test_a_split_model_works_in_a_forked_child(work: str) -> None:
    assert run(work)[0] == 0


def test_batches_that_threads_of_the_parent_make_are_an_error_in_the_child() -> None:
    code, said = run("next(batches)")
    assert code == 1
    assert "RuntimeError ahead: these batches are made by threads of the parent process" in said


def test_a_child_may_let_go_of_the_batches_of_its_parent() -> None:
    assert run("batches.close()")[0] == 0
