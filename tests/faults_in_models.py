"""Wrong blocks, embeddings, tails, weights and costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from planting import plant
from test_costs import (
    test_each_stage_halves_the_map_upwards_and_doubles_the_channels,
    test_parameters_depend_on_the_image_through_the_tables_of_shrunk_windows_only,
    test_the_stated_cost_is_the_number_of_multiplications,
    test_windows_cost_in_proportion_to_the_area_and_a_covering_window_is_msa,
)
from test_layer_laws import (
    test_a_block_adds_attention_then_the_mlp_each_of_the_normed_map,
    test_patch_embedding_is_each_patch_times_each_filter,
    test_patch_embedding_is_linear_on_channel_major_patches,
)
from test_model_laws import (
    test_a_map_of_equal_tokens_is_classified_like_one_of_them,
    test_every_token_is_normed_before_the_mean_is_taken,
    test_float32_gives_the_logits_of_float64_to_four_digits,
    test_forward_and_backward_change_neither_images_nor_weights,
    test_images_of_a_batch_do_not_mix_in_the_model,
    test_loaded_weights_are_copies_of_all_that_was_saved,
    test_the_model_equals_the_paper_in_slow_loops,
    test_the_model_has_the_derivative_of_its_value,
    test_the_order_of_tokens_does_not_matter_after_the_last_block,
)

from minswin.autograd import Tensor
from minswin.layers import Layer, Parameter, PatchEmbed, WindowAttention
from minswin.models.swin import SwinBlock, SwinTransformer
from minswin.reference.conv import conv2d
from minswin.reference.linear import linear
from minswin.reference.reduce import mean

BLOCK = test_a_block_adds_attention_then_the_mlp_each_of_the_normed_map
MODEL = test_the_model_equals_the_paper_in_slow_loops

right_block_init = SwinBlock.__init__
right_macs = SwinBlock.macs
right_embedding = PatchEmbed.__call__
right_attention_init = WindowAttention.__init__
right_load = Layer.load_state_dict

# ── the block ────────────────────────────────────────────────────────────────────────────────────


@plant(SwinBlock.__call__, BLOCK, MODEL)
def norm_after_the_sum(self: SwinBlock, x: Tensor) -> Tensor:
    x = self.norm1(x + self.drop_path(self.attn(x)))
    return self.norm2(x + self.drop_path(self.mlp(x)))


@plant(SwinBlock.__call__, BLOCK, MODEL)
def norm_on_the_branch_after_attention(self: SwinBlock, x: Tensor) -> Tensor:
    x = x + self.drop_path(self.norm1(self.attn(x)))
    return x + self.drop_path(self.norm2(self.mlp(x)))


@plant(SwinBlock.__call__, BLOCK, MODEL)
def mlp_without_a_shortcut(self: SwinBlock, x: Tensor) -> Tensor:
    x = x + self.drop_path(self.attn(self.norm1(x)))
    return self.drop_path(self.mlp(self.norm2(x)))


@plant(SwinBlock.__call__, BLOCK, MODEL)
def attention_and_mlp_side_by_side(self: SwinBlock, x: Tensor) -> Tensor:
    return x + self.drop_path(self.attn(self.norm1(x))) + self.drop_path(self.mlp(self.norm2(x)))


@plant(SwinBlock.__init__, MODEL)
def even_blocks_shifted(self: SwinBlock, *sizes: Any, shift: bool, **settings: Any) -> None:
    right_block_init(self, *sizes, shift=not shift, **settings)


@plant(SwinBlock.__init__, MODEL)
def all_blocks_shifted(self: SwinBlock, *sizes: Any, shift: bool, **settings: Any) -> None:
    right_block_init(self, *sizes, shift=True, **settings)


# ── embedding and tail ───────────────────────────────────────────────────────────────────────────


@plant(
    conv2d,
    test_patch_embedding_is_each_patch_times_each_filter,
    test_patch_embedding_is_linear_on_channel_major_patches,
)
def filters_with_the_channel_last(x: Any, weight: Any, bias: Any, **settings: Any) -> Any:
    D, C, kh, kw = weight.shape
    y, undo = conv2d(x, weight.reshape(D, kh, kw, C).transpose(0, 3, 1, 2), bias, **settings)

    def pull(g: Any) -> Any:
        dx, dweight, dbias = undo(g)
        return dx, dweight.transpose(0, 2, 3, 1).reshape(weight.shape), dbias

    return y, pull


@plant(PatchEmbed.__call__, test_patch_embedding_is_each_patch_times_each_filter, MODEL)
def patches_without_their_norm(self: PatchEmbed, x: Tensor) -> Tensor:
    return self.proj(x).transpose(0, 2, 3, 1)


@plant(SwinTransformer._positions, MODEL)
def positions_column_by_column(self: SwinTransformer, grid: tuple[int, int]) -> Tensor:
    assert self.absolute_pos_embed is not None
    return self.absolute_pos_embed.reshape(1, *grid[::-1], -1).transpose(0, 2, 1, 3)


def last_map(self: SwinTransformer, x: Any) -> Tensor:
    x = self.embed(x)
    for stage in self.layers:
        x = stage.merge(stage(x))
    return x


@plant(SwinTransformer.__call__, MODEL, test_every_token_is_normed_before_the_mean_is_taken)
def mean_before_the_norm(self: SwinTransformer, x: Any) -> Tensor:
    return self.head(self.norm(last_map(self, x).mean(axis=(1, 2))))


@plant(
    SwinTransformer.__call__,
    MODEL,
    test_the_order_of_tokens_does_not_matter_after_the_last_block,
)
def head_on_the_first_token(self: SwinTransformer, x: Any) -> Tensor:
    return self.head(self.norm(last_map(self, x))[:, 0, 0])


@plant(SwinTransformer.__call__, MODEL, test_a_map_of_equal_tokens_is_classified_like_one_of_them)
def sum_in_place_of_the_mean(self: SwinTransformer, x: Any) -> Tensor:
    return self.head(self.norm(last_map(self, x)).sum(axis=(1, 2)))


@plant(SwinTransformer.__call__, MODEL, test_images_of_a_batch_do_not_mix_in_the_model)
def features_centred_over_the_batch(self: SwinTransformer, x: Any) -> Tensor:
    pooled = self.norm(last_map(self, x)).mean(axis=(1, 2))
    return self.head(pooled - pooled.mean(axis=0, keepdims=True))


@plant(
    SwinTransformer.feature_maps,
    test_each_stage_halves_the_map_upwards_and_doubles_the_channels,
)
def features_after_the_merge(self: SwinTransformer, x: Any) -> list[Tensor]:
    x, maps = self.embed(x), []
    for stage in self.layers:
        x = stage.merge(stage(x))
        maps.append(x)
    return maps


@plant(mean, test_the_model_has_the_derivative_of_its_value)
def derivative_of_the_mean_like_that_of_a_sum(x: Any, **settings: Any) -> Any:
    y, undo = mean(x, **settings)
    return y, lambda g: (undo(g)[0] * (x.size / y.size),)


@plant(PatchEmbed.__call__, test_forward_and_backward_change_neither_images_nor_weights)
def images_centred_in_place(self: PatchEmbed, x: Tensor) -> Tensor:
    x.data -= x.data.mean()
    return right_embedding(self, x)


@plant(linear, test_float32_gives_the_logits_of_float64_to_four_digits)
def half_precision_inside(x: Any, weight: Any, bias: Any) -> Any:
    rounded = x.astype(np.float16).astype(x.dtype) if x.dtype == np.float32 else x
    return linear(rounded, weight, bias)


# ── weights and costs ────────────────────────────────────────────────────────────────────────────

LOADING = test_loaded_weights_are_copies_of_all_that_was_saved


@plant(Layer.load_state_dict, LOADING)
def loaded_weights_shared(self: Layer, state: Mapping[str, Any], strict: bool = True) -> None:
    for name, parameter in self.named_parameters():
        parameter.data = state[name]


@plant(Layer.load_state_dict, LOADING)
def vectors_not_loaded(self: Layer, state: Mapping[str, Any], strict: bool = True) -> None:
    right_load(self, {n: a for n, a in state.items() if a.ndim > 1}, strict=False)


@plant(
    WindowAttention.__init__,
    test_parameters_depend_on_the_image_through_the_tables_of_shrunk_windows_only,
)
def one_table_row_per_pair(
    self: WindowAttention, channels: int, heads: int, window: Any, **settings: Any
) -> None:
    right_attention_init(self, channels, heads, window, **settings)
    rows, dtype = (window[0] * window[1]) ** 2, settings["init"].dtype
    self.relative_position_bias_table = Parameter(np.zeros((rows, heads), dtype))


@plant(
    SwinBlock.macs,
    test_the_stated_cost_is_the_number_of_multiplications,
    test_windows_cost_in_proportion_to_the_area_and_a_covering_window_is_msa,
)
def cost_without_the_attention(self: SwinBlock, grid: tuple[int, int]) -> int:
    (H, W), (Mh, Mw) = grid, self.attn.window
    return right_macs(self, grid) - 2 * Mh * Mw * H * W * self.norm1.weight.size
