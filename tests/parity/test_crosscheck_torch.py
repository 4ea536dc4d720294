"""One line for a module of PyTorch: right and wrong ones of timm, transformers and a port."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minswin import waiting
from minswin.crosscheck.findings import coverage
from minswin.crosscheck.names import weight_names
from minswin.crosscheck.torch import check, keep

from .peers import load_timm, need, torch
from .unseen_mistakes import MISTAKES
from .wrong_ports import MODELS, changed

pytestmark = pytest.mark.parity

PORT = Path(__file__).parents[2] / "examples" / "port" / "swin_torch.py"
SMALL = {"img_size": 32, "patch_size": 2, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3),
         "window_size": 4, "num_classes": 5}  # fmt: skip
NAMES = {
    "patch_embed.proj": "patches", "patch_embed.norm": "ln0", "norm": "ln", "head": "fc",
    "layers.{i}.blocks.{j}.norm1": "stages.{i}.{j}.ln1",
    "layers.{i}.blocks.{j}.norm2": "stages.{i}.{j}.ln2",
    "layers.{i}.blocks.{j}.attn.qkv.*": "stages.{i}.{j}.attn.to_qkv.*",
    "layers.{i}.blocks.{j}.attn.proj.*": "stages.{i}.{j}.attn.out.*",
    "layers.{i}.blocks.{j}.attn.relative_position_bias_table": "stages.{i}.{j}.attn.table",
    "layers.{i}.blocks.{j}.attn.windows": "stages.{i}.{j}.attn.to_qkv",
    "layers.{i}.blocks.{j}.attn.logits": "stages.{i}.{j}.attn.logits",
    "layers.{i}.blocks.{j}.mlp.fc1": "stages.{i}.{j}.up",
    "layers.{i}.blocks.{j}.mlp.fc2": "stages.{i}.{j}.down",
    "layers.0.downsample.norm": "stages.0.2.ln",
    "layers.0.downsample.reduction": "stages.0.2.reduce",
}  # fmt: skip


def of_timm(family: str) -> Any:
    load_timm()
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.vision_transformer import VisionTransformer

    kind = {"V1": SwinTransformer, "ViT": VisionTransformer}[family]
    return kind(**MODELS[family][1])


def of_transformers(**more: Any) -> Any:
    transformers = need("transformers")
    own = {"img_size": "image_size", "num_classes": "num_labels"}
    settings = {own.get(n, n): v for n, v in SMALL.items()}
    return transformers.SwinForImageClassification(transformers.SwinConfig(**settings, **more))


def port(fixed: int) -> Any:
    spec = importlib.util.spec_from_file_location("swin_torch", PORT)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FIXED = fixed
    return module.Swin(12, [2, 2], [2, 3], patch=2, M=4, k=5)


@pytest.mark.parametrize("family", ["V1", "ViT"])
def test_a_right_module_of_timm_is_right_with_its_gradients(family: str) -> None:
    model, settings = MODELS[family]
    module = of_timm(family)
    before = {n: t.clone() for n, t in module.state_dict().items()}
    module.norm.eval()  # as a part that is not trained further
    module.norm.bias.grad = gradient = torch.ones_like(module.norm.bias)
    found = check(module, model=model, grad=True, **settings)
    assert found.passed, found
    assert coverage(found.comparison).seen > 20
    c = coverage(found.comparison, gradients=True)
    assert c.by_name == c.of - 1  # the image's has no name
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert [n for n, part in module.named_modules() if not part.training] == ["norm"]
    given = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    assert given == {"norm.bias": gradient} and bool((gradient == 1).all())


def test_a_terminal_is_told_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(waiting, "SILENCE", 0.0)
    monkeypatch.setattr(waiting, "TURN", 0.001)
    model, settings = MODELS["ViT"]
    module = of_timm("ViT")
    mistake = next(m for m in MISTAKES if m.family == "ViT")
    with changed(mistake.changes):
        check(module, model=model, **settings)
    told = terminal.getvalue()
    for doing in ("the module itself", "float64: forward", "judged by what they", "why blocks."):
        assert doing in told, told
    assert told.endswith("\x1b[K")  # and the line is gone
    assert sys.stderr is terminal


@pytest.mark.parametrize("name", ["SiLU for GELU", "the MLP is normed by the first norm"])
def test_a_wrong_module_of_timm_is_named(name: str) -> None:
    mistake = next(m for m in MISTAKES if m.name == name)
    model, settings = MODELS[mistake.family]
    with changed(mistake.changes):
        found = check(of_timm(mistake.family), model=model, **settings)
    assert not found.passed and found.diagnosis is not None
    told = f"{found.diagnosis.causes[0].diff} {found.diagnosis.causes[0].name}"
    assert ("silu" if "SiLU" in name else "norm1") in told
    assert found.diagnosis.causes[0].name in str(found)


def test_names_of_transformers_are_told_by_the_names_of_its_weights() -> None:
    found = check(of_transformers(), model="swin_tiny", grad=True, **SMALL)
    assert found.passed, found
    rows = {f.name: f for f in found.comparison.findings}
    theirs = rows["layers.1.blocks.0.norm1"].theirs
    assert theirs == "swin.encoder.layers.1.blocks.0.layernorm_before"
    assert rows["cotangent/layers.0.blocks.0.attn.qkv.weight"].verdict in ("right", "equal")
    wrong = check(of_transformers(hidden_act="relu"), model="swin_tiny", **SMALL)
    first = wrong.comparison.first
    assert first is not None and first.name == "layers.0.blocks.0.mlp.fc2"  # not the logits


def test_a_port_with_names_of_its_own_takes_a_map(tmp_path: Path) -> None:
    found = check(port(3), model="swin_tiny", names=NAMES, grad=True, **SMALL)
    assert found.passed, found
    (tmp_path / "map").write_text("\n".join(f"{a} = {b}" for a, b in NAMES.items()))
    wrong = check(port(2), model="swin_tiny", names=tmp_path / "map", **SMALL)
    assert wrong.comparison.first is not None
    assert "downsample" in wrong.comparison.first.name
    for file in ("a.json", "a.html"):
        wrong.write(tmp_path / file)
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert data["first"]["name"] == wrong.comparison.first.name
    assert data["command"].startswith("check(module, model='swin_tiny'")
    assert "<html" in (tmp_path / "a.html").read_text("utf-8")


def test_weights_are_made_by_a_function_and_tell_which_layer_is_which() -> None:
    def made(ours: dict[str, Any]) -> dict[str, Any]:
        return {theirs: ours[n] for n, theirs in weight_names(NAMES.items(), ours).items()}

    found = check(port(3), model="swin_tiny", weights=made, grad=True, **SMALL)
    assert found.passed, found
    wrong = check(port(0), model="swin_tiny", weights=made, seconds=1, **SMALL)
    rows = {f.name: f for f in wrong.comparison.findings}
    assert rows["layers.1.blocks.1.norm2"].theirs == "stages.1.1.ln2"  # which is wrong
    assert rows["layers.1.blocks.1.norm2"].verdict in ("wrong", "follows")


def test_weights_that_are_none_of_ours_are_not_judged() -> None:
    model, settings = MODELS["ViT"]
    load_timm()
    from timm.models.vision_transformer import VisionTransformer

    def made(ours: dict[str, Any]) -> dict[str, Any]:
        token, patches = ours["pos_embed"][:, :1], ours["pos_embed"][:, 1:]
        return {**ours, "cls_token": ours["cls_token"] + token, "pos_embed": patches}

    module = VisionTransformer(**MODELS["ViT"][1], no_embed_class=True)
    found = check(module, model=model, weights=made, grad=True, **settings)
    assert found.passed and not found.comparison.unused, found
    wrong = check(module, model=model, weights=lambda ours: {**made(ours), "norm.bias":
                  ours["norm.weight"]}, seconds=1, **settings)  # fmt: skip
    first = wrong.comparison.first  # ours, given to another layer
    assert first is not None and first.name == "norm.bias"


def test_a_map_of_a_few_weights_goes_with_the_names_of_a_known_library() -> None:
    model, settings = MODELS["ViT"]
    module = of_timm("ViT")
    for block in module.blocks:
        layers = {"first": block.mlp.fc1, "act": block.mlp.act, "second": block.mlp.fc2}
        block.mlp = torch.nn.Sequential(OrderedDict(layers))
    names = {"*.mlp.fc1": "*.mlp.first", "*.mlp.fc2": "*.mlp.second"}
    found = check(module, model=model, names=names, grad=True, **settings)
    c = coverage(found.comparison, gradients=True)
    assert found.passed and c.by_name == c.of - 1, found  # the image's has no name


def test_a_lazy_layer_has_no_weights_yet_and_is_kept() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LazyLinear(4))
    with keep(module) as seen:
        module(torch.ones(1, 3))
    assert set(seen.arrays) == {"0.weight", "0.bias", "0", "1", "output"}


def test_what_gets_no_weight_is_refused_with_what_to_say() -> None:
    with pytest.raises(ValueError, match=r"63 of 63 parameters .* have no weight: .*names="):
        check(port(3), model="swin_tiny", **SMALL)
    few = {n: t for n, t in NAMES.items() if n != "head"}
    with pytest.raises(ValueError, match=r"2 of 63 parameters .*: fc\.weight, fc\.bias"):
        check(port(3), model="swin_tiny", names=few, **SMALL)
    with pytest.raises(ValueError, match=r"has shape .* expected .*: do the settings"):
        check(of_transformers(), model="swin_tiny", **{**SMALL, "embed_dim": 24})


def test_the_hooks_keep_outputs_and_gradients_by_name() -> None:
    module = of_transformers().eval()
    with keep(module) as seen:
        module(torch.ones(2, 3, 32, 32)).logits.square().sum().backward()
    name = "swin.encoder.layers.0.blocks.1.attention"
    assert seen.arrays[name].shape == seen.arrays[f"cotangent/{name}"].shape
    assert seen.arrays["output"].shape == (2, 5)
    weight = seen.arrays["cotangent/classifier.weight"]
    assert weight.shape == (5, 96 // 4) and np.any(weight)


class Parts(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = torch.nn.Identity(), torch.nn.Identity()

    def forward(self, x: Any) -> Any:
        a, b = (2 * x).unbind(0)
        return self.one(a).detach() * self.other(b)


def test_what_lets_no_gradient_through_has_none() -> None:
    module = Parts()
    with keep(module) as seen:
        module(torch.ones(2, 3, requires_grad=True)).sum().backward()
    assert {n for n in seen.arrays if n.startswith("cotangent")} == {
        "cotangent/other",
        "cotangent/output",
    }


def test_a_module_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="check: Identity has no parameters"):
        check(torch.nn.Identity(), model="vit_tiny")
