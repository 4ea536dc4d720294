"""Mistakes that others made, a second list: of more models, of backward, and of training.

Written on 1 December 2026 from commits and threads, before the edits of the search were read. None
is in the lists of before. Each is told here in our own words, as a change of a right
implementation; `met` is where it was. `later` marks what the search was taught afterwards.
"""

from __future__ import annotations

from tests.parity.unseen_mistakes import ATTENTION, SWIN, V2, one
from tests.parity.unseen_third import LAYER_NORM, NORM
from tests.parity.wrong_ports import Change, Mistake

TIMM = "huggingface/pytorch-image-models"
DEIT, TWINS, RESNET = (f"timm.models.{name}" for name in ("deit", "twins", "resnet"))
CVT = "transformers.models.cvt.modeling_cvt"

FIFTH: list[Mistake] = [
    # ── Swin ─────────────────────────────────────────────────────────────────────────────────────
    Mistake("V1", "the mask comes after the softmax", f"{TIMM}#2236", (
        Change(f"{SWIN}:WindowAttention.forward", "if mask is not None:",
               "attn = self.softmax(attn)\n        if mask is not None:"),
        Change(f"{SWIN}:WindowAttention.forward",
               "attn = self.softmax(attn)\n        attn = self.attn_drop(attn)",
               "attn = self.attn_drop(attn)")),
        r"softmax|mask", later="masked behind the softmax"),
    # two of the eight slices of a 3-D merge were written twice, and two were lacking
    one("V1", "a merge takes one of its four neighbours twice", "Project-MONAI/MONAI#8284",
        f"{SWIN}:PatchMerging.forward",
        "x = x.reshape(B, H // 2, 2, W // 2, 2, C).permute(0, 1, 3, 4, 2, 5).flatten(3)",
        "x = torch.cat([x[:, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (0, 1))], -1)",
        r"(merg|Merg).*(::2|\[|transpose|reshape|concat)"),
    # the paper divides by τ, which is at least 0.01; released weights hold a logarithm
    Mistake("V2", "cosines are divided by the parameter, at least 0.01", f"{TIMM}@d4c05880", (
        Change(f"{V2}:WindowAttention.forward",
               "torch.clamp(self.logit_scale, max=math.log(1. / 0.01)).exp()",
               "torch.clamp(self.logit_scale, min=0.01)"),
        Change(f"{V2}:WindowAttention.forward", "attn = attn * logit_scale",
               "attn = attn / logit_scale")),
        r"exp|logit_scale|scale", known=False),
    # ── ViT and DeiT ─────────────────────────────────────────────────────────────────────────────
    Mistake("ViT", "heads are cut by a reshape, and put together by one", "reczoo/FuxiCTR#30", (
        Change(ATTENTION, "qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim)"
               ".permute(2, 0, 3, 1, 4)",
               "qkv = torch.stack([t.reshape(B, self.num_heads, N, self.head_dim) "
               "for t in self.qkv(x).chunk(3, -1)])"),
        Change(ATTENTION, "x = x.transpose(1, 2).reshape(B, N, self.attn_dim)",
               "x = x.reshape(B, N, self.attn_dim)")),
        r"heads|reshape|transpose", later="two of the likeliest at once"),
    one("DeiT", "one head looks at the mean of both tokens", "YuanGongND/ast#77",
        f"{DEIT}:VisionTransformerDistilled.forward_head",
        "x = self.head(x)", "return self.head((x + x_dist) / 2)", r"head_dist|head.*\[:, ",
        known=False),
    # ── Twins and CvT ────────────────────────────────────────────────────────────────────────────
    Mistake("Twins", "scores are divided by the root of the heads", f"{TIMM}@2d734d90", tuple(
        Change(f"{TWINS}:{kind}.forward", "q = q * self.scale", "q = q * self.num_heads ** -0.5")
        for kind in ("LocallyGroupedAttn", "GlobalSubSampleAttn")),
        r"\*\*|0\.5|scale", later="another axis of a shape"),
    one("CvT", "no norm behind the patches", "lucidrains/vit-pytorch@3df6c31",
        f"{CVT}:CvtConvEmbeddings.forward", "if self.normalization:", "if False:", r"norm",
        known=False),
    one("CvT", "keys and values are taken with stride 1",
        "rishikksh20/convolution-vision-transformers#6",
        f"{CVT}:CvtSelfAttentionConvProjection.forward",
        "hidden_state = self.convolution(hidden_state)",
        "self.convolution.stride = (1, 1)\n    hidden_state = self.convolution(hidden_state)",
        r"KEYS|stride", known=False),
    # ── ResNet ───────────────────────────────────────────────────────────────────────────────────
    one("ResNet", "the second convolution of a block has the stride, not the first",
        "google-deepmind/dm-haiku#85", f"{RESNET}:BasicBlock.forward", "shortcut = x\n",
        "shortcut = x\n    self.conv1.stride, self.conv2.stride = (1, 1), 2 * (self.stride,)\n",
        r"stride", known=False),
    one("ResNet", "a ReLU stands in front of the sum too", "kuangliu/pytorch-cifar#4",
        f"{RESNET}:BasicBlock.forward", "x = self.bn2(x)", "x = self.bn2(x).relu()", r"relu",
        later="the output of a layer has its name"),
    one("ResNet", "pooling is padded at the bottom and the right alone",
        "google-research/simclr#26", f"{RESNET}:ResNet.forward_features", "x = self.maxpool(x)",
        "self.maxpool.padding = 0\n    x = self.maxpool(F.pad(x, (0, 1, 0, 1)))", r"pad|pool"),
    # ── backward: the forward pass is right ──────────────────────────────────────────────────────
    one("ViT", "no gradient goes through the softmax", "huggingface/candle#3569",
        ATTENTION, "attn = attn.softmax(dim=-1)", "attn = attn.softmax(dim=-1).detach()",
        r"attention.*(ds|dp|dq|dk)|softmax", backward=True,
        later="keep: an output without a gradient"),
    one("V1", "gradients of gain and bias are exchanged", "Oneflow-Inc/oneflow#6149", LAYER_NORM,
        NORM, "w, b = self.weight, self.bias\n"
        "    unit = F.layer_norm(input, self.normalized_shape, eps=self.eps).detach()\n"
        "    y = F.layer_norm(input, self.normalized_shape, w.detach(), b.detach(), self.eps)\n"
        "    return y + (w - w.detach()) + unit * (b - b.detach())",
        r"layer_norm.*(gamma|beta|weight|bias|return)", backward=True),
    # ── training ─────────────────────────────────────────────────────────────────────────────────
    Mistake("V1", "decay pulls at weights that have moved already",
            "huggingface/transformers#14539", (), r"decay", "adamw"),
    Mistake("V1", "the mean is corrected in place, for all later steps too",
            "frgfm/holocron#1", (), r"mean|beta1", "adamw", known=False),
    Mistake("V1", "gradients are divided by their squared length", "paiml/entrenar#311", (),
            r"norm|factor|squares", "sgd", settings=(("clip", 0.5),)),
    Mistake("V1", "the decay of the mean of the weights is replaced by each step's",
            "huggingface/diffusers#1864", (), r"decay|min", "sgd", settings=(("ema", 0.2),),
            later="settings are no likelier to be wrong"),
    Mistake("V1", "smoothing takes its share from the right class twice",
            "eladhoffer/utils.pytorch#14", (), r"smoothing|soft", "adamw",
            settings=(("smoothing", 0.1),), later="one free number, by a few starts"),
    Mistake("V1", "the rate stays where the warm-up ended", "facebookresearch/ParlAI#4384", (),
            r"warmup|cos|\bc\b|final|step", "sgd", settings=(("warmup", 1),)),
    # `if param.ndim or …` for `if param.ndim <= 1 or …`
    Mistake("V1", "nothing decays", f"{TIMM}@0557c825", (), r"decay", "adamw"),
]  # fmt: skip
