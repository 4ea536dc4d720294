"""Wrong layer norms, activations and linear maps: their values and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from planting import plant
from test_attention_laws import (
    test_the_layer_has_the_derivative_of_its_value,
)
from test_layer_laws import (
    test_a_block_adds_attention_then_the_mlp_each_of_the_normed_map,
    test_a_normed_row_has_mean_zero_and_variance_v_over_v_plus_eps,
    test_embedding_block_and_merging_have_the_derivative_of_their_values,
    test_gelu_is_x_times_the_normal_distribution_function,
    test_layer_norm_equals_its_formula_for_wide_and_narrow_rows,
    test_layer_norm_of_a_scaled_row_is_layer_norm_with_a_scaled_eps,
    test_layer_norm_passes_back_no_mean_and_little_along_the_row,
    test_the_mlp_is_two_linear_maps_with_a_gelu_between,
)

from minswin import ops
from minswin.arrays import Definition
from minswin.autograd import Tensor, vjp
from minswin.layers import LayerNorm
from minswin.reference.elementwise import erf, gelu, gelu_tanh
from minswin.reference.linear import linear
from minswin.reference.normalize import layer_norm

NORM = test_layer_norm_equals_its_formula_for_wide_and_narrow_rows
NORM_GRADIENT = test_layer_norm_passes_back_no_mean_and_little_along_the_row
BLOCK_GRADIENT = test_embedding_block_and_merging_have_the_derivative_of_their_values

# ── layer norm ───────────────────────────────────────────────────────────────────────────────────

right_init = LayerNorm.__init__


@plant(LayerNorm.__init__, NORM, test_a_block_adds_attention_then_the_mlp_each_of_the_normed_map)
def eps_of_one_millionth(self: LayerNorm, channels: int, *, eps: float = 1e-6, init: Any) -> None:
    right_init(self, channels, eps=eps, init=init)


@plant(layer_norm, NORM, test_a_normed_row_has_mean_zero_and_variance_v_over_v_plus_eps)
def variance_divided_by_one_less(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> Any:
    a = (x.shape[-1] / (x.shape[-1] - 1)) ** 0.5
    y, undo = layer_norm(a * x, weight / a, bias, eps=eps)

    def pull(g: Any) -> Any:
        dx, dweight, dbias = undo(g)
        return a * dx, dweight / a, dbias

    return y, pull


@plant(layer_norm, NORM, test_a_normed_row_has_mean_zero_and_variance_v_over_v_plus_eps)
def eps_outside_the_root(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> Any:
    def text(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / (ops.sqrt(variance) + eps) * weight + bias

    return vjp(text)(x, weight, bias)


@plant(layer_norm, NORM, test_layer_norm_of_a_scaled_row_is_layer_norm_with_a_scaled_eps)
def norm_without_taking_off_the_mean(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> Any:
    def text(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return x / ops.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight + bias

    return vjp(text)(x, weight, bias)


def without(term: str) -> Definition:
    """Layer norm whose derivative lacks a term."""

    def definition(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5) -> Any:
        y, undo = layer_norm(x, weight, bias, eps=eps)
        rstd = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
        xhat = (x - x.mean(axis=-1, keepdims=True)) * rstd

        def pull(g: Any) -> Any:
            dx, dweight, dbias = undo(g)
            if term == "variance":
                dx = dx + rstd * xhat * np.mean(g * weight * xhat, axis=-1, keepdims=True)
            if term == "mean":
                dx = dx + rstd * np.mean(g * weight, axis=-1, keepdims=True)
            if term == "gain":
                dweight = g.sum(axis=tuple(range(g.ndim - 1)))
            return dx, dweight, 0 * dbias if term == "bias" else dbias

        return y, pull

    return definition


@plant(layer_norm, NORM_GRADIENT, BLOCK_GRADIENT)
def derivative_of_norm_not_through_the_variance(x: Any, w: Any, b: Any, *, eps: float) -> Any:
    return without("variance")(x, w, b, eps=eps)


@plant(layer_norm, NORM_GRADIENT, BLOCK_GRADIENT)
def derivative_of_norm_not_through_the_mean(x: Any, w: Any, b: Any, *, eps: float) -> Any:
    return without("mean")(x, w, b, eps=eps)


@plant(layer_norm, NORM_GRADIENT, BLOCK_GRADIENT)
def derivative_of_norm_without_its_bias(x: Any, w: Any, b: Any, *, eps: float) -> Any:
    return without("bias")(x, w, b, eps=eps)


@plant(layer_norm, NORM_GRADIENT, BLOCK_GRADIENT)
def derivative_of_norm_by_the_gain_like_by_the_bias(x: Any, w: Any, b: Any, *, eps: float) -> Any:
    return without("gain")(x, w, b, eps=eps)


# ── GELU and linear ──────────────────────────────────────────────────────────────────────────────

GELU = test_gelu_is_x_times_the_normal_distribution_function


@plant(gelu, GELU, test_the_mlp_is_two_linear_maps_with_a_gelu_between)
def gelu_by_tanh(x: Any) -> Any:
    return gelu_tanh(x)


@plant(gelu, GELU, BLOCK_GRADIENT)
def derivative_of_gelu_without_the_density(x: Any) -> Any:
    return gelu(x)[0], lambda g: (g * (0.5 * erf(x / 2**0.5) + 0.5),)


@plant(linear, test_the_layer_has_the_derivative_of_its_value, BLOCK_GRADIENT)
def derivative_of_linear_averages_over_rows(x: Any, weight: Any, bias: Any) -> Any:
    y, undo = linear(x, weight, bias)
    rows = x.size // x.shape[-1]
    return y, lambda g: tuple(d if i == 0 or d is None else d / rows for i, d in enumerate(undo(g)))
