"""Defects that no forward pass of Swin in evaluation shows: see classics_forward.py."""

from __future__ import annotations

from minswin.crosscheck.edits.classics import classic

# fmt: off
NORM = "(g γ − mean(g γ) − x̂ mean(g γ x̂)) / √(var + ε), the means over the channels"

# Derivatives and training: the values of the forward pass are right.
classic("no gradient through the windows", "reference.windows.window_merge",
    "(_cut(g, window),)", "(0 * _cut(g, window),)",
    met="microsoft/Swin-Transformer (unit tests of kernels/window_process)",
    first="cotangent merged", words="the derivative is zero")
classic("the roll's gradient rolled the same way", "reference.shape.roll",
    "(xp.roll(g, back, axis),)", "(xp.roll(g, shift, axis),)", first="cotangent rolled",
    words="the derivative is rolled the wrong way", remedy="undo a roll by s with a roll by −s")
classic("softmax without the sum of its row", "reference.normalize.softmax",
    "(p * (g - (p * g).sum(axis=axis, keepdims=True)),)", "(p * g,)", first="cotangent logits",
    words="the derivative of the softmax lacks the sum over its row",
    remedy="p (g − Σ p g), the sum over the keys")
classic("backward of the softmax does nothing", "reference.normalize.softmax",
    "(p * (g - (p * g).sum(axis=axis, keepdims=True)),)", "(0 * g,)",
    met="minitorch (a check by cotangents of ones passes it)", first="cotangent logits",
    words="the derivative is zero")
classic("norm without the gradient of its variance", "reference.normalize.layer_norm",
    "- xhat * along", "", first="cotangent output",
    words="the derivative of the norm lacks the part of its variance", remedy=NORM)
classic("norm without the gradient of its mean", "reference.normalize.layer_norm",
    "dxhat - dxhat.mean(axis=-1, keepdims=True) - xhat * along", "dxhat - xhat * along",
    first="cotangent output", words="the derivative of the norm lacks the part of its mean",
    remedy=NORM)
classic("GELU's gradient without x φ(x)", "reference.elementwise.gelu",
    "(g * (cdf + x * pdf),)", "(g * cdf,)", first="cotangent fc1",
    words="the derivative of GELU lacks x φ(x)",
    remedy="Φ(x) + x φ(x), φ the density of the normal distribution")
classic("the table's gradient overwritten", "reference.shape._add_rows",
    "xp.add.at(table, rows.reshape(-1), x.reshape(rows.size, *tail))",
    "table[rows.reshape(-1)] = x.reshape(rows.size, *tail)",
    first="cotangent relative_position_bias_table",
    words="pairs of one displacement overwrite each other in the table's gradient",
    remedy="add, do not assign: np.add.at, index_add, scatter_add")
classic("a bias gradient averaged over tokens", "reference.linear.linear",
    "g.sum(axis=0)", "g.mean(axis=0)", first="cotangent bias",
    words="the gradient of the bias is averaged over tokens instead of added up",
    remedy="the gradient of a bias is the sum of the cotangents of all tokens")
classic("merging's gradient row by row", "reference.windows.patch_merge",
    "g.transpose(0, 1, 4, 2, 3, 5)", "g.transpose(0, 1, 3, 2, 4, 5)", first="cotangent padded",
    words="the derivative of merging takes the neighbours row by row",
    remedy="put group 2 · column + row of the channels back at (row, column)")
classic("weight decay on norms and biases", "training.optimizers.decays",
    'if len(parameter.shape) <= 1 or name.endswith(".bias"):\n        return False', "pass",
    met="microsoft/Swin-Transformer#369", first="after", case="trained",
    words="weight decay pulls on norms and biases",
    remedy="no decay of what has one axis, nor of tables and tokens that are positions")
classic("Adam without correction of its start", "reference.updates.adamw_step",
    "lr / (1 - beta1**t)", "lr", first="after", case="trained",
    words="the moments are not corrected for their start",
    remedy="m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)")
classic("decay as a part of the gradient", "reference.updates.adamw_step",
    "p *= 1 - lr * decay", "g = g + decay * p", met="facebookresearch/deit#82", first="after",
    case="trained", words="weight decay is a part of the gradient, as in Adam",
    remedy="p ← (1 − η λ) p beside the step: AdamW, not Adam")
classic("ε under the root", "reference.updates.adamw_step",
    "root /= math.sqrt(1 - beta2**t)\n    root += eps",
    "root = array_module(p).sqrt(v / (1 - beta2**t) + eps)", first="after", case="trained",
    words="ε stands under the root", remedy="m̂ / (√v̂ + ε)")

# State, training mode, loading, other models: each is killed by a probe of `minswin conform`, or by
# the test that stands beside it.
classic("a small image switches the shift off for good", "layers.windows.WindowAttention.__call__",
    "    shift = (window[0] // 2",
    "    self.shift = self.shift and may_shift\n    shift = (window[0] // 2",
    met="pytorch/vision#6266")
classic("dropout and drop path in evaluation", "layers.basic.Dropout.__call__",
    "if not self.active:", "if self.rate == 0:",
    met="WangFeng18/Swin-Transformer#7 pytorch/vision#7224")
classic("one rate of drop path for all blocks", "models.base.drop_path_rates",
    "rate * i / max(blocks - 1, 1)", "rate",
    met="huggingface/transformers#33974 huggingface/transformers#34291",
    test="test_model_laws.py::test_drop_path_rates_are_an_arithmetic_progression_from_zero")
