"""Defects of derivatives and of training: the values of the forward pass are right."""

from __future__ import annotations

from minswin.crosscheck.faults import fault

NORM = "reference.normalize.layer_norm"

fault(
    "no gradient through the windows", "reference.windows.window_merge",
    "(_cut(g, window),)", "(0 * _cut(g, window),)",
    source="microsoft/Swin-Transformer (unit tests of kernels/window_process)",
    first="cotangent merged", names="the derivative is zero",
)  # fmt: skip
fault(
    "the roll's gradient rolled the same way", "reference.shape.roll",
    "(xp.roll(g, back, axis),)", "(xp.roll(g, shift, axis),)",
    source="porting", first="cotangent rolled", names="the derivative is rolled the wrong way",
)  # fmt: skip
fault(
    "softmax without the sum of its row", "reference.normalize.softmax",
    "(p * (g - (p * g).sum(axis=axis, keepdims=True)),)", "(p * g,)",
    source="porting", first="cotangent logits",
    names="the derivative of the softmax lacks the sum over its row",
)  # fmt: skip
fault(
    "backward of the softmax does nothing", "reference.normalize.softmax",
    "(p * (g - (p * g).sum(axis=axis, keepdims=True)),)", "(0 * g,)",
    source="minitorch (a check by cotangents of ones passes it)",
    first="cotangent logits", names="the derivative is zero",
)  # fmt: skip
fault(
    "norm without the gradient of its variance", NORM,
    "- xhat * along", "",
    source="porting", first="cotangent output",
    names="the derivative of the norm lacks the part of its variance",
)  # fmt: skip
fault(
    "norm without the gradient of its mean", NORM,
    "dxhat - dxhat.mean(axis=-1, keepdims=True) - xhat * along", "dxhat - xhat * along",
    source="porting", first="cotangent output",
    names="the derivative of the norm lacks the part of its mean",
)  # fmt: skip
fault(
    "GELU's gradient without x φ(x)", "reference.elementwise.gelu",
    "(g * (cdf + x * pdf),)", "(g * cdf,)",
    source="porting", first="cotangent fc1",
    names="the derivative of GELU lacks x φ(x)",
)  # fmt: skip
fault(
    "the table's gradient overwritten", "reference.shape._add_rows",
    "xp.add.at(table, rows.reshape(-1), x.reshape(rows.size, *tail))",
    "table[rows.reshape(-1)] = x.reshape(rows.size, *tail)",
    source="porting", first="cotangent relative_position_bias_table",
    names="pairs of one displacement overwrite each other in the table's gradient",
)  # fmt: skip
fault(
    "a bias gradient averaged over tokens", "reference.linear.linear",
    "g.sum(axis=0)", "g.mean(axis=0)",
    source="porting", first="cotangent bias",
    names="the gradient of the bias is averaged over tokens instead of added up",
)  # fmt: skip
fault(
    "merging's gradient row by row", "reference.windows.patch_merge",
    "g.transpose(0, 1, 4, 2, 3, 5)", "g.transpose(0, 1, 3, 2, 4, 5)",
    source="porting", first="cotangent padded",
    names="the derivative of merging takes the neighbours row by row",
)  # fmt: skip
fault(
    "weight decay on norms and biases", "training.optimizers.decays",
    'if len(parameter.shape) <= 1 or name.endswith(".bias"):\n        return False',
    "pass",
    source="microsoft/Swin-Transformer#369", first="after", case="trained",
)  # fmt: skip
fault(
    "Adam without correction of its start", "reference.updates.adamw_step",
    "lr / (1 - beta1**t)", "lr",
    source="porting", first="after", case="trained",
)  # fmt: skip
