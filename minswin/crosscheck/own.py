"""minswin's own adapter: an example of one, and, in float64 on the definitions, the truth.

Each function is a text on Tensors; `value_of` and `gradient_of` make the two functions on arrays.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minswin import kernels, layers, models, ops
from minswin.autograd import Tensor, no_grad
from minswin.composites import relative_position_bias as bias_of_table
from minswin.layers.parameters import Init
from minswin.models.swin import SwinBlock
from minswin.models.swin_v2 import SwinBlockV2
from minswin.reference import updates
from minswin.reference import windows as definitions
from minswin.training.optimizers import SGD

dtype = np.dtype("float64")
Text = Callable[..., Tensor]
Value = Callable[..., np.ndarray]
Gradients = Callable[..., dict[str, np.ndarray]]
Pair = tuple[int, int]
RNG = np.random.default_rng(0)  # of the weights before those of the caller


def both(text: Text) -> tuple[Value, Gradients]:
    return value_of(text), gradient_of(text)


def value_of(text: Text) -> Value:
    """The function on arrays that a text on Tensors is."""

    def value(*arguments: Any) -> np.ndarray:
        with no_grad():
            return text(*(_tensors(x, False) for x in arguments)).numpy()

    return value


def gradient_of(text: Text) -> Gradients:
    """The gradients of ⟨cotangent, text⟩ by all floating arrays, by name."""
    names = tuple(inspect.signature(text).parameters)

    def gradients(*arguments: Any) -> dict[str, np.ndarray]:
        *inputs, cotangent = arguments
        given = dict(zip(names, (_tensors(x, True) for x in inputs), strict=False))
        text(*given.values()).backward(cotangent)
        leaves: dict[str, Any] = {}
        for name, x in given.items():
            leaves.update(x if isinstance(x, dict) else {name: x})
        tensors = {name: x for name, x in leaves.items() if isinstance(x, Tensor)}
        return {name: x.grad for name, x in tensors.items() if x.grad is not None}

    return gradients


def _tensors(x: Any, derive: bool) -> Any:
    if isinstance(x, dict):
        return {name: _tensors(value, derive) for name, value in x.items()}
    if isinstance(x, np.ndarray):
        return Tensor(x, requires_grad=derive and x.dtype.kind == "f")
    return x


def _filled(layer: layers.Layer, params: dict[str, Tensor]) -> Any:
    """The layer with these parameters; its own take their place, so their gradients are found."""
    layer.load_state_dict({name: x.data for name, x in params.items()})
    params.update(layer.named_parameters())
    return layer.eval()


def _layer(make: Any, x: Tensor, params: dict[str, Tensor], *sizes: Any, **settings: Any) -> Tensor:
    """What a layer of these sizes and parameters gives."""
    result: Tensor = _filled(make(*sizes, **settings, init=Init(RNG, x.dtype)), params)(x)
    return result


# ── layers and models as texts ───────────────────────────────────────────────────────────────────


def _mlp(x: Tensor, params: dict[str, Tensor]) -> Tensor:
    return _layer(layers.Mlp, x, params, *reversed(params["fc1.weight"].shape))


def _patch_embed(image: Tensor, params: dict[str, Tensor]) -> Tensor:
    channels, _, *patch = params["proj.weight"].shape
    return _layer(layers.PatchEmbed, image, params, channels, tuple(patch), norm=True)


def _merging(kind: type[layers.PatchMerging]) -> Text:
    return lambda x, params: _layer(kind, x, params, x.shape[3])


def _attention(kind: type[layers.WindowAttention]) -> Text:
    return lambda x, params, window, shift, heads: _layer(  # a layer's shift is half its window
        kind, x, params, x.shape[3], heads, window, shift=any(shift)
    )


def _continuous_position_bias(
    params: dict[str, Tensor], window: Pair, pretrained: Pair | None
) -> Tensor:
    heads, kind = params["cpb_mlp.2.weight"].shape[0], params["cpb_mlp.2.weight"].dtype
    layer = layers.WindowAttentionV2(
        heads, heads, window, pretrained=pretrained, init=Init(RNG, kind)
    )
    own = dict(layer.named_parameters())
    for name, given in params.items():
        own[name].data = given.data
        params[name] = own[name]
    return layer.bias(window)


_NO_DROP = {"qkv_bias": True, "drop_rate": 0.0, "attn_drop_rate": 0.0, "drop_path_rate": 0.0}


def _block(make: Any, **more: Any) -> Text:
    def text(
        x: Tensor, params: dict[str, Tensor], window: Pair, shifted: bool, heads: int
    ) -> Tensor:
        hidden, channels = params["mlp.fc1.weight"].shape
        settings = {"shift": shifted, "mlp_ratio": hidden / channels, **_NO_DROP, **more}
        return _layer(make, x, params, channels, heads, window, **settings)

    return text


def _model_of(family: Any) -> Text:
    return lambda config, state, image: _filled(
        family(**config, rng=RNG, dtype=image.dtype), state
    )(image)


def build_model(
    config: dict[str, Any], state: Mapping[str, np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    kind = next(iter(state.values())).dtype
    model = _filled(
        models.SwinTransformer(**config, rng=RNG, dtype=kind), _tensors(dict(state), False)
    )
    return value_of(model)


def train_step(
    config: dict[str, Any],
    state: Mapping[str, np.ndarray],
    image: np.ndarray,
    labels: np.ndarray,
    lr: float,
) -> dict[str, np.ndarray]:
    model = models.SwinTransformer(**config, rng=RNG, dtype=image.dtype).eval()
    model.load_state_dict(state)
    ops.cross_entropy(model(Tensor(image)), labels).backward()
    SGD(model.named_parameters(), lr, momentum=0.0).step()
    return dict(model.state_dict())


def adamw(
    p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, lr: float, beta1: float,
    beta2: float, eps: float, decay: float, t: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    step = kernels.fast("adamw_step", p) or updates.adamw_step
    step(p, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, decay=decay, t=t)
    return {"p": p, "m": m, "v": v}


# ── the functions of the protocol ────────────────────────────────────────────────────────────────

window_partition, window_partition_grad = both(
    lambda x, window: ops.window_partition(x, window=window)
)
window_merge, window_merge_grad = both(
    lambda windows, window, grid: ops.window_merge(windows, window=window, grid=grid)
)
roll = value_of(lambda x, shift: ops.roll(x, shift=shift))
relative_position_index = definitions.relative_position_index
relative_position_bias, relative_position_bias_grad = both(
    lambda table, window: bias_of_table(table, window, window)
)
attention_mask = definitions.attention_mask
patch_merge, patch_merge_grad = both(lambda x: ops.patch_merge(x))
layer_norm, layer_norm_grad = both(
    lambda x, weight, bias, eps: ops.layer_norm(x, weight, bias, eps=eps)
)
gelu, gelu_grad = both(lambda x: ops.gelu(x))
softmax, softmax_grad = both(lambda x: ops.softmax(x))
cross_entropy, cross_entropy_grad = both(
    lambda logits, labels: ops.cross_entropy(logits, labels.data)
)
mlp, mlp_grad = both(_mlp)
patch_embed, patch_embed_grad = both(_patch_embed)
patch_merging, patch_merging_grad = both(_merging(layers.PatchMerging))
patch_merging_v2 = value_of(_merging(layers.PatchMergingV2))
window_attention, window_attention_grad = both(_attention(layers.WindowAttention))
window_attention_v2, window_attention_v2_grad = both(_attention(layers.WindowAttentionV2))
continuous_position_bias, continuous_position_bias_grad = both(_continuous_position_bias)
block, block_grad = both(_block(SwinBlock))
block_v2, block_v2_grad = both(_block(SwinBlockV2, pretrained=None, mask_value=-100.0))
model, model_grad = both(_model_of(models.SwinTransformer))
model_v2 = value_of(_model_of(models.SwinTransformerV2))
model_vit, model_vit_grad = both(_model_of(models.VisionTransformer))
model_deit = value_of(_model_of(models.DistilledVisionTransformer))
model_tnt, model_tnt_grad = both(_model_of(models.TNT))
