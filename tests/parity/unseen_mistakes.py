"""Mistakes of ports that were written down before the kit could search for them: its judge.

Each is a change of a few words in timm's own text, so the wrong port shares no line with ours.
`about` is a pattern of a right answer: what the named function and its changed line must hold.
`later` marks what was made known to the search afterwards.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from minswin.crosscheck import recipe
from minswin.models import create_model
from minswin.weights.rename import rename
from tests.parity.peers import load_timm

# Sizes that all differ, with their sums and products: an edit that fits by chance is a wrong name.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "V1": (
        "swin_tiny",
        {
            "img_size": (24, 32), "patch_size": 2, "embed_dim": 20, "depths": (2, 2),
            "num_heads": (2, 4), "window_size": (3, 4), "num_classes": 7,
        },
    ),
    "V2": (
        "swinv2_cifar",
        {
            "img_size": (24, 32), "patch_size": 2, "embed_dim": 20, "depths": (2, 2),
            "num_heads": (2, 4), "window_size": (3, 4), "num_classes": 7,
        },
    ),
    "ViT": (
        "vit_tiny",
        {
            "img_size": (12, 20), "patch_size": 4, "embed_dim": 22, "depth": 2, "num_heads": 2,
            "num_classes": 7,
        },
    ),
    "TNT": (
        "tnt_small",
        {
            "img_size": (16, 40), "patch_size": 8, "embed_dim": 22, "inner_dim": 12, "depth": 2,
            "num_heads": 2, "inner_num_heads": 3, "inner_stride": 2, "num_classes": 7,
        },
    ),
}  # fmt: skip
IMAGES = 3

SWIN, V2, VIT, TNT = (
    f"timm.models.{name}"
    for name in ("swin_transformer", "swin_transformer_v2", "vision_transformer", "tnt")
)
ATTENTION, MLP = "timm.layers.attention:Attention.forward", "timm.layers.mlp:Mlp.forward"


class Change(NamedTuple):
    where: str  # module:function
    text: str
    becomes: str


class Mistake(NamedTuple):
    family: str
    name: str
    met: str  # a public thread, or "porting"
    changes: tuple[Change, ...]
    about: str  # a pattern of a right answer; of a pair, one for each
    optimizer: str = ""  # of the training mistakes: "adamw" or "sgd"
    later: str = ""  # the operator that was added after the search had missed it
    known: bool = True  # the search names it


def one(
    family: str, name: str, met: str, where: str, text: str, becomes: str, about: str, **more: Any
) -> Mistake:
    return Mistake(family, name, met, (Change(where, text, becomes),), about, **more)


MISTAKES: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    one("V1", "multiplied by √d", "porting", f"{SWIN}:WindowAttention.forward",
        "q = q * self.scale", "q = q / self.scale", r"shape\[-1\] \*\* |scale|0\.5"),
    one("V1", "the offset of columns is that of rows", "microsoft/Swin-Transformer#189",
        f"{SWIN}:get_relative_position_index", "[:, :, 1] += win_w - 1", "[:, :, 1] += win_h - 1",
        r"relative_position_index.*(Mh|Mw)"),
    one("V1", "the mask is boolean and added as 1", "huggingface/transformers#17481",
        f"{SWIN}:SwinTransformerBlock.get_attn_mask", "float(-100.0)", "float(1.0)",
        r"mask"),
    one("V1", "no norm before the head", "porting", f"{SWIN}:SwinTransformer.forward_features",
        "x = self.norm(x)", "pass", r"self\.norm"),
    one("V1", "the first block is shifted, not the second", "porting",
        f"{SWIN}:SwinTransformerBlock._calc_window_shift",
        "target_shift_size = to_2tuple(target_shift_size)",
        "target_shift_size = (0, 0) if any(to_2tuple(target_shift_size)) "
        "else (target_window_size[0] // 2, target_window_size[1] // 2)",
        r"shift.*(j|%)|not \(self\.shift"),
    one("V1", "SiLU for GELU", "ml-explore/mlx#1056", MLP, "self.act(x)",
        "x * x.sigmoid()", r"gelu|erf|Φ|silu|sigmoid"),
    one("V1", "the residual of the MLP is the block's input", "porting",
        f"{SWIN}:SwinTransformerBlock.forward",
        "x = x + self.drop_path1(self._attn(self.norm1(x)))\n"
        "    x = x.reshape(B, -1, C)\n"
        "    x = x + self.drop_path2",
        "before = x.reshape(B, -1, C)\n"
        "    x = x + self.drop_path1(self._attn(self.norm1(x)))\n"
        "    x = x.reshape(B, -1, C)\n"
        "    x = before + self.drop_path2",
        r"SwinBlock"),
    one("V1", "no norm in the merge", "porting", f"{SWIN}:PatchMerging.forward",
        "x = self.norm(x)", "pass", r"PatchMerging.*norm|norm.*PatchMerging"),
    one("V1", "bias and mask are scaled with the scores", "porting",
        f"{SWIN}:WindowAttention.forward",
        "q = q * self.scale\n        attn = q @ k.transpose(-2, -1)\n"
        "        attn = attn + self._get_rel_pos_bias()",
        "attn = q @ k.transpose(-2, -1)\n"
        "        attn = (attn + self._get_rel_pos_bias()) * self.scale",
        r"\*\*|0\.5|scale"),
    one("V1", "the highest token in the place of the mean", "porting",
        "timm.layers.classifier:ClassifierHead.forward", "x = self.global_pool(x)",
        "x = x.amax((1, 2))", r"mean|max"),
    one("V1", "shifted by half the window's height on both axes", "open-mmlab/mmdetection#6747",
        f"{SWIN}:SwinTransformerBlock._calc_window_shift",
        "return tuple(window_size), tuple(shift_size)",
        "return tuple(window_size), (shift_size[0], shift_size[0])", r"shift|// 2"),
    one("V1", "q, k and v without a bias", "NVIDIA/FasterTransformer#426",
        f"{SWIN}:WindowAttention.forward", "self.qkv(x)", "(x @ self.qkv.weight.T)",
        r"bias"),
    # ── Swin V2 ──────────────────────────────────────────────────────────────────────────────────
    one("V2", "logit_scale is not raised to e", "borisdayma/dalle-mini#297",
        f"{V2}:WindowAttention.forward", "max=math.log(1. / 0.01)).exp()",
        "max=math.log(1. / 0.01))", r"exp"),
    one("V2", "coordinates without their sign", "microsoft/Swin-Transformer#239",
        f"{V2}:WindowAttention._make_pair_wise_relative_positions",
        "torch.sign(relative_coords_table) * torch.log2(", "torch.log2(", r"sign"),
    one("V2", "a position bias of at most 1", "microsoft/Swin-Transformer#224",
        f"{V2}:WindowAttention.forward", "16 * torch.sigmoid(", "torch.sigmoid(", r"BIAS|16"),
    one("V2", "the keys get the bias of the queries", "porting", f"{V2}:WindowAttention.forward",
        "torch.cat((self.q_bias, self.k_bias, self.v_bias))",
        "torch.cat((self.q_bias, self.q_bias, self.v_bias))", r"q_bias"),
    one("V2", "the keys keep their length", "porting", f"{V2}:WindowAttention.forward",
        "F.normalize(k, dim=-1)", "k", r"unit"),
    one("V2", "coordinates are divided by the window, not by one less",
        "microsoft/Swin-Transformer#329",
        f"{V2}:WindowAttention._make_pair_wise_relative_positions",
        "[:, :, :, 1] /= max(self.window_size[1] - 1, 1)", "[:, :, :, 1] /= self.window_size[1]",
        r"axes|W - 1|M - 1|8|pretrained"),
    # ── ViT ──────────────────────────────────────────────────────────────────────────────────────
    one("ViT", "the class token has no position",
        "labmlai/annotated_deep_learning_paper_implementations#221",
        f"{VIT}:VisionTransformer._pos_embed",
        "            x = torch.cat(to_cat + [x], dim=1)\n        x = x + pos_embed",
        "            x = torch.cat(to_cat + [x + pos_embed[:, 1:]], dim=1)", r"pos"),
    one("ViT", "the mean of all tokens for the class token", "lucidrains/vit-pytorch#138",
        f"{VIT}:VisionTransformer.pool",
        "x = global_pool_nlc(", "return x.mean(1)\n    x = global_pool_nlc(", r"mean|\[:, 0\]"),
    one("ViT", "patches are counted by columns", "porting",
        "timm.layers.patch_embed:PatchEmbed.forward",
        "x = x.flatten(2).transpose(1, 2)", "x = x.transpose(2, 3).flatten(2).transpose(1, 2)",
        r"reshape|transpose", later="arrays in front of a reshape"),
    one("ViT", "softmax over the heads", "jeonsworld/ViT-pytorch#34", ATTENTION,
        "attn = attn.softmax(dim=-1)", "attn = attn.softmax(dim=1)", r"softmax|axis"),
    one("ViT", "the MLP is normed by the first norm", "porting", f"{VIT}:Block.forward",
        "self.norm2(x)", "self.norm1(x)", r"norm1|norm2"),
    one("ViT", "positions are added again in front of the head", "porting",
        f"{VIT}:VisionTransformer.forward_features",
        "x = self.norm(x)", "x = self.norm(x + self.pos_embed)", r"pos", known=False),
    # ── TNT ──────────────────────────────────────────────────────────────────────────────────────
    one("TNT", "words have no positions", "huggingface/pytorch-image-models#701",
        f"{TNT}:PixelEmbed.forward", "x = x + pixel_pos", "pass", r"inner_pos"),
    one("TNT", "words tell the token before", "porting", f"{TNT}:Block.forward",
        "patch_embed[:, 0:1],\n            patch_embed[:, 1:] + self.norm2_proj(self.proj("
        "self.norm1_proj(pixel_embed.reshape(B, N - 1, -1)))),\n        ], dim=1)",
        "patch_embed[:, :-1] + self.norm2_proj(self.proj("
        "self.norm1_proj(pixel_embed.reshape(B, N - 1, -1)))),\n"
        "            patch_embed[:, -1:],\n        ], dim=1)", r"concat|pad|:"),
    one("TNT", "no residual around the words' MLP", "porting", f"{TNT}:Block.forward",
        "pixel_embed = pixel_embed + self.drop_path(self.mlp_in",
        "pixel_embed = self.drop_path(self.mlp_in", r"inner|mlp"),
    one("TNT", "values take the heads apart the other way", "porting", f"{TNT}:Attention.forward",
        "v = self.v(x).reshape(B, N, self.num_heads, -1).permute(0, 2, 1, 3)",
        "v = self.v(x).reshape(B, N, -1, self.num_heads).permute(0, 3, 1, 2)",
        r"v|heads|reshape|transpose"),
    # ── pairs ────────────────────────────────────────────────────────────────────────────────────
    Mistake("V1", "scaled twice, and no mask", "porting",
            (Change(f"{SWIN}:WindowAttention.forward", "q = q * self.scale",
                    "q = q * self.scale * self.scale"),
             Change(f"{SWIN}:WindowAttention.forward", "if mask is not None:", "if False:")),
            r"mask|shift|\*\*|0\.5"),
    Mistake("ViT", "the class token stands last, and is taken there", "vit-pytorch",
            (Change(f"{VIT}:VisionTransformer._pos_embed",
                    "            x = torch.cat(to_cat + [x], dim=1)\n        x = x + pos_embed",
                    "            x = torch.cat([x] + to_cat, dim=1)\n        x = x + pos_embed"),
             Change(f"{VIT}:VisionTransformer.pool", "x = global_pool_nlc(",
                    "return x[:, -1]\n    x = global_pool_nlc(")),
            r"concatenate|cls|\[:, "),
    Mistake("V2", "a bias of at most 1, of coordinates without their sign", "porting",
            (Change(f"{V2}:WindowAttention.forward", "16 * torch.sigmoid(", "torch.sigmoid("),
             Change(f"{V2}:WindowAttention._make_pair_wise_relative_positions",
                    "torch.sign(relative_coords_table) * torch.log2(", "torch.log2(")),
            r"sign|BIAS|16"),
    # ── training: three steps of an optimizer on the right model ─────────────────────────────────
    Mistake("V1", "decay is part of the gradient, as in Adam", "facebookresearch/deit#82", (),
            r"decay", "adamw", later="a known mistake"),
    Mistake("V1", "ε under the root", "porting", (), r"eps|root", "adamw", later="a known mistake"),
    Mistake("V1", "β₂ is 0.99", "google-research/vision_transformer#155", (), r"beta2|betas|0\.99",
            "adamw", later="rank"),
    Mistake("V1", "gradients of earlier steps are not thrown away",
            "kentaroy47/vision-transformers-cifar10#24", (), r"grad|zero", "sgd", later="rank"),
]  # fmt: skip


@contextmanager
def changed(changes: tuple[Change, ...]) -> Iterator[None]:
    """Inside this block timm has these changes: the code of a function is put in its place."""
    with ExitStack() as stack:
        by_function: dict[str, list[Change]] = {}
        for change in changes:
            by_function.setdefault(change.where, []).append(change)
        for where, group in by_function.items():
            stack.enter_context(_one_changed(where, group))
        yield


@contextmanager
def _one_changed(where: str, changes: list[Change]) -> Iterator[None]:
    module_name, _, path = where.partition(":")
    module = importlib.import_module(module_name)
    function: Any = module
    for part in path.split("."):
        function = getattr(function, part)
    function = inspect.unwrap(function)
    text = textwrap.dedent(inspect.getsource(function))
    for change in changes:
        if change.text not in text:
            raise LookupError(f"unseen_mistakes: {where} has no {change.text!r}")
        text = text.replace(change.text, change.becomes)
    text = re.sub(r"^(@.*\n)+", "", text)
    names = dict(vars(module))
    exec(compile(text, module_name, "exec"), names)
    right, wrong = function.__code__, names[function.__name__].__code__
    function.__code__ = wrong
    try:
        yield
    finally:
        function.__code__ = right


def ours(family: str, dtype: Any = np.float32) -> Any:
    name, settings = MODELS[family]
    model = create_model(name, **settings, rng=np.random.default_rng(0), dtype=dtype)
    model.load_state_dict(recipe.weights(model.state_dict()))
    return model.eval()


def theirs(family: str) -> Any:
    """timm's model with the settings and the weights of ours."""
    load_timm()
    import torch

    _, own = MODELS[family]
    more = {key: value for key, value in own.items() if key not in ("inner_stride",)}
    if family == "V1":
        from timm.models.swin_transformer import SwinTransformer as kind
    elif family == "V2":
        from timm.models.swin_transformer_v2 import SwinTransformerV2 as kind
    elif family == "ViT":
        from timm.models.vision_transformer import VisionTransformer as kind
    else:
        from timm.models.tnt import TNT as kind

        more["num_heads_inner"] = more.pop("inner_num_heads")
        more["num_heads_outer"] = more.pop("num_heads")
        more["first_stride"] = own["inner_stride"]
    module = kind(**more).eval()
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    state = rename(ours(family).state_dict(), "minswin", "timm", model=ours(family))
    missing = module.load_state_dict(
        {n: torch.tensor(np.asarray(x)) for n, x in state.items()}, strict=False
    )
    assert not [n for n in missing.missing_keys if "index" not in n and "mask" not in n], missing
    return module


