"""The first minutes on a GPU: many questions, each in a process of its own, answers as they come.

    python tests/on_device.py --out FOLDER --seconds 340 [--data FOLDER] [--only laps,train]

A crash, a hang or an illegal access ends one question and none of the others. Each answer is a line
of results.jsonl as soon as it is known; what was printed is in log.txt. The most telling questions
come first, and the last ones get what time is left. CIFAR-10 comes by pack_cifar.py. A second run,
after what failed was mended, asks --only laps,compiled,train,profile. With MINSWIN_HOST_CUDA=1 all
is tried small, without a GPU (on_device_questions.py).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LEAST, SPARE = 8, 3  # seconds: to begin a question, and to write its answer
ASK = (sys.executable, str(ROOT / "tests" / "on_device_questions.py"))
TEST = (
    sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--tb=short", "-p", "no:xdist",
    "--maxfail=8", "-p", "no:cacheprovider", "-o", "filterwarnings=default",
)  # fmt: skip
KERNELS = (
    "softmax", "layer_norm or batch_norm", "gelu or dropout", "cross_entropy", "mlp", "stepped",
    "shifted or begins_anywhere", "bits or operation",
    "linear or matmul or conv2d or resize or bias",
)  # fmt: skip
ON_HOST = os.environ.get("MINSWIN_HOST_CUDA") == "1"
RACES = (("swin_cifar", "512"), ("swin_tiny", "64"), ("swin_cifar", "128"))
RACES = (("swin_shapes", "2"),) if ON_HOST else RACES
PRECISIONS = ("tf32", "bfloat16", "float32")
CACHES = {  # what one process compiles with PyTorch, another finds
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/on_device/torch",
    "TORCHINDUCTOR_FX_GRAPH_CACHE": "1", "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
}  # fmt: skip


class Question(NamedTuple):
    """Commands, how many of them at once, and seconds for each."""

    name: str
    commands: list[tuple[str, ...]]
    at_once: int
    seconds: int


def questions(data: str | None) -> list[Question]:
    """All of them, in the order in which they are asked; those that need CIFAR-10 only with it.

    Right first (kernels, what can be recorded, whole steps at the sizes of the race), then fast.
    PyTorch compiles for minutes, so this begins beside the tests, which leave most cores idle.
    """
    train = (*ASK, "train", "--device", "gpu", "--quiet", "--overwrite")
    size = ("--batch-size", "16", "--epochs", "1") if ON_HOST else ("--batch-size", "512")
    cifar = (
        *train, "--data", "cifar10", "--data-dir", data or "", "--lr", "2e-3", "--warmup", "1",
        "--precision", "tf32", "--checkpoint-every", "0",
    )  # fmt: skip
    shapes = (*train, "--data", "shapes", "--epochs", "1", "-o", "/tmp/on_device/shapes")
    few = ("--count", "64", "--holdout", "32") if ON_HOST else ()
    short = Question(
        "train cifar 2", [(*cifar, "--epochs", "2", *size, "-o", "/tmp/on_device/2")], 1, 60
    )
    long = Question(
        "train cifar", [(*cifar, "--epochs", "60", *size, "-o", "/tmp/on_device/60")], 1, 200
    )
    runs = (
        "test_capture",
        "test_device_models",
        "test_device_runs",
        "test_devices",
        "test_residual",
    )
    tests = [(*TEST, f"tests/{name}.py") for name in runs]
    compiled = [(*ASK, "lap", *race, "compiled", *PRECISIONS) for race in RACES]
    laps = [
        (*ASK, "lap", *race, w, *PRECISIONS) for race in RACES for w in ("minswin", "eager", "sdpa")
    ]
    sanitize = ("-x", "-m", "gpu", "tests/test_gpu.py", "-k", "bits and attention")
    return [
        Question("environment", [(*ASK, "environment")], 1, 40),
        Question("kernels", [(*TEST, "tests/test_gpu.py", "-k", k) for k in KERNELS], 5, 60),
        Question("capture", [(*ASK, "capture")], 1, 40),
        Question("steps", [(*ASK, "steps", *race) for race in RACES[:2]], 2, 40),
        Question("runs", [*tests, *compiled], 7, 100),
        Question("laps", laps, 1, 40),
        Question("compiled", compiled, 1, 60),
        *([short] if data else []),
        Question("profile", [(*ASK, "profile", *race) for race in RACES[:2]], 1, 40),
        Question("train shapes", [(*shapes, *few)], 1, 40),
        Question("memory", [
            ("compute-sanitizer", "--tool", tool, sys.executable, "-m", "pytest", *sanitize)
            for tool in ("memcheck", "racecheck")], 2, 60),
        *([long] if data else []),
    ]  # fmt: skip


class Book:
    """Asks until its time is over, and writes what it hears."""

    def __init__(self, out: Path, seconds: float) -> None:
        self.out, self.end, self.lock = out, time.monotonic() + seconds, threading.Lock()
        out.mkdir(parents=True, exist_ok=True)

    def ask(self, name: str, command: tuple[str, ...], seconds: float) -> None:
        left, began = self.end - time.monotonic(), time.monotonic()
        if left < LEAST:
            self.write(name, command, "no time left", 0.0, "")
            return
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        setting = {
            "PYTHONUNBUFFERED": "1",
            "MINSWIN_REQUIRE_GPU": "1",
            "PYTHONPATH": path,
            **CACHES,
        }
        status, text = run(command, min(seconds, left - SPARE), {**os.environ, **setting})
        self.write(name, command, status, time.monotonic() - began, text)

    def write(
        self, name: str, command: tuple[str, ...], status: str, took: float, text: str
    ) -> None:
        answers = [json.loads(x[7:]) for x in text.splitlines() if x.startswith("ANSWER ")]
        tests = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped)", text)}
        row = {
            "name": name, "command": command[-6:], "status": status, "seconds": round(took, 1),
            "tests": tests, "answers": answers,
        }  # fmt: skip
        with self.lock:
            with (self.out / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            with (self.out / "log.txt").open("a") as file:
                file.write(f"\n{name} {command[-6:]} {status} {took:.1f} s\n{text[-60_000:]}\n")
            shown = tests or json.dumps(answers)[:300]
            print(f"{took:6.1f} s  {status:18} {name}: {shown}", flush=True)


def run(command: tuple[str, ...], seconds: float, environment: dict[str, str]) -> tuple[str, str]:
    """How it ended and what it printed; stopped with its children after `seconds`.

    It prints into a file: a pipe would be held open by a child that has left its parent's session.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as printed:
        try:
            work = subprocess.Popen(
                command, cwd=ROOT, env=environment, start_new_session=True,
                stdout=printed, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            return f"not started: {error}", ""
        try:
            status = f"exit {work.wait(seconds)}"
        except subprocess.TimeoutExpired:
            os.killpg(work.pid, signal.SIGKILL)  # a session of its own: it and its children
            work.wait()
            status = f"stopped after {seconds:.0f} s"
        printed.seek(0)
        return status, printed.read()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=340.0, help="for all questions")
    parser.add_argument("--data", help="the folder that holds cifar-10-batches-bin")
    parser.add_argument("--only", default="", help="names of questions, as laps,train")
    chosen = parser.parse_args(arguments)
    book, wanted = Book(chosen.out, chosen.seconds), [w for w in chosen.only.split(",") if w]
    for question in questions(chosen.data):
        if wanted and question.name.split()[0] not in wanted:
            continue
        with ThreadPoolExecutor(question.at_once) as pool:
            asked = [
                pool.submit(book.ask, question.name, command, question.seconds)
                for command in question.commands
            ]
        for future in asked:
            future.result()


if __name__ == "__main__":
    main()
