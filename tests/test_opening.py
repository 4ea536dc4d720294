"""A pipe in the place of a file is told, and nobody waits for it; where pipes are welcome, one that
nothing writes to is not waited for long.
"""

from __future__ import annotations

import ast
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import truth

from minswin import cli, opening
from minswin.crosscheck import folder
from minswin.crosscheck.names import read_names
from minswin.data import list_pictures, read_cifar, read_folder
from minswin.data.pictures import open_image
from minswin.training import read_checkpoint
from minswin.training.progress import read_journal
from minswin.weights import load, read_weights, save_weights
from minswin.weights.resize import read_rows

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names"),
    pytest.mark.timeout(120),  # against waiting for ever, which is what is tested here
]


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 0.0)


# ── files ────────────────────────────────────────────────────────────────────────────────────────

FILES: dict[str, Callable[[Path], Any]] = {
    "weights": read_weights,
    "weights to load": lambda path: load("swin_shapes", path),
    "a checkpoint": read_checkpoint,
    "an archive of CIFAR": read_cifar,
    "a .npy file": folder.load_array,
    "a log": read_journal,
    "a file": opening.read_file,
}


@pytest.mark.parametrize("what", FILES)
def test_a_pipe_in_the_place_of_a_file_is_told(what: str, pipe: Path) -> None:
    how = {"who": "me"} if what == "a file" else {}
    with pytest.raises(OSError, match=rf"\w+: {pipe} is no plain file but a pipe or a device; wri"):
        FILES[what](pipe, **how)


def test_pipes_in_folders_that_are_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "cifar").mkdir()
    for name in ("test_batch.bin", "batches.meta.txt"):
        os.mkfifo(tmp_path / "cifar" / name)
    with pytest.raises(OSError, match=r"read_cifar: .*test_batch.bin is no plain file"):
        read_cifar(tmp_path / "cifar", split="test")
    folder.write(truth(), tmp_path / "truth", form="npy")
    (tmp_path / "truth" / "float64" / "head.npy").unlink()
    os.mkfifo(tmp_path / "truth" / "float64" / "head.npy")
    with pytest.raises(OSError, match=r"compare: .*head.npy is no plain file"):
        folder.read(tmp_path / "truth")
    (tmp_path / "truth" / folder.MANIFEST).unlink()
    os.mkfifo(tmp_path / "truth" / folder.MANIFEST)
    with pytest.raises(FileNotFoundError, match=r"compare: .*truth holds no file manifest.json"):
        folder.read(tmp_path / "truth")
    with pytest.raises(FileExistsError, match="is no trace; choose another folder"):
        folder.write(truth(), tmp_path / "truth")


def test_a_pipe_among_pictures_is_left_out(pictures: Path) -> None:
    for name in ("red/pipe.png", "red/more/pipe.png", "blue/0.fifo"):
        os.mkfifo(pictures / name)
    lines: list[str] = []
    every = read_folder(pictures, split="all", size=8, tell=lines.append)
    assert len(every) == 30 and not any("pipe" in f.name for f, _ in _both(pictures))
    assert sorted(line.split()[2] for line in lines) == [
        str(pictures / "blue" / "0.fifo"),
        str(pictures / "red" / "more" / "pipe.png"),
        str(pictures / "red" / "pipe.png"),
    ]
    assert all("is no plain file but a pipe or a device" in line for line in lines)


def _both(pictures: Path) -> list[tuple[Path, int]]:
    return [entry for entries in list_pictures(pictures).sides.values() for entry in entries]


