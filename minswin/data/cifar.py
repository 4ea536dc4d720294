"""CIFAR-10 and CIFAR-100 from their official binary files: reading and fetching.

A file is a run of records, each one or two label bytes and 3,072 bytes of image: red, green and
blue plane of 32 rows of 32. Reading them needs no pickle, so a foreign file can do no harm.
Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html, section "Binary version".
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minswin import opening
from minswin.bar import Bar
from minswin.data.archives import read_members
from minswin.data.dataset import Dataset
from minswin.replacing import replacing

SIDE = 32
PIXELS = 3 * SIDE * SIDE
CHUNK = 1 << 18


@dataclass(frozen=True)
class Layout:
    """What one of the two sets looks like on disk. The last label byte is the class."""

    archive: str
    md5: str
    folder: str
    meta: str
    labels: tuple[int, ...]
    files: dict[str, tuple[str, ...]]
    records: dict[str, int]
    pickled: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"https://www.cs.toronto.edu/~kriz/{self.archive}"


LAYOUTS = {
    "cifar10": Layout(
        archive="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        meta="batches.meta.txt",
        labels=(10,),
        files={
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        records={"train": 10_000, "test": 10_000},
        pickled=("data_batch_1", "batches.meta", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    ),
    "cifar100": Layout(
        archive="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        meta="fine_label_names.txt",
        labels=(20, 100),
        files={"train": ("train.bin",), "test": ("test.bin",)},
        records={"train": 50_000, "test": 10_000},
        pickled=("meta", "cifar-100-python", "cifar-100-python.tar.gz"),
    ),
}


def read_cifar(
    path: str | os.PathLike[str],
    *,
    name: str = "cifar10",
    split: str = "train",
    records: int | None = None,
) -> Dataset:
    """Read one split of CIFAR-10 or CIFAR-100 in the binary version.

    `path` is the folder of the files, a folder that holds the official folder or an archive named
    like it, or an archive (.tar.gz, .tar.xz) of any name, which is read to its end, so that its
    check sum is verified. `records` per file differs from the official number in tests only.
    """
    layout = _layout("read_cifar", name)
    if split not in layout.files:
        raise ValueError(f"read_cifar: split is {split!r}, expected 'train' or 'test'")
    wanted = layout.files[split]
    count = layout.records[split] if records is None else records
    sizes = dict.fromkeys(wanted, f"{count * (len(layout.labels) + PIXELS):,} bytes")
    sizes[layout.meta] = f"{layout.labels[-1]} names"
    place, contents = _read_files(Path(path).absolute(), sizes, layout)
    parts = [_parse(place / file, contents[file], count, layout.labels) for file in wanted]
    return Dataset(
        images=np.concatenate([images for images, _ in parts]),  # (N, 3, 32, 32)
        labels=np.concatenate([labels for _, labels in parts]),  # (N,)
        classes=_class_names(place / layout.meta, contents[layout.meta], layout.labels[-1]),
        name=name,
    )


def download(
    name: str,
    folder: str | os.PathLike[str],
    *,
    url: str | None = None,
    md5: str | None = None,
    progress: bool = True,
) -> Path:
    """Fetch the official archive of a set into `folder`, check its sum, and give its path.

    An archive that is there already and has the right sum is not fetched again.
    """
    layout = _layout("download", name)
    url, md5 = url or layout.url, md5 or layout.md5
    target = Path(folder) / layout.archive
    if target.is_file() and _md5(target) == md5:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, who="download") as part:
        digest = _fetch(url, part, progress=progress)
        if digest != md5:
            raise ValueError(
                f"download: {url} has the md5 sum {digest}, expected {md5}; the "
                f"{part.stat().st_size:,} bytes that came were deleted: try again"
            )
    return target


def _layout(who: str, name: str) -> Layout:
    if name not in LAYOUTS:
        raise ValueError(f"{who}: name is {name!r}, expected 'cifar10' or 'cifar100'")
    return LAYOUTS[name]


# ---- finding the files -----------------------------------------------------------------------


def _read_files(path: Path, sizes: dict[str, str], layout: Layout) -> tuple[Path, dict[str, bytes]]:
    """The folder or archive under `path` that holds the set, and each file of `sizes` as bytes."""
    if path.is_file():
        return path, _read_archive(path, sizes, layout)
    if not path.exists():
        raise FileNotFoundError(
            f"read_cifar: there is no {path}; expected the folder or the archive of the binary "
            f"version, {layout.url}"
        )
    if not path.is_dir():
        opening.require_file(path, who="read_cifar")
    for folder in (path, path / layout.folder):
        if any((folder / file).exists() for file in sizes):
            return folder, _read_folder(folder, sizes, layout)
    errors: list[ValueError | FileNotFoundError] = []
    for archive in _archives(path, layout):
        try:
            return archive, _read_archive(archive, sizes, layout)
        except (ValueError, FileNotFoundError) as error:
            errors.append(error)
    if errors:  # damage is reported before what is missing
        raise min(errors, key=lambda error: isinstance(error, FileNotFoundError))
    return path, _read_folder(path, sizes, layout)


def _archives(folder: Path, layout: Layout) -> list[Path]:
    """The archives in `folder` whose name begins like the set's, the official one first."""
    starts = (layout.folder, layout.archive.removesuffix(".tar.gz"))
    named = [entry for entry in folder.iterdir() if entry.name.startswith(starts)]
    archives = [entry for entry in named if entry.name.endswith((".tar.gz", ".tar.xz"))]
    files = (entry for entry in archives if entry.is_file())
    return sorted(files, key=lambda entry: (entry.name != layout.archive, entry.name))


