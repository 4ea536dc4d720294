"""Published Swins, each built from minswin's settings, with the recipe's weights and its own names.

They are used where they are installed, or lie in the folder that MINSWIN_PEERS names: packages of
their own, and microsoft's swin_transformer.py and swin_transformer_v2.py in microsoft_swin/.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import types
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from minswin.weights.rename import rename

from .peers import load_timm, need, tensor

Settings = Mapping[str, Any]
State = Mapping[str, np.ndarray]


ASIDE: dict[str, Any] = {}  # modules that nobody else may see: transformers would believe them


def package(name: str) -> Any:
    """Import a module, from MINSWIN_PEERS too; skips where it is absent."""
    folder = os.environ.get("MINSWIN_PEERS")
    sys.path[:0] = [folder] if folder else []
    sys.modules.update(ASIDE)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # or an extension of another PyTorch
        pytest.skip(f"{name.partition('.')[0]} is not there ({error})")
    finally:
        if folder:
            sys.path.remove(folder)
            mine = [n for n in sys.modules if n.partition(".")[0] in ("torchvision", "monai")]
            ASIDE.update({n: sys.modules.pop(n) for n in mine})


def text_of(name: str) -> Any:
    """A module whose text is to be changed; skips where microsoft's is asked for and absent."""
    if not name.startswith("microsoft_swin"):
        return importlib.import_module(name)
    load_timm()
    layers = types.ModuleType("timm.models.layers")  # where timm's layers once were
    vars(layers).update(vars(need("timm.layers")))
    sys.modules["timm.models.layers"] = layers
    return package(name)


def microsoft(settings: Settings, version: int) -> Any:
    suffix, name = (("", "SwinTransformer"), ("_v2", "SwinTransformerV2"))[version - 1]
    make = getattr(text_of(f"microsoft_swin.swin_transformer{suffix}"), name)
    return make(**settings, drop_path_rate=0.0)


def torchvision(settings: Settings, version: int) -> Any:
    extension = "torchvision._meta_registrations"  # its operators are of no use to a Swin
    ASIDE.setdefault(extension, types.ModuleType(extension))
    swin = package("torchvision.models.swin_transformer")
    given = {n: x for n, x in settings.items() if n not in ("img_size", "patch_size")}
    given |= {n: list(given[n]) for n in ("depths", "num_heads")}
    given["window_size"] = [settings["window_size"]] * 2
    if version == 2:
        given |= {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}
    patch = [settings["patch_size"]] * 2
    return swin.SwinTransformer(patch_size=patch, **given, stochastic_depth_prob=0.0)


def transformers(settings: Settings, version: int) -> Any:
    kind = ("Swin", "Swinv2")[version - 1]
    given = {"image_size" if n == "img_size" else n: x for n, x in settings.items()}
    given["num_labels"] = given.pop("num_classes")
    library = need("transformers")
    config = getattr(library, f"{kind}Config")(
        **given, drop_path_rate=0.0, attn_implementation="eager"
    )
    return getattr(library, f"{kind}ForImageClassification")(config)


def timm(settings: Settings, version: int) -> Any:
    load_timm()
    name = ("SwinTransformer", "SwinTransformerV2")[version - 1]
    module = f"timm.models.swin_transformer{('', '_v2')[version - 1]}"
    return getattr(importlib.import_module(module), name)(**settings, drop_path_rate=0.0)


def monai(settings: Settings, version: int) -> Any:
    """Its backbone in two dimensions, which has a norm of its own behind each stage and no head."""
    package("einops")
    swin = package("monai.networks.nets.swin_unetr").SwinTransformer
    given = {n: x for n, x in settings.items() if n not in ("img_size", "num_classes")}
    given |= {n: (settings[n],) * 2 for n in ("patch_size", "window_size")}
    return swin(in_chans=3, spatial_dims=2, downsample="mergingv2", patch_norm=True, **given)


def _monai_names(state: State) -> dict[str, np.ndarray]:
    found = {}
    for name, array in state.items():
        first, *rest = name.split(".")
        stage = [f"layers{int(rest.pop(0)) + 1}", "0"] if first == "layers" else [first]
        found[".".join([*stage, *rest]).replace("mlp.fc", "mlp.linear")] = array
    return found


BUILDERS = {
    "microsoft": microsoft, "torchvision": torchvision, "transformers": transformers, "timm": timm,
    "monai": monai,
}  # fmt: skip


def build(name: str, version: int, settings: Settings, state: State, ours: Any) -> Any:
    """Another implementation of version 1 or 2 with our weights; skips where it is absent."""
    module = BUILDERS[name](settings, version).eval()
    dialect = "transformers5" if (name, version) == ("transformers", 1) else name
    renamed = (
        _monai_names(state) if name == "monai" else rename(state, "minswin", dialect, model=ours)
    )
    own = module.state_dict()
    given = {n: tensor(np.array(x)).reshape(own[n].shape) for n, x in renamed.items() if n in own}
    missing = set(module.load_state_dict(given, strict=False).missing_keys)
    learnt = {n for n, _ in module.named_parameters() if not n.startswith("layers4.0.downsample")}
    assert not missing & learnt, missing & learnt
    return module
