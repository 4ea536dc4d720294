"""Wrong rolls, windows, paddings, small maps, merges: some were found in real ports of Swin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from planting import by_moving, plant
from test_attention_laws import (
    test_a_step_in_the_value_bias_is_the_same_step_for_every_token,
    test_a_window_that_covers_the_map_is_attention_over_the_whole_map,
    test_an_output_lies_between_the_values_that_it_sees,
    test_windows_move_with_the_map_by_whole_windows_only,
    test_without_a_shift_the_windows_are_separate_images,
)
from test_geometry import (
    test_a_negative_roll_moves_the_map_up_and_left,
    test_flips_and_transposition_permute_the_merged_groups,
    test_maps_are_extended_by_zeros_at_the_bottom_and_right,
    test_merged_groups_carry_row_parity_then_column_parity,
    test_merging_gathers_each_neighbourhood_in_the_published_order,
    test_merging_keeps_every_element_once,
    test_moving_windows_back_is_the_adjoint_of_moving_them,
    test_patch_merging_halves_the_map_upwards_and_doubles_the_channels,
    test_rolls_add_up_and_a_whole_turn_is_none,
    test_unmerging_and_cropping_are_the_adjoints_of_merging_and_padding,
    test_window_merge_undoes_window_partition,
    test_window_partition_undoes_window_merge,
    test_windows_and_their_tokens_are_numbered_row_by_row,
)
from test_layer_laws import test_patch_merging_norms_the_four_neighbours_then_reduces_them
from test_mask import (
    test_a_map_no_longer_than_the_window_is_not_shifted,
    test_a_map_that_windows_do_not_divide_equals_the_zero_extended_map,
    test_opposite_ends_of_a_padded_map_do_not_see_each_other,
    test_shifted_windows_equal_attention_on_each_rectangle_of_the_image,
    test_shifted_windows_have_the_derivative_of_attention_on_each_rectangle,
)
from test_model_laws import (
    test_an_answer_does_not_depend_on_earlier_questions,
    test_the_model_equals_the_paper_in_slow_loops,
    test_two_blocks_look_as_far_as_the_windows_that_meet_the_shifted_one,
)

from minswin import ops
from minswin.autograd import Tensor
from minswin.layers import PatchMerging, WindowAttention
from minswin.layers.windows import fit_window, pad_map
from minswin.reference.shape import roll
from minswin.reference.windows import patch_merge, window_merge, window_partition

Pair = tuple[int, int]
EITHER = (AssertionError, ValueError)
ORACLE = test_shifted_windows_equal_attention_on_each_rectangle_of_the_image
PADDED = test_a_map_that_windows_do_not_divide_equals_the_zero_extended_map
NEIGHBOURS = test_merging_gathers_each_neighbourhood_in_the_published_order
PARITY = test_merged_groups_carry_row_parity_then_column_parity
MERGING = test_patch_merging_norms_the_four_neighbours_then_reduces_them

right_call = WindowAttention.__call__
right_shifted_windows = WindowAttention.shifted_windows

# ── rolls and windows ────────────────────────────────────────────────────────────────────────────


@plant(roll, test_a_negative_roll_moves_the_map_up_and_left, ORACLE)
def roll_the_other_way(x: np.ndarray, *, shift: Pair, axis: Pair = (1, 2)) -> Any:
    return roll(x, shift=tuple(-s for s in shift), axis=axis)


@plant(roll, test_rolls_add_up_and_a_whole_turn_is_none, ORACLE)
def roll_that_drops_what_leaves(x: np.ndarray, *, shift: Pair, axis: Pair = (1, 2)) -> Any:
    stays = np.ones(x.shape, dtype=bool)
    for s, a in zip(shift, axis, strict=True):
        place = np.arange(x.shape[a]) - s
        inside = ((0 <= place) & (place < x.shape[a])).reshape(-1, *[1] * (x.ndim - a - 1))
        stays &= inside
    y, undo = roll(x, shift=shift, axis=axis)
    return y * stays, lambda g: undo(g * stays)


@plant(
    roll,
    test_moving_windows_back_is_the_adjoint_of_moving_them,
    test_shifted_windows_have_the_derivative_of_attention_on_each_rectangle,
)
def derivative_of_roll_that_rolls_on(x: np.ndarray, *, shift: Pair, axis: Pair = (1, 2)) -> Any:
    return np.roll(x, shift, axis), lambda g: (np.roll(g, shift, axis),)


@plant(WindowAttention.shifted_windows, ORACLE, test_an_output_lies_between_the_values_that_it_sees)
def windows_not_rolled_back(
    self: WindowAttention, qkv: Tensor, window: Pair, shift: Pair
) -> Tensor:
    y = right_shifted_windows(self, qkv, window, shift)
    return ops.roll(y, shift=(-shift[0], -shift[1]))


@plant(WindowAttention.shifted_windows, ORACLE, shows=EITHER)
def shift_of_swapped_axes(self: WindowAttention, qkv: Tensor, window: Pair, shift: Pair) -> Tensor:
    return right_shifted_windows(self, qkv, window, shift[::-1])


@plant(
    WindowAttention.shifted_windows,
    ORACLE,
    test_windows_move_with_the_map_by_whole_windows_only,
    test_two_blocks_look_as_far_as_the_windows_that_meet_the_shifted_one,
)
def no_shift_at_all(self: WindowAttention, qkv: Tensor, window: Pair, shift: Pair) -> Tensor:
    return right_shifted_windows(self, qkv, window, (0, 0))


@plant(
    window_partition,
    test_windows_and_their_tokens_are_numbered_row_by_row,
    test_window_merge_undoes_window_partition,
)
@by_moving
def windows_numbered_column_by_column(x: np.ndarray, *, window: Pair) -> np.ndarray:
    B, H, W, C = x.shape
    x = x.reshape(B, H // window[0], window[0], W // window[1], window[1], C)
    return x.transpose(0, 3, 1, 2, 4, 5).reshape(B, -1, window[0] * window[1], C)


@plant(
    window_merge,
    test_window_merge_undoes_window_partition,
    test_window_partition_undoes_window_merge,
    test_without_a_shift_the_windows_are_separate_images,
    ORACLE,
)
@by_moving
def windows_merged_without_permuting(x: np.ndarray, *, window: Pair, grid: Pair) -> np.ndarray:
    return x.reshape(x.shape[0], *grid, x.shape[-1])


# ── padding ──────────────────────────────────────────────────────────────────────────────────────


def window_and_shift(self: WindowAttention, x: Tensor) -> tuple[Pair, Pair]:
    window, may_shift = fit_window((x.shape[1], x.shape[2]), self.window)
    return window, ((window[0] // 2, window[1] // 2) if self.shift and may_shift else (0, 0))


@plant(WindowAttention.__call__, PADDED, test_opposite_ends_of_a_padded_map_do_not_see_each_other)
def padding_after_the_roll(self: WindowAttention, x: Tensor) -> Tensor:
    """The seam of the image lies at H − s, that of the mask at the end of the padded map."""
    _, H, W, _ = x.shape
    window, (s, t) = window_and_shift(self, x)
    rolled = pad_map(ops.roll(x, shift=(-s, -t)), window)
    qkv = ops.roll(self.qkv(rolled), shift=(s, t))  # which shifted_windows rolls back
    y = ops.roll(self.shifted_windows(qkv, window, (s, t)), shift=(-s, -t))
    return self.proj(ops.roll(y[:, :H, :W], shift=(s, t)))


@plant(
    WindowAttention.__call__,
    PADDED,
    test_a_step_in_the_value_bias_is_the_same_step_for_every_token,
)
def padding_after_the_projection(self: WindowAttention, x: Tensor) -> Tensor:
    """Padded queries, keys and values are zero here; they should be the biases."""
    window, shift = window_and_shift(self, x)
    y = self.shifted_windows(pad_map(self.qkv(x), window), window, shift)
    return self.proj(y[:, : x.shape[1], : x.shape[2]])


@plant(
    pad_map,
    test_maps_are_extended_by_zeros_at_the_bottom_and_right,
    MERGING,
    test_patch_merging_halves_the_map_upwards_and_doubles_the_channels,
    PADDED,
    shows=EITHER,
)
def padding_on_swapped_axes(x: Tensor, window: Pair) -> Tensor:
    bottom, right = -x.shape[2] % window[0], -x.shape[1] % window[1]
    return ops.pad(x, width=((0, 0), (0, bottom), (0, right), (0, 0)))


@plant(pad_map, test_maps_are_extended_by_zeros_at_the_bottom_and_right, MERGING, PADDED)
def padding_at_the_top_left(x: Tensor, window: Pair) -> Tensor:
    top, left = -x.shape[1] % window[0], -x.shape[2] % window[1]
    return ops.pad(x, width=((0, 0), (top, 0), (left, 0), (0, 0)))


# ── small maps ───────────────────────────────────────────────────────────────────────────────────


@plant(WindowAttention.__call__, test_an_answer_does_not_depend_on_earlier_questions)
def a_small_map_ends_all_shifting(self: WindowAttention, x: Tensor) -> Tensor:
    self.shift = self.shift and fit_window((x.shape[1], x.shape[2]), self.window)[1]
    return right_call(self, x)


@plant(
    WindowAttention.__call__,
    test_an_answer_does_not_depend_on_earlier_questions,
    shows=(ValueError,),  # the table no longer fits
)
def a_small_map_shrinks_the_window_for_ever(self: WindowAttention, x: Tensor) -> Tensor:
    self.window = fit_window((x.shape[1], x.shape[2]), self.window)[0]
    return right_call(self, x)


@plant(
    fit_window,
    test_a_window_that_covers_the_map_is_attention_over_the_whole_map,
    test_a_map_no_longer_than_the_window_is_not_shifted,
    test_the_model_equals_the_paper_in_slow_loops,
)
def small_maps_are_shifted_too(grid: Pair, window: Pair) -> tuple[Pair, bool]:
    return fit_window(grid, window)[0], True


@plant(fit_window, test_a_map_no_longer_than_the_window_is_not_shifted)
def windows_that_do_not_shrink(grid: Pair, window: Pair) -> tuple[Pair, bool]:
    return window, fit_window(grid, window)[1]


@plant(fit_window, test_a_map_no_longer_than_the_window_is_not_shifted)
def square_windows_that_shrink_on_one_axis_only(grid: Pair, window: Pair) -> tuple[Pair, bool]:
    return (min(grid[0], window[0]), min(grid[1], window[1])), fit_window(grid, window)[1]


# ── merging patches ──────────────────────────────────────────────────────────────────────────────


def merging_of(*places: Pair) -> Callable[[np.ndarray], np.ndarray]:
    """These (row, column) neighbours, in this order."""
    return lambda x: np.concatenate([x[:, r::2, c::2] for r, c in places], axis=-1)


@plant(
    patch_merge, NEIGHBOURS, PARITY, test_flips_and_transposition_permute_the_merged_groups, MERGING
)
@by_moving
def neighbours_row_by_row(x: np.ndarray) -> np.ndarray:
    return merging_of((0, 0), (0, 1), (1, 0), (1, 1))(x)


@plant(patch_merge, NEIGHBOURS, PARITY, test_merging_keeps_every_element_once)
@by_moving
def one_neighbour_twice_and_another_never(x: np.ndarray) -> np.ndarray:
    return merging_of((0, 0), (1, 0), (0, 1), (1, 0))(x)


@plant(patch_merge, NEIGHBOURS, PARITY)
@by_moving
def quadrants_in_place_of_neighbours(x: np.ndarray) -> np.ndarray:
    h, w = x.shape[1] // 2, x.shape[2] // 2
    return np.concatenate([x[:, :h, :w], x[:, h:, :w], x[:, :h, w:], x[:, h:, w:]], axis=-1)


@plant(patch_merge, NEIGHBOURS, test_flips_and_transposition_permute_the_merged_groups)
@by_moving
def neighbours_with_the_channel_outermost(x: np.ndarray) -> np.ndarray:
    B, H, W, C = x.shape
    y = x.reshape(B, H // 2, 2, W // 2, 2, C).transpose(0, 1, 3, 5, 4, 2)
    return y.reshape(B, H // 2, W // 2, 4 * C)


@plant(patch_merge, test_unmerging_and_cropping_are_the_adjoints_of_merging_and_padding)
def derivative_of_merging_row_by_row(x: np.ndarray) -> Any:
    return patch_merge(x)[0], by_moving(merging_of((0, 0), (0, 1), (1, 0), (1, 1)))(x)[1]


@plant(
    PatchMerging.__call__,
    MERGING,
    test_patch_merging_halves_the_map_upwards_and_doubles_the_channels,
)
def merging_that_drops_an_odd_row_or_column(self: PatchMerging, x: Tensor) -> Tensor:
    H, W = x.shape[1], x.shape[2]
    return self.reduction(self.norm(ops.patch_merge(x[:, : H - H % 2, : W - W % 2])))


@plant(PatchMerging.__call__, MERGING)
def merging_without_its_norm(self: PatchMerging, x: Tensor) -> Tensor:
    return self.reduction(ops.patch_merge(pad_map(x, (2, 2))))
