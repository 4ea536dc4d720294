"""Which images a run learnt from: found again from anywhere, known again by whatever path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minswin.data import NAMES
from minswin.training.inputs import Images, tell

Info = Mapping[str, Any]  # of a checkpoint


def place_of(info: Info, *, who: str) -> str:
    """The data of a run: the name of a set, or the folder of pictures, where it was or is named.

    Raises FileNotFoundError where that folder is in neither place.
    """
    named, folder = info["settings"]["data"], info.get("folder")
    for place in filter(None, (folder, named)):
        if place in NAMES or os.path.isdir(place):
            return str(place)
    raise FileNotFoundError(
        f"{who}: the run learnt from the pictures in {folder or named}, and there is no such "
        "folder; say where it is now with --data"
    )


def require_folder_of(info: Info, data: str) -> None:
    """Raise unless `data` can be the folder of a run's pictures, which may have moved."""
    learnt = info["settings"]["data"]
    if data != learnt and (learnt in NAMES or data in NAMES):
        raise ValueError(
            f"train: with --resume, --data says where a folder of pictures is now; the run learns "
            f"from '{learnt}', not from '{data}': leave it out, or start another run"
        )


def is_learnt(data: str, info: Info) -> bool:
    """Whether these are the data that a run learnt from, by whatever path they are named.

    Where its folder is not there any more, or not known, as of exported weights, the folder's name
    decides: of pictures that a run may have learnt from, only those for testing are new to it.
    """
    learnt, folder = info["settings"]["data"], info.get("folder")
    if data in NAMES or learnt in NAMES:
        return bool(data == learnt)
    if folder is not None and os.path.isdir(folder):
        return os.path.samefile(data, folder)
    if data == learnt:
        return True
    if f"{Path(data).resolve().name}/" != info["data"]["name"]:
        return False
    tell(f"{data} is taken for the folder that the run learnt from, by its name")
    return True


def require_same_images(train: Images, info: Info, *, who: str, run: Path | str) -> None:
    """Raise unless there are as many training images as a run began with, of the same classes."""
    began, classes = info["data"], list(train.classes)
    where = "--data-dir" if info["settings"]["data"] in NAMES else "--data"
    if began["classes"] != classes:
        old, new = next(
            ((a, b) for a, b in zip(began["classes"], classes, strict=False) if a != b),
            (f"{len(began['classes'])} of them", f"{len(classes)}"),
        )
        raise ValueError(
            f"{who}: {run} was trained on other classes of '{train.name}', or in another order: "
            f"where '{old}' was, there is '{new}' now; give them their names back, or give the "
            f"folder of the same files with {where}"
        )
    if began.get("images", len(train)) != len(train):
        raise ValueError(
            f"{who}: {run} was trained on {began['images']:,} images of '{train.name}', now there "
            f"are {len(train):,}; give the folder of the same files with {where}"
        )
