"""Mistakes in norms, linear layers, GELU, residuals, the patch embedding, the pooling, the loss."""

from __future__ import annotations

import math

import numpy as np

from minswin.crosscheck import formulas
from minswin.crosscheck.mistakes import Formula, mistake, sign
from minswin.crosscheck.recording import Step

Array = np.ndarray

# ── layer norm ───────────────────────────────────────────────────────────────────────────────────

NORM = "γ (x − mean) / √(mean of squares + ε) + β over the channels of each token"


def _with_eps(eps: float) -> Formula:
    def norm(step: Step, x: Array, weight: Array, bias: Array) -> Array:
        if math.isclose(step.settings["eps"], eps):
            raise ValueError("this is the right ε")
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps) * weight + bias

    return norm


for _eps, _whose, _threads in (
    (1e-3, "the default of Keras", "keras-team/keras-hub#2298"),
    (1e-6, "the default of ViT and Flax", "kornia/kornia#2786"),
    (1e-5, "the default of Swin and PyTorch", "kornia/kornia#2786"),
    (1e-12, "the default of BERT", "huggingface/transformers#18137"),
    (0.0, "none at all", ""),
):
    mistake(
        f"ε of the layer norm is {_eps:g}, {_whose}", "LayerNorm",
        remedy="ε is 1e-5 in Swin, 1e-6 in ViT", threads=_threads,
    )(_with_eps(_eps))  # fmt: skip