@pytest.mark.parametrize(
    "command",
    [
        ["info", "PIPE"],
        ["convert", "PIPE", "out.npz"],
        ["evaluate", "PIPE"],
        ["predict", "a.png", "--model", "swin_cifar", "--weights", "PIPE"],
        ["train", "--weights", "PIPE", "--model", "swin_shapes"],
        ["train", "--resume", "PIPE"],
        ["trace", "--model", "swin_shapes", "--input", "PIPE", "-o", "t"],
        ["compare", "TRUTH", "PIPE"],
        ["export", "PIPE", "out.npz"],
    ],
)
def test_commands_do_not_wait_for_a_pipe_in_the_place_of_a_file(
    command: list[str], pipe: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    folder.write(truth(), tmp_path / "TRUTH")
    given = [str(pipe) if word == "PIPE" else word for word in command]
    assert cli.main(given) == 2
    assert f"{pipe} is no plain file" in capsys.readouterr().err


# ── pipes ────────────────────────────────────────────────────────────────────────────────────────

PIPES: dict[str, Callable[[Path], Any]] = {
    "a picture": lambda path: open_image(path, who="me"),
    "a map": read_names,
    "rows of a head": read_rows,
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("what", PIPES)
def test_a_pipe_that_nothing_writes_to_is_told(what: str, pipe: Path) -> None:
    with pytest.raises(ValueError, match=rf"\w+: nothing came from {pipe}; something must write"):
        PIPES[what](pipe)


@pytest.mark.usefixtures("impatient")
def test_predict_does_not_wait_for_ever(pipe: Path, capsys: Any) -> None:
    assert cli.main(["predict", str(pipe)]) == 2
    assert f"predict: nothing came from {pipe}" in capsys.readouterr().err


@pytest.mark.parametrize("first", ["reader", "writer"])
def test_what_comes_out_of_a_pipe_is_read_whoever_comes_first(first: str, pipe: Path) -> None:
    """In parts, with a pause in which nothing has come yet."""
    parts, go = [b"ab", bytes(200_000), b"c"], threading.Event()

    def write() -> None:
        go.wait()
        with open(pipe, "wb", buffering=0) as out:
            for part in parts:
                out.write(part)
                threading.Event().wait(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    if first == "writer":
        go.set()
    else:
        threading.Timer(0.2, go.set).start()
    assert opening.read_bytes(pipe, who="me", most=1 << 20) == b"".join(parts)
    writer.join()


@pytest.mark.parametrize("count", [3, 4])
def test_a_pipe_without_a_name_and_its_limit(count: int) -> None:
    read, write = os.pipe()
    os.write(write, b"abcd"[:count])
    os.close(write)
    path = f"/dev/fd/{read}"
    if not os.path.exists(path):
        pytest.skip("the system has no names for what is open")
    if count > 3:
        with pytest.raises(ValueError, match=f"me: more than 3 bytes came from {path}; give a sm"):
            opening.read_bytes(path, who="me", most=3)
    else:
        assert opening.read_bytes(path, who="me", most=3) == b"abc"
    os.close(read)


def test_an_ended_pipe_without_a_name_is_not_waited_for(monkeypatch: Any) -> None:
    read, write = os.pipe()
    os.close(write)
    monkeypatch.setattr(opening.time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(ValueError, match="nothing came from"):
        opening.read_bytes(f"/dev/fd/{read}", who="me", most=3)
    with pytest.raises(ValueError, match=f"nothing came from {os.devnull}"):
        opening.read_bytes(os.devnull, who="me", most=3)
    os.close(read)


def test_what_cannot_be_opened_is_told_in_our_words(tmp_path: Path) -> None:
    for read in (opening.read_file, opening.read_text, opening.open_file):
        with pytest.raises(IsADirectoryError, match=rf"me: {tmp_path} is a folder; give a file"):
            read(tmp_path, who="me")
        with pytest.raises(FileNotFoundError, match=r"me: there is no \S+no; give the path of"):
            read(tmp_path / "no", who="me")
        with pytest.raises(OSError, match=r"me: \S+ cannot be opened \(.+\)"):
            read(tmp_path / ("long" * 100), who="me")


def test_texts_are_read_as_python_reads_them(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("\ufeffä\r\nb\rc\n".encode())
    assert opening.read_text(tmp_path / "text", who="me", encoding="utf-8-sig") == "ä\nb\nc\n"
    (tmp_path / "empty").write_bytes(b"")
    assert opening.read_text(tmp_path / "empty", who="me") == ""


def test_a_fifo_is_not_a_shard_of_weights(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", {"a": np.ones(2)})
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    (tmp_path / "a.safetensors").unlink()
    os.mkfifo(tmp_path / "a.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "a.safetensors"}}')
    with pytest.raises(FileNotFoundError, match=r"and a\.safetensors cannot be found beside it"):
        read_weights(tmp_path / "model.safetensors.index.json")


# ── one place ────────────────────────────────────────────────────────────────────────────────────

# What opens files elsewhere, and why that waits for nobody.
ELSEWHERE = {
    "bench/clock.py": "of the system",
    "bench/machine.py": "of the system",
    "cli/__init__.py": "writes to nowhere",
    "crosscheck/fingerprints.py": "of the package",
    "crosscheck/folder.py": "np.load maps by name what open_file has looked at",
    "crosscheck/probes/files.py": "of what is_file has looked at",
    "data/archives.py": "of a file that is open",
    "data/cifar.py": "writes a temporary, and reads what is_file has looked at",
    "data/pictures.py": "of a file that is open",
    "distributed.py": "writes to nowhere",
    "kernels/cpu/compiled.py": "of numba's cache",
    "kernels/gpu/launch.py": "of the package",
    "look/page/write.py": "of the package",
    "opening.py": "the place",
    "replacing.py": "of temporaries",
    "training/alone.py": "a folder",
    "training/checkpoints.py": "of what is_file has looked at",
    "training/progress.py": "appends to the log of a run",
    "weights/files/__init__.py": "writes a temporary",
    "weights/files/archive.py": "of a file that is open",
    "weights/files/entries.py": "of what _plain_file has looked at",
    "weights/files/npz.py": "writes into a file that is open",
    "weights/files/torch_write.py": "writes into a file that is open",
}
READERS = {"open", "read_text", "read_bytes", "load", "fromfile", "ZipFile"}
OURS = {"opening", "json", "onnx"}  # json.load takes an open file, onnx.load what was looked at


def opens(source: str) -> bool:
    """Whether a file calls what opens a file by its name."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        of = node.func
        owner = (
            of.value.id if isinstance(of, ast.Attribute) and isinstance(of.value, ast.Name) else ""
        )
        name = getattr(of, "attr", getattr(of, "id", ""))
        of_numpy = name not in ("load", "fromfile") or owner == "np"
        if name in READERS and owner not in OURS and of_numpy:
            return True
    return False


def test_no_other_place_opens_files_of_users() -> None:
    root = Path(opening.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if opens(path.read_text("utf-8"))
    }
    assert found == set(ELSEWHERE)
    assert opens("with open(path) as file: pass") and opens("Path(x).read_text()")
    assert not opens("opening.read_text(x, who='a')") and not opens("weights.load(x)")
