"""Defects of derivatives and of training: the values of the forward pass are right."""

from __future__ import annotations

from minswin.crosscheck.edits.classics import classic

classic(
    "no gradient through the windows", "reference.windows.window_merge",
    "(_cut(g, window),)",
    "(0 * _cut(g, window),)",
    met="microsoft/Swin-Transformer (unit tests of kernels/window_process)",
    first="cotangent merged", words="the derivative is zero",
)  # fmt: skip
classic(
    "the roll's gradient rolled the same way", "reference.shape.roll",
    "(xp.roll(g, back, axis),)",
    "(xp.roll(g, shift, axis),)",
    met="porting", first="cotangent rolled", words="the derivative is rolled the wrong way",
    remedy="undo a roll by s with a roll by −s",
)  # fmt: skip
classic(
    "softmax without the sum of its row", "reference.normalize.softmax",
    "(p * (g - (p * g).sum(axis=axis, keepdims=True)),)",
    "(p * g,)",
    met="porting", first="cotangent logits",
    words="the derivative of the softmax lacks the sum over its row",
    remedy="p (g − Σ p g), the sum over the keys",
)  # fmt: skip
classic(
    "backward of the softmax does nothing", "reference.normalize.softmax",
    "(p * (g - (p * g).sum(axis=axis, keepdims=True)),)",
    "(0 * g,)",
    met="minitorch (a check by cotangents of ones passes it)", first="cotangent logits",
    words="the derivative is zero",
)  # fmt: skip
classic(
    "norm without the gradient of its variance", "reference.normalize.layer_norm",
    "- xhat * along",
    "",
    met="porting", first="cotangent output",
    words="the derivative of the norm lacks the part of its variance",
    remedy="(g γ − mean(g γ) − x̂ mean(g γ x̂)) / √(var + ε), the means over the channels",
)  # fmt: skip
classic(
    "norm without the gradient of its mean", "reference.normalize.layer_norm",
    "dxhat - dxhat.mean(axis=-1, keepdims=True) - xhat * along",
    "dxhat - xhat * along",
    met="porting", first="cotangent output",
    words="the derivative of the norm lacks the part of its mean",
    remedy="(g γ − mean(g γ) − x̂ mean(g γ x̂)) / √(var + ε), the means over the channels",
)  # fmt: skip
classic(
    "GELU's gradient without x φ(x)", "reference.elementwise.gelu",
    "(g * (cdf + x * pdf),)",
    "(g * cdf,)",
    met="porting", first="cotangent fc1", words="the derivative of GELU lacks x φ(x)",
    remedy="Φ(x) + x φ(x), φ the density of the normal distribution",
)  # fmt: skip
classic(
    "the table's gradient overwritten", "reference.shape._add_rows",
    "xp.add.at(table, rows.reshape(-1), x.reshape(rows.size, *tail))",
    "table[rows.reshape(-1)] = x.reshape(rows.size, *tail)",
    met="porting", first="cotangent relative_position_bias_table",
    words="pairs of one displacement overwrite each other in the table's gradient",
    remedy="add, do not assign: np.add.at, index_add, scatter_add",
)  # fmt: skip
classic(
    "a bias gradient averaged over tokens", "reference.linear.linear",
    "g.sum(axis=0)",
    "g.mean(axis=0)",
    met="porting", first="cotangent bias",
    words="the gradient of the bias is averaged over tokens instead of added up",
    remedy="the gradient of a bias is the sum of the cotangents of all tokens",
)  # fmt: skip
classic(
    "merging's gradient row by row", "reference.windows.patch_merge",
    "g.transpose(0, 1, 4, 2, 3, 5)",
    "g.transpose(0, 1, 3, 2, 4, 5)",
    met="porting", first="cotangent padded",
    words="the derivative of merging takes the neighbours row by row",
    remedy="put group 2 · column + row of the channels back at (row, column)",
)  # fmt: skip
classic(
    "weight decay on norms and biases", "training.optimizers.decays",
    'if len(parameter.shape) <= 1 or name.endswith(".bias"):\n        return False',
    "pass",
    met="microsoft/Swin-Transformer#369", first="after", case="trained",
    words="weight decay pulls on norms and biases",
    remedy="no decay of what has one axis, nor of tables and tokens that are positions",
)  # fmt: skip
classic(
    "Adam without correction of its start", "reference.updates.adamw_step",
    "lr / (1 - beta1**t)",
    "lr",
    met="porting", first="after", case="trained",
    words="the moments are not corrected for their start",
    remedy="m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)",
)  # fmt: skip
classic(
    "decay as a part of the gradient", "reference.updates.adamw_step",
    "p *= 1 - lr * decay",
    "g = g + decay * p",
    met="facebookresearch/deit#82", first="after", case="trained",
    words="weight decay is a part of the gradient, as in Adam",
    remedy="p ← (1 − η λ) p beside the step: AdamW, not Adam",
)  # fmt: skip
classic(
    "ε under the root", "reference.updates.adamw_step",
    "root /= math.sqrt(1 - beta2**t)\n    root += eps",
    "root = array_module(p).sqrt(v / (1 - beta2**t) + eps)",
    met="porting", first="after", case="trained",
    words="ε stands under the root", remedy="m̂ / (√v̂ + ε)",
)  # fmt: skip