@mistake("ε is added to the deviation, outside of the root", "LayerNorm", remedy=NORM)
def eps_outside(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    deviation = x.std(axis=-1, keepdims=True) + step.settings["eps"]
    return (x - x.mean(axis=-1, keepdims=True)) / deviation * weight + bias


@mistake(
    "the variance is divided by C − 1", "LayerNorm",
    remedy="divide by C: numpy's var with ddof=0, torch's with unbiased=False",
    threads="harvardnlp/annotated-transformer#119",
)  # fmt: skip
def unbiased(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    variance = x.var(axis=-1, keepdims=True, ddof=1) + step.settings["eps"]
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(variance) * weight + bias


@mistake("γ and β of the layer norm are not applied", "LayerNorm", remedy=NORM)
def not_affine(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    return formulas.layer_norm(step, x, np.ones_like(weight), np.zeros_like(bias))


@mistake("β of the layer norm is not added", "LayerNorm", remedy=NORM)
def no_shift(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    return formulas.layer_norm(step, x, weight, np.zeros_like(bias))


@mistake("γ of the layer norm is not applied", "LayerNorm", remedy=NORM)
def no_gain(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    return formulas.layer_norm(step, x, np.ones_like(weight), bias)


@mistake("the layer norm multiplies by 1 + γ", "LayerNorm", remedy=NORM)
def one_plus_gain(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    return formulas.layer_norm(step, x, 1 + weight, bias)


@mistake("the mean is not taken off (RMS norm)", "LayerNorm", remedy=NORM)
def root_mean_square(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + step.settings["eps"])
    return x / size * weight + bias


@mistake("the norm runs over the whole map of an image", "LayerNorm", remedy=NORM)
def over_the_map(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    axes = tuple(range(1, x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt(x.var(axis=axes, keepdims=True) + step.settings["eps"]) * weight + bias


@mistake("the norm runs over images and tokens, as a batch norm", "LayerNorm", remedy=NORM)
def over_the_batch(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    axes = tuple(range(x.ndim - 1))
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt(x.var(axis=axes, keepdims=True) + step.settings["eps"]) * weight + bias


@mistake("there is no norm here", "LayerNorm", remedy=NORM)
def no_norm(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    return x


# ── linear layers and GELU ───────────────────────────────────────────────────────────────────────

LINEAR = "y = x Wᵀ + b, the weight stored (outputs, inputs)"
GELU = "x (1 + erf(x / √2)) / 2, the exact one"


@mistake("the bias of the linear layer is not added", "Linear", "fc1", "fc2", remedy=LINEAR)
def no_bias(step: Step, x: Array, weight: Array, bias: Array) -> Array:
    return formulas.linear(step, x, weight)


@mistake("the weight of the linear layer is transposed", "Linear", "fc1", "fc2", remedy=LINEAR)
def weight_transposed(step: Step, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Frameworks store (inputs, outputs) or (outputs, inputs)."""
    changed = weight.T if weight.shape[0] == weight.shape[1] else weight.T.reshape(weight.shape)
    return formulas.linear(step, x, changed, bias)


@mistake(
    "GELU is the tanh approximation", "gelu",
    remedy=GELU, threads="tinygrad/tinygrad#16162 huggingface/pytorch-image-models#2105",
)  # fmt: skip
def gelu_tanh(step: Step, x: Array) -> Array:
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


@mistake("GELU is x · sigmoid(1.702 x)", "gelu", remedy=GELU)
def quick_gelu(step: Step, x: Array) -> Array:
    return x / (1 + np.exp(-1.702 * x))


@mistake("ReLU stands for GELU", "gelu", remedy=GELU)
def relu(step: Step, x: Array) -> Array:
    return np.maximum(x, 0)


@mistake("SiLU stands for GELU", "gelu", remedy=GELU)
def silu(step: Step, x: Array) -> Array:
    return x / (1 + np.exp(-x))


@mistake("there is no GELU", "gelu", remedy=GELU)
def no_gelu(step: Step, x: Array) -> Array:
    return x


# ── residuals ────────────────────────────────────────────────────────────────────────────────────

SUM = "x + attention(norm1(x)), then x + mlp(norm2(x)): the input of the norm is added"


@mistake("the residual is not added", "residual", "output", remedy=SUM)
def no_residual(step: Step, x: Array, branch: Array) -> Array:
    return branch


@mistake("the branch is not added", "residual", "output", remedy=SUM)
def no_branch(step: Step, x: Array, branch: Array) -> Array:
    return x


@mistake("the branch is added twice", "residual", "output", remedy=SUM)
def branch_twice(step: Step, x: Array, branch: Array) -> Array:
    return x + 2 * branch


@mistake("sum and branch are halved", "residual", "output", remedy=SUM)
def halved(step: Step, x: Array, branch: Array) -> Array:
    return (x + branch) / 2


@mistake("the norm's result is added, not its input", "residual", remedy=SUM, also="norm1")
def norm1_added(step: Step, x: Array, branch: Array, normed: Array) -> Array:
    return normed + branch


@mistake("the norm's result is added, not its input", "output", remedy=SUM, also="norm2")
def norm2_added(step: Step, x: Array, branch: Array, normed: Array) -> Array:
    return normed + branch


@sign(
    "dropout is active", "residual", "output",
    remedy="switch dropout and drop path off: the model is not in training",
    threads="pytorch/vision#7103 huggingface/pytorch-image-models#1978",
)  # fmt: skip
def dropped(step: Step, theirs: Array, right: Array, x: Array, branch: Array) -> bool:
    """What is left of the branch is zero in places and larger by one factor in all others."""
    left = theirs - x
    zero = np.abs(left) <= 1e-4 * np.abs(branch)
    kept = ~zero & (np.abs(branch) > 1e-3 * np.max(np.abs(branch)))
    if not (0.01 < zero.mean() < 0.99 and kept.any()):
        return False
    factors = left[kept] / branch[kept]
    return bool(np.median(factors) > 1 and np.ptp(factors) < 0.05 * np.median(factors))


# ── both ends of the model ───────────────────────────────────────────────────────────────────────

PATCHES = "a patch is (channel, row, column), slowest first; the channels are red, green, blue"


@mistake("the pixels of a patch are taken channels last", "Conv2d", remedy=PATCHES)
def pixels_channels_last(step: Step, image: Array, weight: Array, bias: Array) -> Array:
    D, C, ph, pw = weight.shape
    changed = weight.reshape(D, ph, pw, C).transpose(0, 3, 1, 2)
    return formulas.patch_projection(step, image, changed, bias)


@mistake("the channels are blue, green, red", "Conv2d", remedy=PATCHES)
def blue_first(step: Step, image: Array, weight: Array, bias: Array) -> Array:
    return formulas.patch_projection(step, image[:, ::-1], weight, bias)


@mistake("rows and columns of a patch are exchanged", "Conv2d", remedy=PATCHES)
def patch_exchanged(step: Step, image: Array, weight: Array, bias: Array) -> Array:
    return formulas.patch_projection(step, image, weight.swapaxes(2, 3), bias)


@mistake("the filter is flipped: a convolution in the strict sense", "Conv2d", remedy=PATCHES)
def filter_flipped(step: Step, image: Array, weight: Array, bias: Array) -> Array:
    return formulas.patch_projection(step, image, weight[:, :, ::-1, ::-1], bias)


@mistake("the bias of the patch embedding is not added", "Conv2d", remedy=PATCHES)
def no_patch_bias(step: Step, image: Array, weight: Array, bias: Array) -> Array:
    return formulas.patch_projection(step, image, weight, np.zeros_like(bias))


POOL = "the mean over all tokens of the normed map"


@mistake("tokens are added up instead of averaged", "pooled", remedy=POOL)
def summed_tokens(step: Step, x: Array) -> Array:
    return x.reshape(x.shape[0], -1, x.shape[-1]).sum(axis=1)


@mistake("the largest token is taken instead of the mean", "pooled", remedy=POOL)
def largest_token(step: Step, x: Array) -> Array:
    return x.reshape(x.shape[0], -1, x.shape[-1]).max(axis=1)


@mistake("the first token is taken, as if it were a class token", "pooled", remedy=POOL)
def first_token(step: Step, x: Array) -> Array:
    return x.reshape(x.shape[0], -1, x.shape[-1])[:, 0]


LOSS = "the mean over the images of −log softmax(logits)[label]"


@mistake("losses are added up instead of averaged", "loss", remedy=LOSS)
def summed_losses(step: Step, x: Array, labels: Array) -> Array:
    return formulas.cross_entropy(step, x, labels) * len(x)


@mistake("the softmax is taken twice", "loss", remedy="pass logits, not probabilities, to the loss")
def softmax_twice(step: Step, x: Array, labels: Array) -> Array:
    return formulas.cross_entropy(step, formulas.softmax(step, x), labels)


@mistake("labels are smoothed by 0.1", "loss", remedy=LOSS)
def smoothed(step: Step, x: Array, labels: Array) -> Array:
    top = x.max(axis=-1, keepdims=True)
    log_p = x - top - np.log(np.exp(x - top).sum(axis=-1, keepdims=True))
    hit = log_p[np.arange(len(x)), labels.astype(int)]
    return -np.mean(0.9 * hit + 0.1 * log_p.mean(axis=-1))