def seen(mistake: Mistake | None, family: str = "") -> dict[str, np.ndarray]:
    """What every submodule of the wrong port gives, in the order of the run, and its logits."""
    import torch

    family = mistake.family if mistake else family
    _, own = MODELS[family]
    found: dict[str, np.ndarray] = {}

    def watch(name: str) -> Callable[..., None]:
        def keep(module: Any, given: Any, y: Any) -> None:
            y = y[0] if isinstance(y, tuple) else y
            key = name or "output"
            while key in found:
                key += "#"
            found[key] = y.detach().numpy().copy()

        return keep

    load_timm()
    with changed(mistake.changes if mistake else ()):
        module = theirs(family)
        for name, part in module.named_modules():
            part.register_forward_hook(watch(name))
        image = recipe.images(IMAGES, 3, own["img_size"]).astype(np.float32)
        with torch.no_grad():
            module(torch.tensor(image))
    return found


def trained(mistake: Mistake | None, optimizer: str, steps: int = 3) -> dict[str, np.ndarray]:
    """Losses, and weights after the steps, of timm's Swin with a wrong optimizer."""
    import torch

    from minswin.training.optimizers import AdamW, decays

    module, model = theirs("V1"), ours("V1")
    names = {n: p for n, p in model.named_parameters()}
    own = rename({n: _ticket(i, p.shape) for i, (n, p) in enumerate(names.items())},
                 "minswin", "timm", model=model)  # fmt: skip
    by_number = {int(x.flat[0]): t for t, x in own.items() if t in dict(module.named_parameters())}
    back = {t: list(names)[i] for i, t in by_number.items()}
    _, settings = MODELS["V1"]
    image = torch.tensor(recipe.images(IMAGES, 3, settings["img_size"]).astype(np.float32))
    labels = torch.tensor(recipe.labels(IMAGES, settings["num_classes"]))
    decay = AdamW(model.named_parameters(), 0.01).decay if optimizer == "adamw" else {}
    momentum = {t: torch.zeros_like(p) for t, p in module.named_parameters()}
    first = {t: torch.zeros_like(p) for t, p in module.named_parameters()}
    name = mistake.name if mistake else ""
    losses, lr = [], 0.01
    for t in range(1, steps + 1):
        if "not thrown away" not in name:
            module.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(image), labels)
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for their, p in module.named_parameters():
                assert decays(back[their], p) in (True, False)
                g = p.grad.clone()
                if optimizer == "sgd":
                    momentum[their].mul_(0.9).add_(g)
                    p -= lr * momentum[their]
                    continue
                rate = decay[back[their]]
                beta1, beta2, eps = 0.9, 0.99 if "β₂" in name else 0.999, 1e-8
                if "part of the gradient" in name:
                    g = g + rate * p
                else:
                    p *= 1 - lr * rate
                m, v = first[their], momentum[their]
                m.mul_(beta1).add_((1 - beta1) * g)
                v.mul_(beta2).add_((1 - beta2) * g * g)
                v_hat, m_hat = v / (1 - beta2**t), m / (1 - beta1**t)
                root = (v_hat + eps).sqrt() if "under the root" in name else v_hat.sqrt() + eps
                p -= lr * m_hat / root
    with torch.no_grad():
        losses.append(torch.nn.functional.cross_entropy(module(image), labels).item())
    after = {f"after/{back[t]}": p.detach().numpy() for t, p in module.named_parameters()}
    return {**after, "losses": np.array(losses)}


def _ticket(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """An array that holds one number everywhere: after renaming it says which it was."""
    return np.full(shape, number, np.float32)
