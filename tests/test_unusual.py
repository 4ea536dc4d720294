"""What nobody meant: it is refused in our words, before anything is lost, ignored or waited for."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import truth
from tiny_training import install, tiny_settings

from minswin import cli, create_model, data
from minswin.crosscheck import folder
from minswin.crosscheck import recipe as recipe_of_traces
from minswin.crosscheck.names import read_names
from minswin.crosscheck.trace import trace
from minswin.explain import explain
from minswin.training import Settings, evaluate, load_trained_model, recipe, resume, train
from minswin.training.checkpoints import BEST, LAST, export
from minswin.training.classifiers import published_classifier
from minswin.training.folder import require_apart
from minswin.weights import convert, load, read_weights, rename, save_weights

TINY = {"embed_dim": 6, "depths": (1,), "num_heads": (2,), "window_size": 2, "img_size": 8}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch)
    train(tiny_settings(tmp_path / "run", epochs=1, count=16), quiet=True)
    return tmp_path / "run"


def refused(capsys: Any, *arguments: object) -> str:
    assert cli.main([str(argument) for argument in arguments]) == 2
    err: str = capsys.readouterr().err
    return err


# ── what would be lost ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [BEST, LAST])
def test_no_checkpoint_is_replaced_by_weights_alone(run: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"export: .*{name} is (named twice|a checkpoint, with)"):
        export(run, run / name)
    for source in (run, run / name):
        with pytest.raises(ValueError, match=rf"convert: .*{name} is a checkpoint, without which"):
            convert(source, run / name)
    export(run, run / "small.safetensors")
    export(run, run / "small.safetensors")
    convert(run / "small.safetensors", run / "small.safetensors")
    assert resume(run, quiet=True).interrupted is None


def test_a_report_does_not_replace_a_file_of_a_trace(tmp_path: Path, capsys: Any) -> None:
    folder.write(truth(), tmp_path / "t")
    before = {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    for option in ("--json", "--html"):
        for name in before:
            said = refused(
                capsys, "compare", tmp_path / "t", tmp_path / "t", option, tmp_path / "t" / name
            )
            assert f"is a file of {tmp_path / 't'} and would be lost" in said
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    report = tmp_path / "t" / "report.json"
    assert (
        cli.main(["compare", str(tmp_path / "t"), str(tmp_path / "t"), "--json", str(report)]) == 0
    )
    assert json.loads(report.read_text("utf-8"))


@pytest.mark.parametrize(
    "out", ["pictures", "pictures/red", "pictures/runs/a", "pictures/../pictures/b"]
)
def test_a_run_is_not_kept_among_its_pictures(
    pictures: Path,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its curves.png would be one of them, and its folder a class."""
    monkeypatch.chdir(pictures.parent)
    with pytest.raises(
        ValueError, match=r"train: the run would be kept in \S+, among the pictures"
    ):
        train(recipe("pictures", epochs=1, out=out))
    monkeypatch.chdir(pictures)
    with pytest.raises(ValueError, match=r"kept in runs/pictures-\S+, among the pictures of \."):
        train(recipe(".", epochs=1))
    assert {path.name for path in pictures.iterdir()} == {"red", "green", "blue"}


