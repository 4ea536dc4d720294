"""Which images a run learnt from: found again from anywhere, known again by whatever path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minswin.data import NAMES, list_pictures
from minswin.data.folders import Listing, digest_of
from minswin.training.checkpoints import find_trained, read_checkpoint
from minswin.training.inputs import Cuts, Images, tell
from minswin.training.settings import Settings

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
    decides, or the names of its pictures: of those that a run may have learnt from, only those for
    testing are new to it.
    """
    learnt, folder = info["settings"]["data"], info.get("folder")
    if data in NAMES or learnt in NAMES:
        return bool(data == learnt)
    if folder is not None and os.path.isdir(folder):
        return os.path.samefile(data, folder)
    if data == learnt:
        return True
    if f"{Path(data).resolve().name}/" == info["data"]["name"]:
        known = "its name"
    elif "split" in info["data"] and _has_learnt(data, info):
        known = "the names of its pictures"
    else:
        return False
    tell(f"{data} is taken for the folder that the run learnt from, by {known}")
    return True


def _has_learnt(data: str, info: Info) -> bool:
    """Whether the pictures of a folder to learn from have the names that those of a run had."""
    try:
        split = split_of(data, cuts_of(info))
    except (ValueError, OSError):  # no folder of classes: told where it is read
        return False
    return split is not None and split["files"] == info["data"]["split"]["files"]


# ── the sides of a folder of pictures ────────────────────────────────────────────────────────────


def split_of(place: str, cuts: Cuts | None) -> dict[str, Any] | None:
    """What a run keeps of a folder: its cuts, and a digest of the names of the files that teach.

    None of a set with a name.
    """
    if place in NAMES:
        return None
    return _split(place, list_pictures(place, cuts=cuts))


def _split(place: str, listing: Listing) -> dict[str, Any]:
    names = sorted(file.relative_to(place).as_posix() for file, _ in listing.sides["train"])
    return {"cuts": listing.cuts, "files": digest_of("\n".join(names))}


def cuts_of(info: Info) -> Cuts | None:
    """The cuts that a run keeps; None of a named set, and of a run of before they were kept."""
    split = info["data"].get("split")
    return split["cuts"] if split else None


def cuts_to_begin_with(settings: Settings) -> Cuts | None:
    """The cuts of those that a run begins with or learns from, where they know its pictures.

    What one of them learnt from must not test: of two cuts the smaller one holds.
    """
    cuts: dict[str, str] = {}
    for path in filter(None, (settings.weights, settings.teacher)):
        try:
            info = read_checkpoint(find_trained(path)).info
            known = cuts_of(info) if is_learnt(settings.data, info) else None
        except (KeyError, ValueError, OSError):  # weights of others, or none: told elsewhere
            known = None
        for name, cut in (known or {}).items():
            cuts[name] = min(cut, cuts.get(name, cut))
    return cuts or None


def tell_if_changed(place: str, info: Info) -> None:
    """Say so where a folder has not the pictures to learn from that a run began with.

    With cuts those that have come teach or test as they would have; one with another name may not.
    Without cuts only their number is known, and only of those that could be read.
    """
    listing = list_pictures(place, cuts=cuts_of(info))
    if "split" in info["data"]:
        if _split(place, listing)["files"] != info["data"]["split"]["files"]:
            tell(
                f"{place} has other pictures to learn from than when the run began, or other names "
                "of them: a picture that was renamed may test now though the run learnt from it"
            )
    elif info["settings"].get("count") is None and "images" in info["data"]:
        count = len(listing.sides["train"])
        began = info["data"]["images"] + info["settings"]["holdout"]
        if began != count:
            tell(
                f"{place} may have other pictures than when the run began ({count:,} to learn "
                f"from, perhaps not all readable; {began:,} then): if so, it may have learnt from "
                "some that test now"
            )


def require_same_images(
    train: Images, info: Info, split: Mapping[str, Any] | None, *, who: str, run: Path | str
) -> None:
    """Raise unless the training images are those that a run began with, of the same classes.

    split: of their folder, see split_of
    """
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
    if split and split["files"] != info["data"].get("split", split)["files"]:
        raise ValueError(
            f"{who}: {run} was trained on as many pictures of '{train.name}', but on other ones: "
            f"some have come, gone or been renamed; give the folder of the same files with {where}"
        )
