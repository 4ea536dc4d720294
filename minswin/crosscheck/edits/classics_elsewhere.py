"""Defects that no trace of Swin in evaluation shows: state, training mode, loading, other models.

Each is killed by a probe of `minswin conform`, or by the test that stands beside it.
"""

from __future__ import annotations

from minswin.crosscheck.edits.classics import classic

classic(
    "a small image switches the shift off for good", "layers.windows.WindowAttention.__call__",
    "    shift = (window[0] // 2",
    "    self.shift = self.shift and may_shift\n    shift = (window[0] // 2",
    met="pytorch/vision#6266",
)  # fmt: skip
classic(
    "dropout and drop path in evaluation", "layers.basic.Dropout.__call__",
    "if not self.active:",
    "if self.rate == 0:",
    met="WangFeng18/Swin-Transformer#7 pytorch/vision#7224",
)  # fmt: skip
classic(
    "one rate of drop path for all blocks", "models.base.drop_path_rates",
    "rate * i / max(blocks - 1, 1)",
    "rate",
    met="huggingface/transformers#33974 huggingface/transformers#34291",
    test="test_model_laws.py::test_drop_path_rates_are_an_arithmetic_progression_from_zero",
)  # fmt: skip
classic(
    "drop path with a mask of rank four", "layers.basic.DropPath.mask_shape",
    "(1,) * (x.ndim - 1)",
    "(1, 1, 1)",
    met="keras-team/keras-hub#3039 keras-team/keras-hub#3040",
    test="test_layer_laws.py::test_drop_path_keeps_or_drops_whole_samples",
)  # fmt: skip
classic(
    "no drop path around the MLP", "models.swin.SwinBlock.__call__",
    "self.drop_path(self.mlp(self.norm2(x)))",
    "self.mlp(self.norm2(x))",
    met="huggingface/transformers#18137",
    test="test_layer_laws.py::test_a_block_whose_branches_are_all_dropped_is_the_identity",
)  # fmt: skip
classic(
    "the mask of V2 is −∞", "layers.windows_v2.WindowAttentionV2.shifted_windows",
    "self.mask_value",
    "-float('inf')",
    met="porting (at the clamp, −100 does not mask)",
)  # fmt: skip
classic(
    "the mask of V2 added twice", "layers.windows_v2.WindowAttentionV2.shifted_windows",
    "mask_value=self.mask_value",
    "mask_value=2 * self.mask_value",
    met="transformers (Swinv2SelfAttention)",
)  # fmt: skip
classic(
    "cosines by the norms of query and key of one token", "layers.windows_v2.cosine_attention",
    "attend(unit(q) * scale, unit(k), v, bias, drop)",
    "attend(unit(q) * scale / ops.sqrt((k * k).sum(axis=-1, keepdims=True)), k, v, bias, "
    "drop)",
    met="ChristophReich1996/Swin-Transformer-V2#1",
)  # fmt: skip
classic(
    "logit_scale not clamped", "layers.windows_v2.WindowAttentionV2.scale",
    "LARGEST - ops.relu(LARGEST - self.logit_scale)",
    "self.logit_scale",
    met="porting",
)  # fmt: skip
classic(
    "keys of V2 with a bias", "layers.windows_v2.WindowAttentionV2.shifted_windows",
    "0 * self.q_bias.data",
    "self.q_bias",
    met="porting (a fused qkv bias)",
)  # fmt: skip
classic(
    "coordinates of V2 by this window", "layers.windows_v2.log_spaced",
    "max(W - 1, 1)",
    "max(M - 1, 1)",
    met="microsoft/Swin-Transformer#251",
)  # fmt: skip
classic(
    "one absolute position too many", "models.swin.SwinTransformer.__init__",
    "init.normal(1, H * W, C,",
    "init.normal(1, 1 + H * W, C,",
    met="huggingface/transformers#37161",
)  # fmt: skip
classic(
    "absolute positions column by column", "models.swin.SwinTransformer._positions",
    "self.absolute_pos_embed.reshape(1, *grid, -1)",
    "self.absolute_pos_embed.reshape(1, *grid[::-1], -1).transpose(0, 2, 1, 3)",
    met="porting",
)  # fmt: skip
classic(
    "tables resized by a = −1/2", "weights.resize.bicubic_matrix",
    "-0.75))",
    "-0.5))",
    met="Blaizzy/mlx-vlm#1241",
    test="test_weights_resize.py::test_the_four_weights_of_a_quarter_are_as_computed_by_hand",
)  # fmt: skip
classic(
    "positions resized with height and width exchanged", "weights.resize.resize_grid",
    "matrix(x.shape[0], size[0]), matrix(x.shape[1], size[1])",
    "matrix(x.shape[0], size[1]), matrix(x.shape[1], size[0])",
    met="princeton-vl/WAFT#2 facebookresearch/dino#8",
    test="test_crosscheck_score.py::test_positions_are_resized_to_the_grid_that_was_asked_for",
)  # fmt: skip
classic(
    "first weights cut off at two deviations", "layers.parameters.Init.normal",
    "self.rng.standard_normal(shape)",
    "np.clip(self.rng.standard_normal(shape), -2, 2)",
    met="huggingface/pytorch-image-models#1286 huggingface/transformers#19305",
    test="test_crosscheck_score.py::test_first_weights_are_normal_and_not_cut_off",
)  # fmt: skip
classic(
    "the rate drops after the warm-up", "training.optimizers.warmup_cosine",
    "math.pi * (step - warmup) / (steps - warmup)",
    "math.pi * step / steps",
    met="microsoft/Swin-Transformer#277 microsoft/Swin-Transformer#278",
    test="test_training_optimizers.py::test_the_rate_rises_to_base_at_the_end_of_the_warmup_and_then_only_falls",
)  # fmt: skip
classic(
    "the teacher's loss summed over classes", "models.deit.soft_distillation_loss",
    "(crossed - entropy) * (1 / p.shape[1])",
    "crossed - entropy",
    met="facebookresearch/deit#61",
    test="test_crosscheck_score.py::test_the_loss_of_a_soft_teacher_is_a_mean_over_images_and_classes",
)  # fmt: skip
classic(
    "words of TNT see the next patch", "layers.words.WordEmbed.__call__",
    "if self.legacy:",
    "if True:",
    met="huggingface/pytorch-image-models#701 huggingface/pytorch-image-models#2480",
)  # fmt: skip
classic(
    "the causal mask the wrong way round", "layers.sequences.causal_mask",
    "np.triu(np.full((count, count), -np.inf, dtype), 1)",
    "np.tril(np.full((count, count), -np.inf, dtype), -1)",
    met="pytorch/pytorch#170400",
    test="test_transformer.py::test_a_word_depends_on_no_later_word_and_on_every_earlier_one",
)  # fmt: skip
classic(
    "the cost without the product with v", "models.swin.SwinBlock.macs",
    "2 * Mh * Mw",
    "Mh * Mw",
    met="microsoft/Swin-Transformer#103 microsoft/Swin-Transformer#165",
    test="test_costs.py::test_the_stated_cost_is_the_number_of_multiplications",
)  # fmt: skip
