"""A prefix of all names is taken off, strays are named, and of several states key= chooses one."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import weight_files as build
from weight_files import same
from weight_states import SMALL, STATE, TIMM, doubled, swin, vit

import minswin
from minswin import cli
from minswin.models import create_model
from minswin.weights import load, rename, save_weights
from minswin.weights.recognise import recognise

# ── prefixes and strays ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "prefix", ["net.", "encoder.", "backbone.", "module.", "_orig_mod.", "module.net.model.x."]
)
@pytest.mark.parametrize("state", [STATE, TIMM], ids=["our names", "timm's"])
def test_a_prefix_of_all_names_is_taken_off_and_told(prefix, state) -> None:
    lines: list[str] = []
    wrapped = {prefix + name: x for name, x in state.items()}
    assert same(load(swin(1), wrapped, tell=lines.append).state_dict(), STATE)
    assert lines == [f"names: without the prefix {prefix!r}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load(swin(1), wrapped).state_dict(), STATE)


def test_what_stands_beside_the_prefix_is_left_out_and_named() -> None:
    wrapped = {f"net.{name}": x for name, x in TIMM.items()}
    wrapped["criterion.weight"] = np.ones(3)
    lines: list[str] = []
    assert same(load(swin(1), wrapped, tell=lines.append).state_dict(), STATE)
    assert lines[1] == "left out, beside the prefix 'net.': criterion.weight"
    with pytest.warns(UserWarning, match=r"load: the weights: left out, .*criterion\.weight"):
        load(swin(1), wrapped)


def test_a_head_beside_the_prefix_belongs_to_the_model() -> None:
    wrapped = {n if n.startswith("head.") else f"backbone.{n}": x for n, x in STATE.items()}
    assert same(load(swin(1), wrapped).state_dict(), STATE)
    wrapped["backbone.head.weight"] = wrapped["head.weight"] + 1
    with pytest.warns(UserWarning, match=r"beside the prefix 'backbone.': head.weight$"):
        loaded = load(swin(1), wrapped)
    assert np.array_equal(loaded.head.weight.data, STATE["head.weight"] + 1)


def test_unknown_names_inside_the_prefix_are_an_error() -> None:
    wrapped = {f"net.{name}": x for name, x in STATE.items()} | {"net.more.weight": np.ones(3)}
    with pytest.raises(ValueError, match=r"unexpected \(1\): more\.weight"):
        load(swin(1), wrapped)


def test_a_model_that_no_table_has_takes_its_own_names_behind_a_prefix() -> None:
    made = vit(stem="convolutions", seed=3)
    wrapped = {f"net.{name}": x for name, x in made.state_dict().items()}
    loaded = load(vit(stem="convolutions"), wrapped)
    assert same(loaded.state_dict(), made.state_dict())


def test_the_table_that_is_found_does_not_depend_on_a_prefix() -> None:
    for theirs in (STATE, TIMM, rename(STATE, "minswin", "transformers5")):
        plain, wrapped = recognise(theirs), recognise({f"a.b.{n}": x for n, x in theirs.items()})
        assert (plain.family, plain.dialect) == (wrapped.family, wrapped.dialect)
        assert same(plain.weights, wrapped.weights) and wrapped.prefix == "a.b."


# ── key= ─────────────────────────────────────────────────────────────────────────────────────────


def test_two_models_in_one_state_are_told_apart_by_key(tmp_path) -> None:
    both = {f"student.{n}": x for n, x in TIMM.items()}
    both |= {f"teacher.{n}": x * 2 for n, x in TIMM.items()}
    with pytest.raises(ValueError, match=r"with 'student', \d+ with 'teacher'; choose one .* key="):
        load(swin(1), both)
    for form in ("npz", "safetensors", "pth"):
        save_weights(tmp_path / f"a.{form}", both)
        loaded = load(swin(1), tmp_path / f"a.{form}", key="teacher")
        assert same(loaded.state_dict(), {n: 2 * x for n, x in STATE.items()})
    assert same(load(swin(1), both, key="student").state_dict(), STATE)


def test_a_dot_behind_the_beginning_of_names_changes_nothing() -> None:
    both = {"net." + n: x for n, x in STATE.items()} | {"ema." + n: x for n, x in doubled().items()}
    assert same(load(swin(1), both, key="ema.").state_dict(), doubled())


def two_entries(path: Path) -> Path:
    """A checkpoint with two states, one of them inside another entry."""
    items = [build.dictionary(entries_of(state)) for state in (STATE, doubled())]
    inner = build.dictionary([("weights", items[1])])
    tree = build.dictionary([("first", items[0]), ("second", inner)])
    numbers = [build.raw(x) for state in (STATE, doubled()) for x in state.values()]
    path.write_bytes(build.pth_file(build.HEAD + tree + build.END, numbers))
    return path


def entries_of(state: dict[str, np.ndarray]) -> list[tuple[str, bytes]]:
    first = 0 if state["head.bias"] is STATE["head.bias"] else len(STATE)
    made = []
    for key, (label, array) in enumerate(state.items(), first):
        store = build.storage("Float", str(key), array.size)
        steps = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        made.append((label, build.tensor(store, 0, array.shape, steps)))
    return made


def test_key_chooses_in_python(tmp_path) -> None:
    path = two_entries(tmp_path / "two.pth")
    assert same(load(swin(1), path, key="first").state_dict(), STATE)
    made = minswin.create_model("swin_shapes", weights=path, key="second.weights", **SMALL)
    assert same(made.state_dict(), doubled())
    assert same(load(swin(1), {"a": STATE, "b": doubled()}, key="b").state_dict(), doubled())
    with pytest.raises(ValueError, match=r"Choose with key= \(--key\); 'a' or 'b' hold tensors"):
        load(swin(1), {"a": STATE, "b": doubled()})


def test_the_only_entry_that_holds_tensors_is_taken() -> None:
    whole = {"epoch": 3, "generator": STATE, "optimizer": {"lr": 0.1}}
    assert same(load(swin(1), whole).state_dict(), STATE)


def test_key_chooses_on_the_command_line(tmp_path, capsys) -> None:
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    made = create_model("swin_shapes", rng=np.random.default_rng(0))
    save_weights(
        tmp_path / "a.npz", {f"{k}.{n}": x for k in "ab" for n, x in made.state_dict().items()}
    )
    weights = ["--model", "swin_shapes", "--weights", str(tmp_path / "a.npz")]
    commands = (
        ["predict", str(tmp_path / "a.png"), *weights],
        ["trace", *weights, "--batch", "1", "--no-grad", "-o", str(tmp_path / "trace")],
        ["convert", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "--to", "timm"],
    )
    for command in commands:
        assert cli.main(command) == 2 and "--key" in capsys.readouterr().err
        assert cli.main([*command, "--key", "b"]) == 0, capsys.readouterr().err
    assert cli.main(["info", str(tmp_path / "a.npz"), "--key", "a"]) == 0
    assert "under 'a'" in capsys.readouterr().out
    assert cli.main(["predict", str(tmp_path / "a.png"), "--key", "a"]) == 2
    assert "--key chooses an entry of the file of --weights" in capsys.readouterr().err


def test_an_entry_of_a_checkpoint_is_chosen_on_the_command_line(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    model = create_model("swin_cifar_small")
    state = {name: torch.tensor(x) for name, x in model.state_dict().items()}
    halves = {name: x / 2 for name, x in state.items()}
    torch.save({"first": state, "second": halves}, tmp_path / "two.pth")
    given = ["convert", str(tmp_path / "two.pth"), str(tmp_path / "out.npz")]
    assert cli.main(given) == 2 and "--key" in capsys.readouterr().err
    assert cli.main([*given, "--key", "second", "--to", "minswin"]) == 0
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["head.weight"], model.head.weight.data / 2)
    assert cli.main(["info", given[1], "--key", "first"]) == 0
    assert "under 'first'" in capsys.readouterr().out
    whole = ["--to", "microsoft", "--model", "swin_cifar_small", "--key", "first"]
    assert cli.main([*given, *whole]) == 0 and "100 arrays" in capsys.readouterr().out