classic("drop path with a mask of rank four", "layers.basic.DropPath.mask_shape",
    "(1,) * (x.ndim - 1)", "(1, 1, 1)", met="keras-team/keras-hub#3039 keras-team/keras-hub#3040",
    test="test_layer_laws.py::test_drop_path_keeps_or_drops_whole_samples")
classic("no drop path around the MLP", "models.swin.SwinBlock.__call__",
    "self.drop_path(self.mlp(self.norm2(x)))", "self.mlp(self.norm2(x))",
    met="huggingface/transformers#18137",
    test="test_layer_laws.py::test_a_block_whose_branches_are_all_dropped_is_the_identity")
classic("the mask of V2 is −∞", "layers.windows_v2.WindowAttentionV2.shifted_windows",
    "self.mask_value", "-float('inf')", met="porting (at the clamp, −100 does not mask)")
classic("the mask of V2 added twice", "layers.windows_v2.WindowAttentionV2.shifted_windows",
    "mask_value=self.mask_value", "mask_value=2 * self.mask_value",
    met="transformers (Swinv2SelfAttention)")
classic("cosines by the norms of query and key of one token", "layers.windows_v2.cosine_attention",
    "attend(unit(q) * scale, unit(k), v, bias, drop)",
    "attend(unit(q) * scale / ops.sqrt((k * k).sum(axis=-1, keepdims=True)), k, v, bias, drop)",
    met="ChristophReich1996/Swin-Transformer-V2#1",
    words="a score is divided by the length of the query's own key",
    remedy="bring q and k to length 1 each by itself, then take q kᵀ")
classic("logit_scale not clamped", "layers.windows_v2.WindowAttentionV2.scale",
    "LARGEST - ops.relu(LARGEST - self.logit_scale)", "self.logit_scale",
    words="logit_scale is not clamped", remedy="exp(min(logit_scale, ln 100))")
classic("keys of V2 with a bias", "layers.windows_v2.WindowAttentionV2.shifted_windows",
    "0 * self.q_bias.data", "self.q_bias", met="porting (a fused qkv bias)",
    words="keys have a bias", remedy="the bias of qkv is q_bias, zeros, v_bias")
classic("coordinates of V2 by this window", "layers.windows_v2.log_spaced",
    "max(W - 1, 1)", "max(M - 1, 1)", met="microsoft/Swin-Transformer#251")
classic("one absolute position too many", "models.swin.SwinTransformer.__init__",
    "init.normal(1, H * W, C,", "init.normal(1, 1 + H * W, C,",
    met="huggingface/transformers#37161")
classic("absolute positions column by column", "models.swin.SwinTransformer._positions",
    "self.absolute_pos_embed.reshape(1, *grid, -1)",
    "self.absolute_pos_embed.reshape(1, *grid[::-1], -1).transpose(0, 2, 1, 3)")
classic("tables resized by a = −1/2", "weights.resize.bicubic_matrix",
    "-0.75))", "-0.5))", met="Blaizzy/mlx-vlm#1241",
    test="test_weights_resize.py::test_the_four_weights_of_a_quarter_are_as_computed_by_hand")
classic("positions resized with height and width exchanged", "weights.resize.resize_grid",
    "matrix(x.shape[0], size[0]), matrix(x.shape[1], size[1])",
    "matrix(x.shape[0], size[1]), matrix(x.shape[1], size[0])",
    met="princeton-vl/WAFT#2 facebookresearch/dino#8",
    test="test_crosscheck_score.py::test_positions_are_resized_to_the_grid_that_was_asked_for")
classic("first weights cut off at two deviations", "layers.parameters.Init.normal",
    "self.rng.standard_normal(shape)", "np.clip(self.rng.standard_normal(shape), -2, 2)",
    met="huggingface/pytorch-image-models#1286 huggingface/transformers#19305",
    test="test_crosscheck_score.py::test_first_weights_are_normal_and_not_cut_off")
classic("the rate drops after the warm-up", "training.optimizers.warmup_cosine",
    "math.pi * (step - warmup) / (steps - warmup)", "math.pi * step / steps",
    met="microsoft/Swin-Transformer#277 microsoft/Swin-Transformer#278",
    test="test_training_schedules.py::"
    "test_the_rate_rises_to_base_at_the_end_of_the_warmup_and_then_only_falls")
classic("the teacher's loss summed over classes", "models.deit.soft_distillation_loss",
    "(crossed - entropy) * (1 / p.shape[1])", "crossed - entropy", met="facebookresearch/deit#61",
    test="test_crosscheck_score.py::"
    "test_the_loss_of_a_soft_teacher_is_a_mean_over_images_and_classes")
classic("words of TNT see the next patch", "layers.words.WordEmbed.__call__",
    "if self.legacy:", "if True:",
    met="huggingface/pytorch-image-models#701 huggingface/pytorch-image-models#2480")
classic("the causal mask the wrong way round", "layers.sequences.causal_mask",
    "np.triu(np.full((count, count), -np.inf, dtype), 1)",
    "np.tril(np.full((count, count), -np.inf, dtype), -1)", met="pytorch/pytorch#170400",
    test="test_transformer.py::test_a_word_depends_on_no_later_word_and_on_every_earlier_one")
classic("the cost without the product with v", "models.swin.SwinBlock.macs",
    "2 * Mh * Mw", "Mh * Mw", met="microsoft/Swin-Transformer#103 microsoft/Swin-Transformer#165",
    test="test_costs.py::test_the_stated_cost_is_the_number_of_multiplications")
