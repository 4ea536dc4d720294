"""A run on one's own pictures, from weights that were trained before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minswin import create_model, data
from minswin.models.registry import MODELS
from minswin.training import (
    Settings,
    load_trained_model,
    loop,
    read_checkpoint,
    recipe,
    resume,
    train,
)
from minswin.training.checkpoints import LAST
from minswin.training.starting import begin_with, model_of
from minswin.weights import rename
from minswin.weights.files import save_weights

pytestmark = pytest.mark.usefixtures("tiny_of_pictures")


def started(settings: Settings) -> Any:
    """The model of a run before its first step: a learning rate of 0 moves nothing."""
    train(settings)
    return load_trained_model(settings.folder)[0]


def test_a_run_begins_with_the_weights_of_the_package_and_a_head_of_its_own(
    pictures: Path,
) -> None:
    settings = recipe(
        "pictures", weights="swin_cifar_small", epochs=1, lr=0.0, threads=1, out="run"
    )
    assert settings.model == "swin_cifar_small"
    state = started(settings).state_dict()
    fresh = create_model("swin_cifar_small", num_classes=3, rng=np.random.default_rng(0))
    begin_with(fresh, "swin_cifar_small")
    assert all(np.array_equal(state[name], x) for name, x in fresh.state_dict().items())
    info = read_checkpoint("run").info
    mean, std = data.STATISTICS["cifar10"]  # the images are normalised as those of the weights
    assert (info["data"]["mean"], info["data"]["std"]) == (list(mean), list(std))


def test_a_run_that_begins_with_another_has_its_settings_of_the_model(
    pictures: Path,
) -> None:
    common = {"epochs": 1, "lr": 0.0, "threads": 1}
    own = {"stem": "overlapping", "depths": [1]}
    first = started(recipe("pictures", model="tiny", model_settings=own, out="a", **common))
    again = recipe("pictures", weights="a", out="b", **common)
    assert (again.model, again.model_settings) == ("tiny", own)
    more = recipe("pictures", weights="a", model="tiny", model_settings={"shift": False})
    assert more.model_settings == {**own, "shift": False}  # what is said adds to it
    assert recipe("pictures", weights="a", model="swin_shapes").model_settings is None
    state = started(again).state_dict()
    assert np.array_equal(
        state["patch_embed.proj.weight"], first.state_dict()["patch_embed.proj.weight"]
    )


def test_weights_of_other_implementations_and_of_runs_are_begun_with(
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = create_model("tiny", num_classes=7, rng=1)
    save_weights(Path("theirs.safetensors"), rename(first.state_dict(), "minswin", "transformers"))
    common = {"epochs": 1, "lr": 0.0, "threads": 1}
    model = started(
        recipe("pictures", model="tiny", weights="theirs.safetensors", out="a", **common)
    )
    name = "layers.0.blocks.1.attn.qkv.weight"
    assert np.array_equal(model.state_dict()[name], first.state_dict()[name])
    assert model.head.weight.shape[0] == 3
    assert read_checkpoint("a").info["data"]["mean"] == [0.485, 0.456, 0.406]  # ImageNet's
    assert model_of("a") == ("tiny", None)
    second = started(recipe("pictures", weights="a", seed=3, out="b", **common))
    assert second.name == "tiny"
    assert np.array_equal(second.state_dict()[name], first.state_dict()[name])
    with pytest.raises(ValueError, match=r"theirs.safetensors fits .*; say which it is"):
        monkeypatch.delitem(MODELS, "tiny")
        model_of("theirs.safetensors")


def test_a_resumed_run_needs_no_weights_to_begin_with_and_has_the_same_bits(
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_weights(Path("start.safetensors"), create_model("tiny", num_classes=7, rng=1).state_dict())
    settings = {"model": "tiny", "weights": "start.safetensors", "epochs": 2, "threads": 1}
    train(recipe("pictures", out="whole", **settings))
    with monkeypatch.context() as patch:
        patch.setattr(loop.Interrupts, "received", lambda self: 2)
        train(recipe("pictures", out="part", **settings))
    assert read_checkpoint(Path("part", LAST)).info["step"] == 0
    Path("start.safetensors").unlink()
    resume("part")
    whole, part = (read_checkpoint(Path(folder, LAST)) for folder in ("whole", "part"))
    assert whole.info["data"] == part.info["data"]
    assert all(np.array_equal(x, part.weights[name]) for name, x in whole.weights.items())
