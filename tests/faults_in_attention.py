"""Wrong attention, heads and softmax: their values and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from planting import plant
from test_attention_laws import (
    test_a_constant_added_to_a_heads_table_changes_nothing,
    test_an_output_lies_between_the_values_that_it_sees,
    test_attention_that_may_drop_probabilities_is_the_same_attention,
    test_msa_equals_one_head_after_the_other,
    test_probabilities_are_a_softmax_of_scaled_products_and_bias,
    test_probabilities_are_positive_and_sum_to_one,
    test_the_channels_are_q_k_v_times_heads_times_width,
    test_the_key_bias_is_dead_and_the_query_bias_is_not,
    test_the_layer_has_the_derivative_of_its_value,
    test_without_a_bias_shuffled_tokens_of_a_window_give_shuffled_outputs,
)
from test_layer_laws import (
    test_a_softmax_passes_back_rows_of_sum_zero_and_nothing_where_masked,
)
from test_mask import (
    test_shifted_windows_equal_attention_on_each_rectangle_of_the_image,
    test_shifted_windows_have_the_derivative_of_attention_on_each_rectangle,
)

from minswin import ops
from minswin.arrays import Definition
from minswin.autograd import Tensor, vjp
from minswin.composites import merge_heads, spelled_out, split_heads
from minswin.reference.attention import attention
from minswin.reference.elementwise import unbroadcast
from minswin.reference.linear import swap
from minswin.reference.normalize import softmax

ORACLE = test_shifted_windows_equal_attention_on_each_rectangle_of_the_image
GRADIENT = test_shifted_windows_have_the_derivative_of_attention_on_each_rectangle
ATTENTION = test_probabilities_are_a_softmax_of_scaled_products_and_bias

# ── attention: the value ─────────────────────────────────────────────────────────────────────────


def scaled_by(factor: Callable[[int], float]) -> Definition:
    """Attention whose logits carry another factor than 1/√d, and a derivative that fits."""

    def definition(q: Any, k: Any, v: Any, bias: Any) -> Any:
        more = factor(q.shape[-1]) * q.shape[-1] ** 0.5
        y, undo = attention(q * more, k, v, bias)

        def pull(g: Any) -> Any:
            dq, *others = undo(g)
            return dq * more, *others

        return y, pull

    return definition


@plant(attention, ATTENTION, ORACLE, test_msa_equals_one_head_after_the_other)
def scale_forgotten(q: Any, k: Any, v: Any, bias: Any) -> Any:
    return scaled_by(lambda d: 1.0)(q, k, v, bias)


@plant(attention, ATTENTION, ORACLE)
def scale_of_one_over_d(q: Any, k: Any, v: Any, bias: Any) -> Any:
    return scaled_by(lambda d: 1 / d)(q, k, v, bias)


@plant(attention, ATTENTION, ORACLE)
def scale_on_the_bias_too(q: Any, k: Any, v: Any, bias: Any) -> Any:
    more = q.shape[-1] ** -0.5
    y, undo = attention(q, k, v, None if bias is None else bias * more)
    return y, lambda g: (*undo(g)[:3], None if bias is None else undo(g)[3] * more)


def over_queries(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    logits = (q * q.shape[-1] ** -0.5) @ ops.transpose(k, axes=(*range(k.ndim - 2), -1, -2))
    return ops.softmax(logits if bias is None else logits + bias, axis=-2) @ v


@plant(
    attention,
    ATTENTION,
    test_probabilities_are_positive_and_sum_to_one,
    test_the_key_bias_is_dead_and_the_query_bias_is_not,
)
def softmax_over_the_queries(q: Any, k: Any, v: Any, bias: Any) -> Any:
    return vjp(over_queries)(q, k, v, bias)


@plant(
    attention,
    test_probabilities_are_positive_and_sum_to_one,
    test_an_output_lies_between_the_values_that_it_sees,
    test_a_constant_added_to_a_heads_table_changes_nothing,
)
def bias_after_the_softmax(q: Any, k: Any, v: Any, bias: Any) -> Any:
    y, undo = attention(q, k, v, None)
    weights = np.broadcast_to(bias, (*q.shape[:-1], k.shape[-2]))

    def pull(g: Any) -> Any:
        dq, dk, dv, _ = undo(g)
        return dq, dk, dv + swap(weights) @ g, unbroadcast(g @ swap(v), bias.shape)

    return y + weights @ v, pull


# ── attention: heads and derivative ──────────────────────────────────────────────────────────────

HEADS = test_the_channels_are_q_k_v_times_heads_times_width


@plant(
    merge_heads,
    HEADS,
    ORACLE,
    test_msa_equals_one_head_after_the_other,
    test_without_a_bias_shuffled_tokens_of_a_window_give_shuffled_outputs,
)
def heads_merged_without_transposing(x: Tensor) -> Tensor:
    *lead, h, N, d = x.shape
    return x.reshape(*lead, N, h * d)


@plant(split_heads, HEADS, ORACLE, test_msa_equals_one_head_after_the_other)
def channels_as_heads_times_q_k_v(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    *lead, N, channels = qkv.shape
    cut = qkv.reshape(*lead, N, heads, 3, channels // (3 * heads))
    back = cut.transpose(*range(len(lead) + 1), -2, -3, -1).reshape(*lead, N, channels)
    return split_heads(back, heads)


@plant(split_heads, HEADS, ORACLE)
def keys_and_values_exchanged(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = split_heads(qkv, heads)
    return q, v, k


@plant(spelled_out, test_attention_that_may_drop_probabilities_is_the_same_attention)
def dropping_attention_without_bias_and_mask(
    q: Tensor, k: Tensor, v: Tensor, bias: Any = None, *, drop: Any = None
) -> Tensor:
    return spelled_out(q, k, v, None if drop is not None else bias, drop=drop)


@plant(attention, GRADIENT, test_the_layer_has_the_derivative_of_its_value)
def derivative_of_attention_without_the_rows_mean(q: Any, k: Any, v: Any, bias: Any) -> Any:
    y, undo = attention(q, k, v, bias)
    scale = q.shape[-1] ** -0.5
    p, _ = softmax(q @ swap(k) * scale + (0 if bias is None else bias))

    def pull(g: Any) -> Any:
        ds = p * (g @ swap(v))
        dbias = None if bias is None else unbroadcast(ds, bias.shape)
        return ds @ k * scale, swap(ds) @ q * scale, undo(g)[2], dbias

    return y, pull


@plant(attention, GRADIENT, test_the_layer_has_the_derivative_of_its_value)
def derivative_of_attention_for_values_only(q: Any, k: Any, v: Any, bias: Any) -> Any:
    y, undo = attention(q, k, v, bias)

    def pull(g: Any) -> Any:
        dq, dk, dv, dbias = undo(g)
        return 0 * dq, 0 * dk, dv, None if dbias is None else 0 * dbias

    return y, pull


@plant(softmax, test_a_softmax_passes_back_rows_of_sum_zero_and_nothing_where_masked)
def derivative_of_softmax_is_zero(x: Any, *, axis: int = -1) -> Any:
    return softmax(x, axis=axis)[0], lambda g: (0 * g,)


@plant(softmax, test_a_softmax_passes_back_rows_of_sum_zero_and_nothing_where_masked)
def derivative_of_softmax_without_the_rows_mean(x: Any, *, axis: int = -1) -> Any:
    p, _ = softmax(x, axis=axis)
    return p, lambda g: (p * g,)
