"""A program that is forked from a warm process is one that a user starts, but for its imports."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import warm

pytestmark = pytest.mark.slow  # the process that is forked begins with the first program


def test_a_program_has_its_own_arguments_folder_environment_and_end(tmp_path: Path) -> None:
    told = "import os, sys; print(sys.argv, os.getcwd(), os.environ['MINE']); sys.exit('bad')"
    done = warm.run(["-c", told, "a", "b"], tmp_path, MINE="é")
    assert done.returncode == 1 and done.stderr == "bad\n"
    assert done.stdout == f"['-c', 'a', 'b'] {tmp_path} é\n"
    (tmp_path / "mine.py").write_text("import os, theirs\nprint(__file__, os.environ.get('MINE'))")
    (tmp_path / "theirs.py").write_text("")
    done = warm.run([str(tmp_path / "mine.py")])  # it finds what lies beside it
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'mine.py'} None\n"), done.stderr
    done = warm.run(["-m", "mine"], tmp_path)
    assert done.stdout == f"{tmp_path / 'mine.py'} None\n"
    done = warm.run(["-c", "import mine"])
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'mine'\n")


def test_a_signal_ends_one_program_and_not_the_next() -> None:
    killed = "import os, signal; print(1, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = warm.run(["-c", killed])
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n")
    assert warm.run(["-c", "print(2)"]).stdout == "2\n"


def test_a_program_imports_minswin_itself_and_belongs_to_no_test() -> None:
    named = "minswin", "pytest", "hypothesis", "matplotlib.pyplot"
    done = warm.run(["-c", f"import sys; print([n for n in {named} if n in sys.modules])"])
    assert done.stdout == "[]\n"
    if warm.FORKS:
        done = warm.run(["-c", "import sys; print('numba' in sys.modules)"])
        assert done.stdout == "True\n"


def test_a_class_of_a_program_is_one_of_main() -> None:
    told = "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))).__module__)"
    assert warm.run(["-c", told]).stdout == "__main__\n"


@pytest.mark.skipif(not warm.FORKS, reason="programs are not forked here")
def test_a_program_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "HANG", 0.3)
    assert warm.run(["-c", "while True: pass"]).returncode == -signal.SIGALRM
