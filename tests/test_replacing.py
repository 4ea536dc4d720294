"""Whatever is written is there whole or not at all, and what stands in the way is found first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import minswin
from minswin.replacing import (
    HOUR,
    clear,
    replacing,
    replacing_folder,
    require_folder,
    require_replaceable,
    require_replaceable_folder,
    write_text,
)

ROOT = Path(minswin.__file__).parents[1]


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def write(path: Path, content: bytes) -> None:
    with replacing(path, who="test") as temporary:
        temporary.write_bytes(content)


def program(text: str, folder: Path, **settings: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", text], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings,  # type: ignore[call-overload]
    )  # fmt: skip


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    for content in (b"first", b"second, longer"):
        write(tmp_path / "a.txt", content)
        assert (tmp_path / "a.txt").read_bytes() == content
    assert names(tmp_path) == ["a.txt"]


def test_the_temporary_lies_beside_the_file_and_ends_as_it_does(tmp_path: Path) -> None:
    with replacing(tmp_path / "picture.png") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png"
        temporary.write_bytes(b"")


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, OSError])
def test_after_any_error_the_old_file_stays_and_the_temporary_is_gone(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    write(tmp_path / "a.txt", b"old")
    with pytest.raises(kind), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"half of the n")
        raise kind("in the middle")
    assert (tmp_path / "a.txt").read_bytes() == b"old" and names(tmp_path) == ["a.txt"]


def test_the_rights_of_the_old_file_stay_and_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    secret = tmp_path / "real" / "secret"
    secret.write_bytes(b"old")
    secret.chmod(0o600)
    (tmp_path / "link").symlink_to(secret)
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and secret.read_bytes() == b"new"
    assert secret.stat().st_mode & 0o777 == 0o600


def test_the_longest_name_can_be_replaced(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 251 + ".png")
    write(long, b"x")
    assert names(tmp_path) == [long.name]


def test_text_with_the_name_of_a_file_that_is_no_utf8_is_written(tmp_path: Path) -> None:
    """Before it was written a comparison was done, all of which was lost."""
    name = "th\udce9irs.npz"
    write_text(tmp_path / "a.json", json.dumps([name, "…"], ensure_ascii=False), who="test")
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == [name, "…"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert (tmp_path / "a").read_bytes() == b"first" and names(tmp_path) == ["a"]


def test_an_error_of_what_the_block_reads_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), replacing(tmp_path / "a"):
        (tmp_path / "absent").read_bytes()


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=f"test: {tmp_path} is a folder; name a file in it"):
        write(tmp_path, b"")
    with pytest.raises(FileNotFoundError, match=r"cannot write .*a: there is no folder .*no; make"):
        write(tmp_path / "no" / "a", b"")
    with pytest.raises(OSError, match="/dev/null is a device or a pipe, not a file"):
        require_replaceable("/dev/null", who="test")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match=r"test: .*link is named twice, and would be lost; name"):
        require_replaceable(tmp_path / "link", who="test", besides=(None, tmp_path / "a"))
    assert names(tmp_path) == ["link"]


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that may be read only; the tests of this file may run as root, who may do all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.txt").write_bytes(b"old")
        (folder / "a.txt").chmod(0o444)
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_is_found_before_the_work(read_only: Path) -> None:
    for look in (require_replaceable, require_replaceable_folder):
        with pytest.raises(OSError, match=r"test: cannot write to the folder .*Permission denied"):
            look(read_only / "new", who="test")
    with pytest.raises(OSError, match=f"folder {read_only}/new/deep .*; choose another one"):
        require_folder(read_only / "new" / "deep", who="test")
    assert names(read_only) == ["a.txt"]


def test_a_file_that_may_not_be_written_is_not_replaced(read_only: Path) -> None:
    with pytest.raises(OSError, match=r"a.txt is read-only; name another file"):
        write(read_only / "a.txt", b"new")


FULL = """
import resource, signal
from minswin.replacing import replacing
import numpy as np
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
with replacing("a.npy", who="test") as temporary:
    {}