def _read_folder(folder: Path, sizes: dict[str, str], layout: Layout) -> dict[str, bytes]:
    present = sorted(entry.name for entry in folder.iterdir())
    for file in sizes:
        if (folder / file).is_dir():
            raise ValueError(
                f"read_cifar: {folder / file} is a folder, expected a file of {sizes[file]}; "
                "remove it and fetch the file again"
            )
    _expect_all(folder, sizes, present, layout)
    return {file: opening.read_file(folder / file, who="read_cifar") for file in sizes}


def _read_archive(archive: Path, sizes: dict[str, str], layout: Layout) -> dict[str, bytes]:
    try:
        contents, present = read_members(archive, sizes)
    except ValueError as error:
        raise ValueError(f"read_cifar: {error}; fetch it again") from error
    _expect_all(archive, sizes, present, layout)
    return contents


def _expect_all(place: Path, sizes: dict[str, str], present: list[str], layout: Layout) -> None:
    missing = [f"{file} ({size})" for file, size in sizes.items() if file not in present]
    if not missing:
        return
    if any(file in layout.pickled for file in present):
        raise FileNotFoundError(
            f"read_cifar: {place} holds the python version, whose files are pickles; they can run "
            f"code and are not read. Fetch the binary version instead: {layout.url}"
        )
    listed = ", ".join(present[:12]) + (", ..." if len(present) > 12 else "")
    raise FileNotFoundError(
        f"read_cifar: {place} has no {', '.join(missing)}; found: {listed or 'nothing'}. "
        f"Expected the files of {layout.url}"
    )


# ---- reading the files -----------------------------------------------------------------------


def _parse(
    file: Path, content: bytes, records: int, labels: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels (N,) of one file of N records."""
    expected = records * (len(labels) + PIXELS)
    if len(content) != expected:
        why = "is cut off" if len(content) < expected else "is another one"
        raise ValueError(
            f"read_cifar: {file} has {len(content):,} bytes, expected {expected:,}; "
            f"the file {why}: fetch it again"
        )
    table = np.frombuffer(content, np.uint8).reshape(records, -1)  # (N, labels + 3072)
    for byte, limit in enumerate(labels):
        wrong = np.flatnonzero(table[:, byte] >= limit)
        if wrong.size:
            raise ValueError(
                f"read_cifar: {file}, record {wrong[0]}: label byte {byte} is "
                f"{table[wrong[0], byte]}, expected 0 to {limit - 1}; "
                "the file is damaged or another one: fetch it again"
            )
    images = table[:, len(labels) :].reshape(records, 3, SIDE, SIDE)
    return images, table[:, len(labels) - 1].astype(np.int64)


def _class_names(file: Path, content: bytes, expected: int) -> tuple[str, ...]:
    names = tuple(content.decode("utf-8", errors="replace").split())
    if len(names) != expected:
        raise ValueError(f"read_cifar: {file} has {len(names)} names, expected {expected}")
    return names


# ---- fetching --------------------------------------------------------------------------------


def _fetch(url: str, part: Path, *, progress: bool) -> str:
    """Write what `url` gives into `part`, and give the md5 sum of it."""
    digest, chunks = hashlib.md5(usedforsecurity=False), _chunks(url)
    size = int(next(chunks))
    if progress and not sys.stderr.isatty():  # in a log one line is enough
        print(f"download: {url}", file=sys.stderr, flush=True)
    bar = Bar(size or None, unit="B", label=url.split("/")[-1], shown=None if progress else False)
    with part.open("wb") as out, bar:
        for chunk in chunks:
            out.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _chunks(url: str) -> Iterator[bytes]:
    """The size that `url` announces (0: none), and then its bytes, part by part."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            yield (answer.headers.get("Content-Length") or "0").encode()
            while chunk := answer.read(CHUNK):
                yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"download: {url} could not be fetched ({error})") from error


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
