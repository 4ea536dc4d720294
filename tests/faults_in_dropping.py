"""Wrong dropout and drop path: some of them found in real ports of Swin."""

from __future__ import annotations

from typing import Any

import numpy as np
from planting import plant
from test_layer_laws import (
    test_a_block_drops_each_branch_of_each_sample_by_itself,
    test_a_block_whose_branches_are_all_dropped_is_the_identity,
    test_drop_path_keeps_or_drops_whole_samples,
    test_dropout_scales_what_it_keeps_and_its_gradient_alike,
    test_dropping_keeps_the_mean_and_the_rate,
)
from test_model_laws import (
    test_drop_path_rates_are_an_arithmetic_progression_from_zero,
    test_evaluation_equals_a_model_without_any_dropping,
    test_one_seed_gives_one_model_and_one_training_forward,
    test_the_rates_run_through_all_blocks_of_all_stages,
)

from minswin import ops
from minswin.autograd import Tensor
from minswin.layers import Dropout, DropPath
from minswin.models.swin import SwinBlock, drop_path_rates
from minswin.reference.elementwise import dropout

DROP_PATH = test_drop_path_keeps_or_drops_whole_samples
BRANCHES = test_a_block_drops_each_branch_of_each_sample_by_itself

right_dropout_call = Dropout.__call__


@plant(DropPath.mask_shape, DROP_PATH, BRANCHES)
def drop_path_for_the_whole_batch(self: DropPath, x: Tensor) -> tuple[int, ...]:
    return (1,) * x.ndim


@plant(DropPath.mask_shape, DROP_PATH, shows=(ValueError,))
def drop_path_mask_of_rank_four(self: DropPath, x: Tensor) -> tuple[int, ...]:
    return (x.shape[0], 1, 1, 1)  # broadcasts a (B, N, C) to (B, B, N, C)


@plant(DropPath.mask_shape, DROP_PATH, BRANCHES)
def drop_path_of_single_numbers(self: DropPath, x: Tensor) -> tuple[int, ...]:
    return x.shape


@plant(Dropout.__call__, DROP_PATH, test_evaluation_equals_a_model_without_any_dropping)
def dropping_in_evaluation_too(self: Dropout, x: Tensor) -> Tensor:
    keep = self.rng.random(self.mask_shape(x)) >= self.rate
    return ops.dropout(x, keep, rate=self.rate)


@plant(
    Dropout.__call__,
    test_one_seed_gives_one_model_and_one_training_forward,
)
def dropping_by_a_generator_of_its_own(self: Dropout, x: Tensor) -> Tensor:
    self.rng = np.random.default_rng()
    return right_dropout_call(self, x)


@plant(
    dropout,
    DROP_PATH,
    BRANCHES,
    test_dropping_keeps_the_mean_and_the_rate,
    test_dropout_scales_what_it_keeps_and_its_gradient_alike,
)
def dropping_without_rescaling(x: Any, keep: Any, *, rate: float) -> Any:
    return x * keep, lambda g: (g * keep, None)


@plant(dropout, test_dropout_scales_what_it_keeps_and_its_gradient_alike)
def derivative_of_dropping_that_keeps_all(x: Any, keep: Any, *, rate: float) -> Any:
    return dropout(x, keep, rate=rate)[0], lambda g: (g / (1 - rate), None)


@plant(
    drop_path_rates,
    test_drop_path_rates_are_an_arithmetic_progression_from_zero,
    test_the_rates_run_through_all_blocks_of_all_stages,
)
def one_drop_path_rate_for_all_blocks(rate: float, blocks: int) -> list[float]:
    return [rate] * blocks


@plant(
    drop_path_rates,
    test_drop_path_rates_are_an_arithmetic_progression_from_zero,
    test_the_rates_run_through_all_blocks_of_all_stages,
)
def drop_path_rates_that_stop_one_step_short(rate: float, blocks: int) -> list[float]:
    return [rate * i / blocks for i in range(blocks)]


@plant(SwinBlock.__call__, BRANCHES, test_a_block_whose_branches_are_all_dropped_is_the_identity)
def mlp_branch_never_dropped(self: SwinBlock, x: Tensor) -> Tensor:
    x = x + self.drop_path(self.attn(self.norm1(x)))
    return x + self.mlp(self.norm2(x))


@plant(SwinBlock.__call__, BRANCHES)
def one_draw_for_both_branches(self: SwinBlock, x: Tensor) -> Tensor:
    state = self.drop_path.rng.bit_generator.state
    x = x + self.drop_path(self.attn(self.norm1(x)))
    self.drop_path.rng.bit_generator.state = state
    return x + self.drop_path(self.mlp(self.norm2(x)))
