"""Your own pictures: a folder that has a folder of pictures for each class, as in ImageFolder.

    photos/cat/1.jpg   photos/cat/2.png   photos/dog/1.jpg   …

Which pictures test is decided by the digests of their names: the smallest of each class, up to a
cut. A run keeps the cuts, and for it each picture that keeps its name stays on its side when others
come or go. Where `photos` has the folders train and test (or val) with the classes in them, these
are the two sides.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minswin import opening
from minswin.arguments import whole
from minswin.bar import Bar
from minswin.data.dataset import Dataset
from minswin.data.pictures import read_image

Tell = Callable[[str], None]

ONE_IN = 5  # pictures of a class is for testing
MOST_NAMED = 20  # of the files that are left out
TESTS = "test", "val", "validation"  # how the folder beside "train" may be called
SPLITS = "train", "test", "all"


class Listing(NamedTuple):
    """The pictures of a folder before any was opened: which there are, what they show, which test.

    sides: the files of "train" and of "test", each with the number of its class
    left_out: a line for each file that is not among them
    cuts: the largest digest that tests, by class; of two folders for the two sides there is none
    """

    classes: tuple[str, ...]
    sides: dict[str, list[tuple[Path, int]]]
    left_out: list[str]
    cuts: dict[str, str]


def list_pictures(
    folder: str | os.PathLike[str], *, cuts: Mapping[str, str] | None = None
) -> Listing:
    """Look through a folder of classes; what has a name that begins with a dot is ignored.

    Of files with the same bytes only one is taken: a picture must not both teach and test. It is
    one of the first class that has them; where the sides go by digests, that with the largest, so
    that a picture that teaches does not test by a copy of the same class that comes later.
    cuts: those of an earlier listing, by class; without one, a fifth of a class tests
    Raises ValueError where there are fewer than two classes, or too few pictures of one.
    """
    top = Path(folder)
    if not all(isinstance(cut, str) for cut in dict(cuts or {}).values()):
        raise TypeError("load: cuts must be texts by class, as an earlier listing has them")
    if not top.is_dir():
        raise FileNotFoundError(f"load: there is no folder {top}; give one that has classes in it")
    roots = roots_of(top)
    by_side = {side: _classes_of(root) for side, root in roots.items()}
    classes = _common_classes(top, by_side)
    files = []
    for side, by_class in by_side.items():
        for name, of_class in by_class.items():
            files += _by_digest(roots[side] / name, of_class)[::-1] if side == "all" else of_class
    copies = _copies(files)
    sides: dict[str, list[tuple[Path, int]]] = {"train": [], "test": []}
    used: dict[str, str] = {}
    for side, by_class in by_side.items():
        for number, name in enumerate(classes):
            files, place = [f for f in by_class[name] if f not in copies], roots[side] / name
            if by_class[name] and not files:
                first = by_class[name][0]
                raise ValueError(
                    f"load: all pictures of {place} are copies of others: {first} is the same file "
                    f"as {copies[first]}; remove the class, or put other pictures in"
                )
            parts = {side: files}
            if side == "all":
                used[name] = (cuts or {}).get(name) or _cut(place, files)
                parts = _part(place, files, used[name])
            for part, members in parts.items():
                if not members:
                    raise ValueError(f"load: {place} has no picture to {part} with; put some in")
                sides[part] += [(file, number) for file in members]
    left_out = [f"{path}: not in the folder of a class" for path in _outside(roots.values())]
    no_files = [_files(roots[s] / name, others=True) for s, of in by_side.items() for name in of]
    left_out += [f"{path} {opening.NO_FILE}" for paths in no_files for path in sorted(paths)]
    left_out += [f"{copy}: the same file as {first}" for copy, first in sorted(copies.items())]
    return Listing(classes, sides, left_out, used)


def roots_of(top: Path) -> dict[str, Path]:
    """The folders that hold those of the classes: of both sides, or one of "all"."""
    tests = [top / name for name in TESTS if _holds_folders(top / name)]
    if tests and _holds_folders(top / "train"):
        return {"train": top / "train", "test": tests[0]}
    return {"all": top}


def _outside(roots: Iterable[Path]) -> list[Path]:
    """The files that lie beside the folders of the classes."""
    entries = [entry for root in roots for entry in sorted(root.iterdir())]
    return [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]


def _holds_folders(path: Path) -> bool:
    return path.is_dir() and any(entry.is_dir() for entry in path.iterdir())


def _classes_of(root: Path) -> dict[str, list[Path]]:
    """The files under each folder in `root`, in the order of their names."""
    folders = sorted(e for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    return {folder.name: sorted(_files(folder)) for folder in folders}


def _files(folder: Path, *, others: bool = False) -> Iterable[Path]:
    """The files under a folder; others: instead of them, what is none, such as a pipe."""
    for place, folders, names in os.walk(folder):
        folders[:] = (name for name in folders if not name.startswith("."))  # .thumbnails, say
        shown = (Path(place) / name for name in names if not name.startswith("."))
        yield from (path for path in shown if opening.is_file_or_lost(path) != others)


def _common_classes(top: Path, by_side: dict[str, dict[str, list[Path]]]) -> tuple[str, ...]:
    classes, *others = (tuple(by_class) for by_class in by_side.values())
    if len(classes) < 2:
        has = f"only {classes[0]!r}" if classes else "none"
        raise ValueError(
            f"load: {top} must have a folder of pictures for each of two classes or more, as "
            f"{top.name}/cat/1.jpg and {top.name}/dog/1.jpg; it has {has}"
        )
    alone = sorted({name for names in others for name in set(names) ^ set(classes)})
    if alone:
        raise ValueError(
            f"load: {top} has the class {alone[0]!r} on one of its two sides only; put pictures of "
            "each class on both"
        )
    return classes


def _copies(files: list[Path]) -> dict[Path, Path]:
    """The files that have the bytes of an earlier one, and that one. Few have to be read.

    What cannot be read, such as a link to nowhere, is no copy: it is told when it is to be opened.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in files:
        with suppress(OSError):
            by_size[file.stat().st_size].append(file)
    copies = {}
    for same_size in by_size.values():
        firsts: dict[bytes, Path] = {}
        for file in same_size if len(same_size) > 1 else ():
            with suppress(OSError):
                content = opening.read_file(file, who="load")
                first = firsts.setdefault(hashlib.sha256(content).digest(), file)
                if first is not file:
                    copies[file] = first
    return copies