def test_a_run_may_lie_where_no_pictures_are_looked_for(
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the folders of the two sides, and where a name begins with a dot."""
    top = pictures.with_name("set")
    shutil.copytree(pictures, top / "test")
    pictures.rename(top / "train")
    monkeypatch.chdir(top)
    for place, out in (".", "runs/a"), (".", "test/.runs/a"), ("train", "train/red/.runs/a"):
        require_apart(Settings(data=place, out=out))
    for place, out in (".", "train/a"), (".", "test/red"), (".", "test"), ("train", "train"):
        with pytest.raises(ValueError, match=f"kept in {out}, among the pictures of {place}, and"):
            require_apart(Settings(data=place, out=out))


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="the system does not tell its memory")
def test_pictures_that_no_memory_holds_are_refused(
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a machine of 100 pages; the system would end the process without a word."""
    memory = {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}
    with monkeypatch.context() as patch:
        patch.setattr(os, "sysconf", memory.__getitem__)
        with pytest.raises(
            MemoryError, match=r"24 pictures of 64×64 take 589,824 bytes .* 409,600;"
        ):
            data.read_folder(pictures, split="train", size=64)
        assert len(data.read_folder(pictures, split="train", size=32)) == 24


# ── what would be ignored ────────────────────────────────────────────────────────────────────────


def test_options_that_a_command_would_not_look_at_are_refused(run: Path, capsys: Any) -> None:
    save_weights(run / "w.npz", create_model("swin_shapes", rng=0, **TINY).state_dict())
    assert "info: --key chooses an entry of a" in refused(capsys, "info", "swin_tiny", "--key", "x")
    assert f"info: --key is not for {run}" in refused(capsys, "info", run, "--key", "x")
    for path in (run, run / "w.npz"):
        assert f"info: --img-size is not for {path}" in refused(
            capsys, "info", path, "--img-size", 64
        )
    assert "no probe's name contains nothing" in refused(
        capsys, "conform", "--list", "--only", "nothing"
    )


def test_a_model_that_the_weights_are_not_of_is_refused() -> None:
    state = create_model("swin_shapes", rng=0).state_dict()
    with pytest.raises(ValueError, match="weights are of a swin, and the model is a vit; give the"):
        rename(state, "microsoft", "timm", model=create_model("vit_cifar", rng=0))


def test_labels_that_are_not_one_for_each_image_are_refused() -> None:
    model = create_model("swin_shapes", rng=0, **TINY)
    images = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(
        ValueError, match=r"evaluate: labels must be \(1,\), a class for each image"
    ):
        evaluate(model, [(images, np.array([0, 1]))])
    for batches in ([], [(images[:0], np.zeros(0, int))]):
        with pytest.raises(ValueError, match="evaluate: batches hold no image; give at least one"):
            evaluate(model, batches)


# ── what would be told too late ──────────────────────────────────────────────────────────────────

STEPS = [
    {"lr": np.nan},
    {"clip": -1.0},
    {"smoothing": 2.0},
    {"ema": 2.0},
    {"warmup": 5},
    {"optimizer": "adamw", "lr": -1.0},
]


@pytest.mark.parametrize("settings", STEPS)
def test_settings_of_steps_are_refused_before_a_pass(settings: dict[str, Any]) -> None:
    def build(dtype: Any) -> Any:
        raise AssertionError("a model is built")

    with pytest.raises(ValueError, match=r"^\w+: "):
        trace(build, np.zeros((1, 3, 8, 8)), np.zeros(1, int), steps=2, **settings)


# ── what would be told in the words of others ────────────────────────────────────────────────────


def images() -> data.Dataset:
    return data.load("shapes", split="test", count=4)


def nameless() -> data.Dataset:
    return data.Dataset(np.zeros((0, 3, 8, 8), np.uint8), np.zeros(0, np.int64), ("a",), "mine")


WORDS = {
    "shapes: count must be a positive int, got 2.5": lambda _: data.make_shapes(2.5, seed=0),
    "load: count must be a positive int, got True": lambda _: data.load(
        "shapes", split="test", count=True
    ),
    "shapes: size must be an int of 16 or more, got 15": lambda _: data.make_shapes(
        3, seed=0, size=15
    ),
    "load: name must be a text or a path, got NoneType": lambda _: data.load(None, split="test"),
    "load: size must be a positive int, got 0": lambda place: data.read_folder(
        place, split="test", size=0
    ),
    "load: size must be a positive int, got 2.5": lambda place: data.read_folder(
        place, split="test", size=2.5
    ),
    "load: cuts must be texts by class": lambda place: data.list_pictures(place, cuts={"red": 5}),
    "load: size and cuts are for a folder of pictures, not for shapes": lambda _: data.load(
        "shapes", split="test", count=3, size=8
    ),
    "trace: dtypes is empty; give one or more": lambda _: trace(
        lambda dtype: None, np.zeros((1, 3, 8, 8)), np.zeros(1, int), dtypes=()
    ),
    "trace: image must hold one image or more, (B, 3, H, W), got (1, 1)": lambda _: trace(
        lambda dtype: None, [[1]], [0]
    ),
    "labels: classes must be a positive int, got 0": lambda _: recipe_of_traces.labels(3, 0),
    "statistics: there is no image in mine": lambda _: data.statistics(nameless()),
    "Dataset.split: holdout must be a positive int, got 1.5": lambda _: images().split(1.5, rng=0),
    "Batches: seed must be an int of 0 or more, got -1": lambda _: data.Batches(
        images(), 2, seed=-1
    ),
    "save_weights: '\\ud800' cannot be the name of an array in": lambda place: save_weights(
        place / "w.npz", {"\ud800": np.ones(2)}
    ),
    "save_weights: metadata must be texts by name, got 3": lambda place: save_weights(
        place / "w.safetensors", {"a": np.ones(2)}, metadata={"k": 3}
    ),
    "save_weights: expected arrays by name, got list": lambda place: save_weights(
        place / "w.npz", [1]
    ),
    "load: model must be a name or a model of minswin, got int": lambda _: load(
        3, {"a": np.ones(2)}
    ),
    "Settings: model_settings must be values by name, got int": lambda _: Settings(
        model_settings=3
    ),
    "Settings: model must be a text, got NoneType": lambda _: recipe("shapes", model=None),
    "Settings: out must be a text, got int": lambda _: Settings(out=3),
    "train: settings must be Settings, got str": lambda _: train("x"),
}


@pytest.mark.parametrize("words", WORDS)
def test_a_wrong_argument_is_named_in_our_words(words: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        WORDS[words](tmp_path)
    assert str(caught.value).startswith(words)
    assert type(caught.value) in (ValueError, TypeError)
    assert list(tmp_path.iterdir()) == []


def test_an_array_that_is_a_text_is_told_without_advice_to_unpickle(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("hello")
    with pytest.raises(ValueError, match=r"^it begins with b'hello', which no .npy file does$"):
        folder.load_array(tmp_path / "a.npy")


def test_a_map_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("ä = b".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^compare: the map \S+latin is no text in UTF-8; save"):
        read_names(tmp_path / "latin")
    with pytest.raises(ValueError, match=r"^compare: the map \S+ cannot be read: there is no \S+"):
        read_names(tmp_path / "no")


def test_weights_of_another_model_are_told_in_whole_sentences(run: Path) -> None:
    save_weights(run / "w.npz", create_model("swin_shapes", rng=0).state_dict())
    with pytest.raises(ValueError, match=r"it fits swin_shapes; 'minswin info \S+' says which"):
        published_classifier("vit_cifar", run / "w.npz")


def test_one_run_beside_may_be_a_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="explain: there is no checkpoint nosuch; expected"):
        explain(None, tmp_path / "a.html", beside="nosuch")


def test_an_ending_that_is_none_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^export: \S+/e has no ending, expected one of \.safeten"
    ):
        export("run", tmp_path / "e")
    with pytest.raises(ValueError, match=r"^save_weights: \S+/e has no ending, expected one of"):
        save_weights(tmp_path / "e", {"a": np.ones(2)})


def test_paths_are_taken_for_texts_where_a_setting_is_one(run: Path, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "b", weights=run, model="tiny", epochs=1, count=16)
    assert settings.weights == str(run)
    train(Settings(**{**vars(settings), "out": tmp_path / "b"}), quiet=True)
    assert load_trained_model(tmp_path / "b")[1]["settings"]["out"] == str(tmp_path / "b")


def test_one_prefix_may_be_a_text(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.npz", {"encoder.a": np.ones(2), "encoder.b": np.ones(2)})
    assert set(read_weights(tmp_path / "w.npz", prefixes="encoder.")) == {"a", "b"}