"""
WRITERS = {
    "write_bytes": "temporary.write_bytes(bytes(100_000))",
    "numpy": "np.save(temporary, np.zeros(100_000))",
    "zip": "np.savez(open(temporary, 'wb'), np.zeros(100_000))",
}


@pytest.mark.parametrize("how", WRITERS)
def test_what_does_not_fit_leaves_the_old_file_and_says_so(tmp_path: Path, how: str) -> None:
    (tmp_path / "a.npy").write_bytes(b"old")
    process = program(FULL.format(WRITERS[how]), tmp_path)
    _, error = process.communicate()
    assert "OSError: test: cannot write " in error and "the disk is not full" in error
    assert (tmp_path / "a.npy").read_bytes() == b"old" and names(tmp_path) == ["a.npy"]


KILLED = """
from minswin.replacing import replacing{folder} as replacing
with replacing("a", who="test") as temporary:
    {write}
    print("written", flush=True)
    input()
"""


@pytest.mark.parametrize("folder", [False, True])
def test_a_kill_leaves_the_old_and_the_next_writer_clears_up(tmp_path: Path, folder: bool) -> None:
    both = (replacing_folder if folder else replacing), ("/part" if folder else "")
    with both[0](tmp_path / "a") as temporary:
        Path(f"{temporary}{both[1]}").write_bytes(b"old")
    write_half = f"open(f'{{temporary}}{both[1]}', 'wb').write(b'ne')"
    text = KILLED.format(folder="_folder" if folder else "", write=write_half)
    process = program(text, tmp_path, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert Path(f"{tmp_path / 'a'}{both[1]}").read_bytes() == b"old"
    (left,) = (tmp_path / name for name in names(tmp_path) if name != "a")
    for age, stays in ((HOUR / 2, True), (2 * HOUR, False)):  # half an hour: it may be at work
        os.utime(left, (time.time() - age,) * 2)
        with both[0](tmp_path / "a") as temporary:
            Path(f"{temporary}{both[1]}").write_bytes(b"new")
        assert left.exists() == stays
    assert names(tmp_path) == ["a"]


def test_what_killed_runs_left_in_their_own_folder_is_cleared(tmp_path: Path) -> None:
    kept = [".hidden.txt", ".a.tmp.txt", "a.12-ab.tmp.txt", ".a.x-y.tmp.txt"]
    for name in [*kept, ".last.12-3ab.tmp.safetensors", ".last.7-0.tmp"]:
        (tmp_path / name).touch()
    clear(tmp_path)
    assert names(tmp_path) == sorted(kept)


# ── folders ──────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with replacing_folder(tmp_path / "deep" / "a") as temporary:
            (temporary / name).write_text(name)
    assert names(tmp_path / "deep") == ["a"] and names(tmp_path / "deep" / "a") == ["new"]


def test_a_folder_that_fails_stays_as_it_was(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "a") as temporary:
        (temporary / "old").touch()
    with pytest.raises(ValueError, match="middle"), replacing_folder(tmp_path / "a") as temporary:
        (temporary / "new").touch()
        raise ValueError("in the middle")
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["old"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError, match="a is a file; choose another folder"):
        require_replaceable_folder(tmp_path / "a", who="test")
    with pytest.raises(OSError, match=r"cannot write to the folder .*a.b .*Not a directory"):
        require_replaceable_folder(tmp_path / "a" / "b" / "c", who="test")


# ── all that writes ──────────────────────────────────────────────────────────────────────────────


def test_nothing_in_the_package_replaces_a_file_by_itself() -> None:
    """What replaces must be this; what writes plainly is a block of it, or listed here."""
    ways = ("os.replace(", ".rename(", ".replace(target", "shutil.move(")
    for file in sorted((ROOT / "minswin").rglob("*.py")):
        text = file.read_text("utf-8")
        assert file.name == "replacing.py" or not [way for way in ways if way in text], file


def test_a_saved_array_file_is_readable_by_others(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.npy") as temporary:
        np.save(temporary, np.arange(3))
    umask = os.umask(0o022)
    os.umask(umask)
    assert (tmp_path / "a.npy").stat().st_mode & 0o777 == 0o666 & ~umask
