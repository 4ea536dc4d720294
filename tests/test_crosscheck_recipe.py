"""The recipe: every language makes the same image and weights from their names."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin.crosscheck import recipe
from minswin.models import create_model

PROGRAM = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    const char *name = argv[1];
    uint32_t hash = 2166136261u, count = atoi(argv[2]);
    float *value = malloc(count * sizeof(float));
    TEN_LINES
    fwrite(value, sizeof(float), count, stdout);
    return 0;
}
"""


def lines_of_the_docstring() -> str:
    """The C code that porters copy, as it stands in recipe.py."""
    found = re.search(r"( {4}for \(const char.*?\n {4}}\n)", recipe.__doc__ or "", re.DOTALL)
    assert found
    return found[1]


def test_the_c_code_of_the_docstring_gives_the_same_bits(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (gcc or cc) on this machine")
    source = tmp_path / "recipe.c"
    source.write_text(PROGRAM.replace("TEN_LINES", lines_of_the_docstring()))
    subprocess.run([compiler, "-O1", "-o", tmp_path / "recipe", source], check=True)
    for name in ("image", "layers.0.blocks.1.attn.qkv.weight", "Φ"):
        done = subprocess.run([tmp_path / "recipe", name, "777"], capture_output=True, check=True)
        assert np.array_equal(
            np.frombuffer(done.stdout, np.float32), recipe.array(name, (777,), "f4")
        )


@given(st.text(max_size=12), st.integers(1, 300), st.integers(1, 300))
def test_an_element_depends_on_name_and_number_alone(name: str, a: int, b: int) -> None:
    few, many = sorted((a, b))
    assert np.array_equal(recipe.integers(name, many)[:few], recipe.integers(name, few))


def test_values_are_exact_in_float32_and_spread_evenly() -> None:
    x = recipe.array("x", (200, 300))
    assert np.array_equal(x, x.astype(np.float32))
    assert abs(x).max() < 1 and abs(x.mean()) < 0.01 and abs(x.var() - 1 / 3) < 0.01
    assert abs(np.mean(x[:, 1:] * x[:, :-1])) < 0.01  # neighbours do not resemble each other


def test_names_give_different_numbers_and_labels_are_classes() -> None:
    assert not np.array_equal(recipe.array("a", (9,)), recipe.array("b", (9,)))
    labels = recipe.labels(200, 7)
    assert set(labels.tolist()) == set(range(7))


def test_weights_hide_nothing() -> None:
    """No gain is 1 and no bias 0, so a port that leaves one out is seen; products keep variance."""
    state = create_model("swin_shapes", rng=np.random.default_rng(0)).state_dict()
    weights = recipe.weights(state)
    assert weights.keys() == state.keys()
    for name, w in weights.items():
        assert w.shape == state[name].shape
        assert np.array_equal(w, w.astype(np.float32)), name
        if recipe.is_gain(name, w.shape):
            assert abs(w - 1).max() <= 0.25 and w.std() > 0.1, name
        elif name.endswith("weight"):
            gain = np.prod(w.shape[1:]) / 3 * recipe.scale_of(name, w.shape) ** 2
            assert 0.5 <= gain <= 2, name
        else:
            assert w.std() > 0.1, name


def test_a_resnet_of_the_recipe_has_positive_variances_and_counts_from_zero() -> None:
    model = create_model("resnet20", rng=np.random.default_rng(0), dtype=np.float64).eval()
    weights = recipe.weights(model.state_dict())
    variances = [w for name, w in weights.items() if name.endswith("running_var")]
    assert variances and min(w.min() for w in variances) >= 0.75
    counts = [w for name, w in weights.items() if name.endswith("num_batches_tracked")]
    assert counts and not any(counts) and all(w.dtype.kind == "i" for w in counts)
    model.load_state_dict(weights)
    assert np.isfinite(model(recipe.images(2, 3, (32, 32))).data).all()
