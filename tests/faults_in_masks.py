"""Wrong masks, regions, indices and bias tables: some of them found in real ports of Swin."""

from __future__ import annotations

import numpy as np
from planting import plant
from test_attention_laws import (
    test_a_turned_map_with_a_turned_table_gives_the_turned_output,
    test_images_of_a_batch_do_not_mix,
    test_the_tables_gradient_adds_up_all_pairs_of_a_displacement,
)
from test_geometry import (
    test_a_displacement_occurs_once_per_place_where_it_fits,
    test_a_smaller_window_finds_its_displacements_in_a_larger_table,
    test_opposite_displacements_mirror_in_the_table,
    test_scattering_with_addition_is_the_adjoint_of_looking_up,
    test_the_bias_depends_on_the_displacement_only,
    test_the_bias_is_the_tables_row_of_the_displacement_for_each_head,
    test_the_index_of_a_pair_is_the_place_of_its_displacement,
)
from test_mask import (
    test_a_map_no_longer_than_the_window_is_not_shifted,
    test_a_masked_window_falls_apart_into_regions,
    test_a_token_depends_on_its_rectangle_and_on_nothing_else,
    test_edge_windows_hold_two_regions_and_the_corner_four,
    test_regions_masks_and_free_windows_are_as_many_as_the_shift_makes,
    test_shifted_windows_equal_attention_on_each_rectangle_of_the_image,
    test_shifted_windows_have_the_derivative_of_attention_on_each_rectangle,
    test_the_mask_allows_the_pairs_of_one_rectangle_and_no_others,
    test_the_number_of_allowed_pairs_is_the_product_of_both_axes,
    test_turning_the_image_turns_the_mask,
)

from minswin import ops
from minswin.autograd import Tensor
from minswin.composites import merge_heads, relative_position_bias, split_heads
from minswin.layers import WindowAttention
from minswin.layers.attention import attend
from minswin.reference import shape
from minswin.reference.windows import (
    attention_mask,
    relative_position_index,
    shift_regions,
    window_partition,
)

Pair = tuple[int, int]
ORACLE = test_shifted_windows_equal_attention_on_each_rectangle_of_the_image
PAIRS = test_the_mask_allows_the_pairs_of_one_rectangle_and_no_others
INDEX = test_the_index_of_a_pair_is_the_place_of_its_displacement

# ── the mask ─────────────────────────────────────────────────────────────────────────────────────


def mask_of(regions: np.ndarray, window: Pair, value: float) -> np.ndarray:
    cells, _ = window_partition(regions[None, ..., None], window=window)
    labels = cells[0, :, :, 0]
    apart = labels[:, :, None] != labels[:, None, :]
    return np.where(apart, np.float32(value), np.float32(0))


@plant(attention_mask, ORACLE, PAIRS, test_a_token_depends_on_its_rectangle_and_on_nothing_else)
def no_mask(grid: Pair, window: Pair, shift: Pair, value: float = -100.0) -> np.ndarray:
    return np.zeros_like(attention_mask(grid, window, shift))


@plant(
    attention_mask,
    ORACLE,
    PAIRS,
    test_edge_windows_hold_two_regions_and_the_corner_four,
    test_turning_the_image_turns_the_mask,
)
def mask_on_swapped_axes(
    grid: Pair, window: Pair, shift: Pair, value: float = -100.0
) -> np.ndarray:
    regions = shift_regions(grid[::-1], window[::-1], shift[::-1])
    return mask_of(regions.reshape(grid), window, value)


@plant(attention_mask, ORACLE, PAIRS, test_the_number_of_allowed_pairs_is_the_product_of_both_axes)
def mask_for_coordinates_before_the_roll(
    grid: Pair, window: Pair, shift: Pair, value: float = -100.0
) -> np.ndarray:
    return mask_of(np.roll(shift_regions(grid, window, shift), shift, (0, 1)), window, value)


