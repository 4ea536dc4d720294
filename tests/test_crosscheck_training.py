"""Training steps of a trace: clipping, schedule, smoothing, a mean; and what is searched there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minswin.cli import main
from minswin.crosscheck import recipe
from minswin.crosscheck.compare import compare
from minswin.crosscheck.diagnose import diagnose
from minswin.crosscheck.edits.texts import Edit, Text
from minswin.crosscheck.loop import loss, run_steps
from minswin.crosscheck.trace import trace
from minswin.crosscheck.training import Training
from minswin.models import create_model
from minswin.training import optimizers

SIZES = {"embed_dim": 6, "depths": (1,), "num_heads": (2,), "img_size": (8, 12), "window_size": 2}
ALL = {"steps": 4, "optimizer": "sgd", "clip": 0.3, "warmup": 2, "smoothing": 0.1, "ema": 0.8}


def run(dtypes: tuple[str, ...] = ("float64", "float32"), **settings: Any) -> Any:
    def build(dtype: Any) -> Any:
        return create_model("swin_shapes", **SIZES, rng=np.random.default_rng(0), dtype=dtype)

    return trace(
        build, recipe.images(2, 3, (8, 12)), recipe.labels(2, 5), dtypes=dtypes, **settings
    )


def wrong(function: Any, text: str, becomes: str, **settings: Any) -> Any:
    """What is told of a run with one edit of our text, of which the losses are given."""
    right = Text(function)
    at = right.source.index(text)
    with Edit(right, [(at, at + len(text), becomes)], "planted", 0).planted():
        losses = run(("float32",), **settings).header["losses"]["float32"]
    truth = run(**settings)
    return diagnose(truth, compare(truth, {"losses": np.array(losses)}))


def test_each_setting_changes_the_losses_and_a_mean_has_losses_of_its_own() -> None:
    plain = run(("float64",), steps=3).header["losses"]["float64"]
    for name in ("clip", "warmup", "smoothing", "ema"):
        found = run(("float64",), steps=3, **{name: ALL[name]}).header
        losses = found["losses"]["float64"]
        assert found["optimizer"][name] == ALL[name]
        assert (losses[:4] == plain) == (name == "ema")
        assert len(losses) == (7 if name == "ema" else 4)


def test_a_run_with_everything_equals_itself_in_float32() -> None:
    truth = run(**ALL)
    theirs = {**truth.arrays["float32"], "losses": np.array(truth.header["losses"]["float32"])}
    assert compare(truth, theirs).passed


def test_settings_of_steps_need_steps(tmp_path: Any, capsys: Any) -> None:
    with pytest.raises(
        ValueError, match="trace: without optimizer steps there is no clip and no ema"
    ):
        run(clip=1.0, ema=0.9)
    command = ["trace", "--model", "swin_shapes", "-o", str(tmp_path / "t"), "--warmup", "1"]
    assert main(command) == 2
    assert "without optimizer steps there is no warmup; " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "text", "becomes", "said"),
    [
        (optimizers.clip_gradients, "max_norm / (norm + 1e-6)", "max_norm", "= (max_norm)"),
        (optimizers.warmup_cosine, "step / warmup", "(step + 1) / warmup", "(step + 1)"),
        (run_steps, "model.zero_grad()", "pass", "- model.zero_grad()"),
        (loss, 'told.get("smoothing", 0.0)', '1.2 * told.get("smoothing", 0.0)', "c * told.get"),
    ],
)  # fmt: skip
def test_a_mistake_of_the_loop_is_named(function: Any, text: str, becomes: str, said: str) -> None:
    settings = {**ALL, "clip": None} if function is run_steps else ALL
    found = wrong(function, text, becomes, **settings)
    assert found is not None and found.named and said in found.causes[0].diff


def test_a_gradient_that_is_rounding_is_no_evidence() -> None:
    """Keys have no gradient of their bias, so Adam moves it by the whole rate, either way."""
    truth = run(steps=2, optimizer="adamw")
    after = {n: x for n, x in truth.arrays["float32"].items() if n.startswith("after/")}
    site = Training(truth, after, "after/head.bias")
    sizes = [after[n].size for n in site.chosen]
    start = sum(sizes[: site.chosen.index("after/layers.0.blocks.0.attn.qkv.bias")])
    q, k, v = np.split(site.sure[start : start + 18], 3)
    assert not k.any() and q.all() and v.all()


def test_a_pass_is_computed_once_for_equal_weights() -> None:
    truth = run(steps=2)
    site = Training(truth, {"losses": np.array([0.0, 0.0, 0.0])}, "losses")
    first = site.run(whole=True)
    inner, passes = site.models["float64"].inner, site.models["float64"].passes
    count = len(passes)
    inner.__class__ = type("Never", (type(inner),), {"__call__": None})
    np.testing.assert_array_equal(site.run(whole=True), first)
    assert len(passes) == count > 4
