"""Weights that come with the package, and how a run becomes such a file: weights alone, halved."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minswin.replacing import require_replaceable
from minswin.training.checkpoints import (
    find_checkpoint,
    read_checkpoint,
    save_exported,
    write_info,
)
from minswin.weights.files import FORMATS, save_weights

FOLDER = Path(__file__).parent.with_name("pretrained")
DEFAULT = "swin_cifar_small"  # the model of `minswin predict` without a checkpoint


def pretrained() -> dict[str, Path]:
    """The weights that come with the package, by name; a model card lies beside each."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def find_trained(name: Path | str) -> Path:
    """The checkpoint called `name`: a file, the folder of a run, or weights of the package.

    What is on disk comes first.
    """
    if not Path(name).exists() and str(name) in pretrained():
        return pretrained()[str(name)]
    return find_checkpoint(name)


def export(run: Path | str, out: Path | str) -> None:
    """Write what classifying needs of a checkpoint, and no more: float16 weights, and what it is.

    out: .safetensors, .npz or .pth (.pt); the first also holds what `minswin evaluate` needs, of
    the others that stands in the .json beside them. The weights have the original's names.
    Where the run kept an average of the weights, the average is taken. Integers, such as the
    count of batches that a batch norm keeps, stay as they are.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        raise ValueError(
            f"export: {out} ends in {out.suffix or 'nothing'!r}, which is no format of weights; "
            f"use one of {', '.join(FORMATS)}"
        )
    for file in (out, out.with_suffix(".json")):
        require_replaceable(file, who="export")
    checkpoint = read_checkpoint(find_checkpoint(run))
    weights = {**checkpoint.weights, **checkpoint.average}
    real = {name: array for name, array in weights.items() if array.dtype.kind == "f"}
    too_large = [name for name, array in real.items() if not np.abs(array).max() < 65_504]
    if too_large:
        raise ValueError(
            f"export: {too_large[0]} of {run} holds numbers beyond the range of float16; keep the "
            "checkpoint as it is"
        )
    halved = {**weights, **{name: array.astype(np.float16) for name, array in real.items()}}
    without_folders = {"data_dir": None, "teacher": None, "out": ""}  # no folders of this machine
    settings = {**checkpoint.info["settings"], **without_folders}
    info = {**checkpoint.info, "settings": settings}
    if FORMATS[out.suffix] == "safetensors":
        save_exported(out, info, halved)
    else:
        save_weights(out, halved)
        write_info(out, info)
