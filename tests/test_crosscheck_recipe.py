"""The recipe: every language makes the same image and weights from their names."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

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
#include <string.h>
static int ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}
int main(int argc, char **argv) {  // what, name, classes, shape
    const char *name = argv[2];
    uint32_t hash = 2166136261u, classes = atoi(argv[3]), count = 1, inputs = 1;
    int axes = argc - 4;
    for (int i = 0; i < axes; i++) count *= atoi(argv[4 + i]);
    for (int i = 1; i < axes; i++) inputs *= atoi(argv[4 + i]);
    float *value = malloc(count * sizeof(float)), *weight = malloc(count * sizeof(float));
    uint32_t *label = malloc(count * sizeof(uint32_t));
    VALUES
    WEIGHTS
    void *chosen = *argv[1] == 'v' ? (void *)value : *argv[1] == 'w' ? (void *)weight : label;
    fwrite(chosen, 4, count, stdout);
    return 0;
}
"""


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """The C code that porters copy, as it stands in recipe.py, as a function."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (gcc or cc) on this machine")
    values, weights = re.findall(r"((?:^ {4}.*\n)+)", recipe.__doc__ or "", re.MULTILINE)
    folder = tmp_path_factory.mktemp("c")
    text = PROGRAM.replace("VALUES", values).replace("WEIGHTS", weights)
    (folder / "recipe.c").write_text(text)
    command = [compiler, "-O1", "-o", folder / "recipe", folder / "recipe.c"]
    subprocess.run(command, check=True)

    def run(what: str, name: str, shape: tuple[int, ...], classes: int = 1) -> bytes:
        given = [folder / "recipe", what, name, str(classes), *map(str, shape)]
        return subprocess.run(given, capture_output=True, check=True).stdout

    return run


@pytest.mark.parametrize("name", ["image", "layers.0.blocks.1.attn.qkv.weight", "Φ"])
def test_the_c_code_of_the_docstring_gives_the_same_values(in_c: Any, name: str) -> None:
    values = np.frombuffer(in_c("values", name, (7, 111)), np.float32)
    assert np.array_equal(values, recipe.array(name, (777,), "f4"))


def test_the_c_code_of_the_docstring_gives_the_same_labels(in_c: Any) -> None:
    labels = np.frombuffer(in_c("labels", "labels", (50,), 7), np.uint32)
    assert np.array_equal(labels, recipe.labels(50, 7))


MODELS = {"swin_shapes": {}, "resnet20": {}, "swinv2_cifar": {"ape": True}}


@pytest.mark.parametrize("model", MODELS)
def test_the_c_code_of_the_docstring_gives_the_same_weights(in_c: Any, model: str) -> None:
    state = create_model(model, **MODELS[model], rng=np.random.default_rng(0)).state_dict()
    kinds: dict[tuple[str, int], str] = {}  # one of each kind is enough
    for name, old in state.items():
        if old.dtype.kind == "f":
            kinds[name.rpartition(".")[2], int(np.prod(old.shape[1:]))] = name
    assert len(kinds) > 4
    for name in kinds.values():
        weight = np.frombuffer(in_c("weights", name, state[name].shape), np.float32)
        assert np.array_equal(weight, recipe.weight(name, state[name].shape, "f4").ravel()), name


def test_the_scale_is_the_power_of_two_that_is_nearest_to_the_root() -> None:
    for inputs in (1, 2, 3, 5, 6, 7, 24, 48, 96, 97, 384, 1536, 3000):
        scale = recipe.scale_of("fc.weight", (5, inputs))
        assert scale == 2.0 ** np.floor(np.log2(3 / inputs) / 2 + 0.5), inputs


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