@plant(attention_mask, ORACLE, test_edge_windows_hold_two_regions_and_the_corner_four)
def mask_of_windows_column_by_column(
    grid: Pair, window: Pair, shift: Pair, value: float = -100.0
) -> np.ndarray:
    right = attention_mask(grid, window, shift, value)
    cells = right.reshape(grid[0] // window[0], grid[1] // window[1], *right.shape[1:])
    return cells.swapaxes(0, 1).reshape(right.shape)


@plant(attention_mask, ORACLE, test_a_masked_window_falls_apart_into_regions)
def mask_inside_out(grid: Pair, window: Pair, shift: Pair, value: float = -100.0) -> np.ndarray:
    right = attention_mask(grid, window, shift)
    return np.where(right == 0, np.float32(max(value, -100)), np.float32(0))


@plant(attention_mask, ORACLE, PAIRS)
def mask_too_weak(grid: Pair, window: Pair, shift: Pair, value: float = -100.0) -> np.ndarray:
    return attention_mask(grid, window, shift, -10.0)


@plant(shift_regions, PAIRS, test_regions_masks_and_free_windows_are_as_many_as_the_shift_makes)
def regions_of_rows_only(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    return shift_regions(grid, window, (shift[0], 0))


@plant(shift_regions, ORACLE, PAIRS)
def regions_cut_at_the_wrong_side_of_the_seam(grid: Pair, window: Pair, shift: Pair) -> np.ndarray:
    rest = (window[0] - shift[0]) % window[0], (window[1] - shift[1]) % window[1]
    return shift_regions(grid, window, rest)


@plant(WindowAttention.shifted_windows, ORACLE, test_images_of_a_batch_do_not_mix)
def mask_repeated_as_if_windows_came_before_images(
    self: WindowAttention, qkv: Tensor, window: Pair, shift: Pair
) -> Tensor:
    grid, B = (qkv.shape[1], qkv.shape[2]), qkv.shape[0]
    qkv = ops.window_partition(ops.roll(qkv, shift=(-shift[0], -shift[1])), window=window)
    q, k, v = split_heads(qkv, self.heads)  # window b·nW + w
    masks = np.repeat(attention_mask(grid, window, shift), B, axis=0)  # window w·B + b
    masks = masks.reshape(B, -1, 1, *masks.shape[1:]).astype(qkv.dtype)
    x = merge_heads(attend(q, k, v, self.bias(window) + masks, self.attn_drop))
    return ops.roll(ops.window_merge(x, window=window, grid=grid), shift=shift)


# ── the index and the table ──────────────────────────────────────────────────────────────────────


def index_of(rows: np.ndarray, columns: np.ndarray, table: Pair, stride: int) -> np.ndarray:
    dr, dc = rows[:, None] - rows[None, :], columns[:, None] - columns[None, :]
    return (dr + table[0] - 1) * stride + dc + table[1] - 1


@plant(
    relative_position_index,
    INDEX,
    test_opposite_displacements_mirror_in_the_table,
    test_a_displacement_occurs_once_per_place_where_it_fits,
)
def index_with_the_height_as_stride(window: Pair, table_window: Pair | None = None) -> np.ndarray:
    table = table_window or window
    rows, columns = np.divmod(np.arange(window[0] * window[1]), window[1])
    return index_of(rows, columns, table, 2 * table[0] - 1)


@plant(relative_position_index, INDEX, ORACLE)
def index_of_key_minus_query(window: Pair, table_window: Pair | None = None) -> np.ndarray:
    return relative_position_index(window, table_window).T


@plant(
    relative_position_index,
    INDEX,
    ORACLE,
    test_a_turned_map_with_a_turned_table_gives_the_turned_output,
)
def index_by_meshgrid_xy(window: Pair, table_window: Pair | None = None) -> np.ndarray:
    table = table_window or window
    rows, columns = np.meshgrid(np.arange(window[0]), np.arange(window[1]))  # not "ij"
    return index_of(rows.ravel(), columns.ravel(), table, 2 * table[1] - 1)


@plant(
    relative_position_index,
    test_a_smaller_window_finds_its_displacements_in_a_larger_table,
    test_a_map_no_longer_than_the_window_is_not_shifted,
)
def index_of_the_shrunk_window_in_the_larger_table(
    window: Pair, table_window: Pair | None = None
) -> np.ndarray:
    return relative_position_index(window)


@plant(relative_position_index, INDEX, test_the_bias_depends_on_the_displacement_only)
def index_of_the_pair_in_place_of_the_displacement(
    window: Pair, table_window: Pair | None = None
) -> np.ndarray:
    right = relative_position_index(window, table_window)
    return np.arange(right.size).reshape(right.shape) % (right.max() + 1)


@plant(
    relative_position_bias,
    ORACLE,
    test_the_bias_is_the_tables_row_of_the_displacement_for_each_head,
)
def one_bias_for_all_heads(table: Tensor, window: Pair, table_window: Pair) -> Tensor:
    bias = relative_position_bias(table, window, table_window)
    return ops.broadcast_to(bias[:1], shape=bias.shape)


@plant(
    shape._add_rows,
    test_the_tables_gradient_adds_up_all_pairs_of_a_displacement,
    test_scattering_with_addition_is_the_adjoint_of_looking_up,
    test_shifted_windows_have_the_derivative_of_attention_on_each_rectangle,
)
def table_gradient_by_indexed_addition(x: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
    table = np.zeros((length, *x.shape[rows.ndim :]), dtype=x.dtype)
    table[rows] += x  # not np.add.at: a row that comes again is overwritten
    return table
