"""A small CIFAR set as files, as an archive, and served by a web server of this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from minswin.data.cifar import LAYOUTS

RECORDS = 3
NAMES = {"cifar10": 10, "cifar100": 100}


def make(name):
    """The files of a small set as bytes, and the images and labels that went into each."""
    layout = LAYOUTS[name]
    rng = np.random.default_rng(len(name))
    content, truth = {}, {}
    for file in (*layout.files["train"], *layout.files["test"]):
        images = rng.integers(0, 256, (RECORDS, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(0, layout.labels, (RECORDS, len(layout.labels)), dtype=np.uint8)
        content[file] = b"".join(
            bytes(label) + bytes(image) for label, image in zip(labels, images, strict=True)
        )
        truth[file] = images, labels[:, -1].astype(np.int64)
    names = [f"thing_{i}" for i in range(NAMES[name])]
    content[layout.meta] = "".join(f"{line}\n" for line in [*names, ""]).encode()
    return content, truth, tuple(names)


def write(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in content.items():
        (folder / file).write_bytes(value)
    return folder


def pack(path, content, prefix="", mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for file, value in content.items():
            member = tarfile.TarInfo(f"{prefix}{file}")
            member.size = len(value)
            archive.addfile(member, io.BytesIO(value))
    return path


def same(one, other):
    return (
        np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
        and (one.classes, one.name) == (other.classes, other.name)
    )


@pytest.fixture
def server(tmp_path):
    """Serves tmp_path/served on this machine; gives its address and the list of paths asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}", asked
        finally:
            running.shutdown()
            thread.join()


def served(tmp_path):
    """Puts an archive where the server looks; gives its md5 sum and the files in it."""
    content, _, _ = make("cifar10")
    path = pack(tmp_path / "served" / "set.tar.gz", content, "cifar-10-batches-bin/")
    return hashlib.md5(path.read_bytes()).hexdigest(), content