def _cut(folder: Path, files: list[Path]) -> str:
    """The largest digest that tests, where a fifth of a class does, one picture at least."""
    if len(files) < 2:
        raise ValueError(
            f"load: {folder} has {len(files) or 'no'} picture, expected 2 or more: one to learn "
            "from, one to test with"
        )
    count = max(1, round(len(files) / ONE_IN))
    return sorted(_digest(folder, file) for file in files)[count - 1]


def _part(folder: Path, files: list[Path], cut: str) -> dict[str, list[Path]]:
    """The two sides of a class: those that test in the order of their digests."""
    tests = [file for file in _by_digest(folder, files) if _digest(folder, file) <= cut]
    return {"train": [file for file in files if _digest(folder, file) > cut], "test": tests}


def _by_digest(folder: Path, files: list[Path]) -> list[Path]:
    return sorted(files, key=lambda file: _digest(folder, file))


def _digest(folder: Path, file: Path) -> str:
    """Of the name that a picture has in the folder of its class: 64 bits as hexadecimal digits."""
    return digest_of(file.relative_to(folder).as_posix())


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def read_folder(
    folder: str | os.PathLike[str],
    *,
    split: str,
    size: int,
    count: int | None = None,
    cuts: Mapping[str, str] | None = None,
    tell: Tell | None = None,
) -> Dataset:
    """The pictures of one side, or of "all", squeezed to size×size: 3·size² bytes each in memory.

    count: only this many, spread evenly over the list   cuts: see list_pictures
    tell: is called with a line on each file that is left out: broken, a copy, or in no class
    Raises ValueError where no picture of a class can be read.
    """
    if split not in SPLITS:
        raise ValueError(f"load: split is {split!r}, expected one of {', '.join(SPLITS)}")
    size = whole("load", "size", size)
    listing = list_pictures(folder, cuts=cuts)
    left_out = [] if split == "test" else list(listing.left_out)
    both = [*listing.sides["train"], *listing.sides["test"]]
    files = both if split == "all" else listing.sides[split]
    if count is not None:
        if whole("load", "count", count) > len(files):
            raise ValueError(f"load: count is {count}, expected 1 to {len(files)}")
        files = [files[i * len(files) // count] for i in range(count)]
    _require_memory(len(files), size)
    images, labels = [], []
    with Bar(len(files), unit="picture", label=str(folder)) as bar:
        for file, number in files:
            try:
                images.append(read_image(file, height=size, width=size, who="load"))
                labels.append(number)
            except (ValueError, OSError) as error:
                left_out.append(str(error).removeprefix("load: "))
            bar.update()
    _tell(left_out, tell)
    _require_each(listing.classes, labels, Path(folder), split, chosen=count is not None)
    name = Path(folder).resolve().name + "/"  # with the slash it is the name of no built-in set
    return Dataset(np.stack(images), np.array(labels, np.int64), listing.classes, name)


def _require_memory(count: int, size: int) -> None:
    """Raise where a machine cannot hold the pictures, instead of being ended by it."""
    need = 2 * 3 * size**2 * count  # one by one, and then as one array
    with suppress(OSError, ValueError, AttributeError):  # of systems that do not tell
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if need > memory > 0:
            raise MemoryError(
                f"load: {count:,} pictures of {size}×{size} take {need:,} bytes while they are "
                f"read, and this machine has {memory:,}; choose a smaller --size"
            )


def _tell(left_out: list[str], tell: Tell | None) -> None:
    if tell is None:
        return
    for line in left_out[:MOST_NAMED]:
        tell(f"left out: {line}")
    if len(left_out) > MOST_NAMED:
        tell(f"left out: {len(left_out) - MOST_NAMED:,} more files")


def _require_each(
    classes: tuple[str, ...], labels: list[int], folder: Path, split: str, *, chosen: bool
) -> None:
    missing = [name for number, name in enumerate(classes) if number not in set(labels)]
    if missing and not (chosen and labels):
        raise ValueError(
            f"load: of the class {missing[0]!r} of {folder} no picture to {split} on can be read; "
            "put others in, or remove the class"
        )
