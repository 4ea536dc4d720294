"""Names and buffers: one to one with transformers (both generations) and timm."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from minswin.layers.windows import fit_window
from minswin.models.swin import halve, patch_grid
from minswin.reference.windows import attention_mask, relative_position_index

from .cases import SWIN_CASES, Case, case_named, pairs
from .compare import build
from .names import TIMM, TRANSFORMERS, TRANSFORMERS_FILES, rename, restore, translate
from .peers import PEERS, need, tensor

pytestmark = pytest.mark.parity
LAYOUTS = {"timm": TIMM, "transformers": TRANSFORMERS, "transformers files": TRANSFORMERS_FILES}


def our_state(case: Case) -> dict[str, np.ndarray]:
    return build(case, np.random.default_rng(0)).state_dict()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_restoring_undoes_renaming(layout):
    state = our_state(case_named("absolute" if layout != "timm" else "odd heads"))
    back = restore(rename(state, LAYOUTS[layout]), LAYOUTS[layout], list(state))
    assert list(back) == list(state)
    assert all(np.array_equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_two_parameters_share_a_name(layout):
    names = [t for n in our_state(SWIN_CASES[0]) for t in translate(n, LAYOUTS[layout])]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("case", "against"), pairs(SWIN_CASES), ids=str)
def test_beside_parameters_the_index_alone_is_stored(case, against):
    module = PEERS[against].build(case.settings)  # of older transformers
    stored = module.state_dict().keys() - dict(module.named_parameters()).keys()
    assert all(name.endswith("relative_position_index") for name in stored), stored


# ── buffers ──────────────────────────────────────────────────────────────────────────────────────


def stage_windows(case: Case) -> list[tuple[tuple[int, int], tuple[int, int], bool]]:
    """(map, window, may it shift) of every stage, for the images that the model was made for."""
    window, patch = case.settings["window_size"], case.settings["patch_size"]
    window = (window, window) if isinstance(window, int) else window
    patch = (patch, patch) if isinstance(patch, int) else patch
    size = case.settings["img_size"]
    grid = patch_grid((size, size) if isinstance(size, int) else size, patch)
    stages = []
    for _ in case.settings["depths"]:
        stages.append((grid, *fit_window(grid, window)))
        grid = halve(grid)
    return stages


def place(name: str) -> tuple[int, int]:
    """Stage and block of a name in any layout."""
    found = re.search(r"layers\.(\d+)\.blocks\.(\d+)", name)
    assert found is not None, name
    return int(found[1]), int(found[2])


@pytest.mark.parametrize(("case", "against"), pairs(SWIN_CASES), ids=str)
def test_every_buffer_equals_our_index_or_mask(case, against):
    stages = stage_windows(case)
    buffers = dict(PEERS[against].build(case.settings).named_buffers())
    masks = 0
    for name, buffer in buffers.items():
        stage, block = place(name)
        grid, window, may_shift = stages[stage]
        if name.endswith("relative_position_index"):
            ours: Any = relative_position_index(window)
        else:
            assert name.endswith("attn_mask") and may_shift and block % 2 == 1, name
            ours = attention_mask(grid, window, (window[0] // 2, window[1] // 2))
            masks += 1
        assert np.array_equal(buffer.numpy().reshape(ours.shape), ours), name
    blocks = sum(case.settings["depths"])
    shifted = sum(d // 2 for d, s in zip(case.settings["depths"], stages, strict=True) if s[2])
    assert masks == (shifted if against == "timm" else 0)  # transformers makes masks as it runs
    assert len(buffers) == blocks + masks


@pytest.mark.parametrize("case", [c for c in SWIN_CASES if "transformers" in c.peers], ids=str)
def test_the_masks_of_transformers_equal_ours(case):
    torch = need("torch")
    module = PEERS["transformers"].build(case.settings)
    shifted = 0
    for stage, (grid, window, may_shift) in zip(
        module.swin.encoder.layers, stage_windows(case), strict=True
    ):
        block = stage.blocks[1]
        block.set_shift_and_window_size(grid)
        padded = tuple(n + -n % m for n, m in zip(grid, window, strict=True))
        theirs = block.get_attn_mask(*padded, dtype=torch.float32, device="cpu")
        assert (theirs is not None) == may_shift
        if theirs is not None:
            ours = attention_mask(padded, window, (window[0] // 2, window[1] // 2))
            assert np.array_equal(theirs.numpy(), ours)
            shifted += 1
    assert shifted


# ── files ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case_name", ["patch 2×3", "absolute"])
def test_weights_under_the_published_names_load_into_transformers(case_name, tmp_path):
    """It renames published files itself when it loads them, so this checks our older names."""
    save_file = need("safetensors.numpy").save_file
    case, peer = case_named(case_name), PEERS["transformers"]
    peer.build(case.settings)  # skips what this version cannot do
    state = {name: array.astype(np.float32) for name, array in our_state(case).items()}
    arrays = {n: np.ascontiguousarray(a) for n, a in rename(state, TRANSFORMERS_FILES).items()}
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    peer.config(case.settings).save_pretrained(tmp_path)
    module, found = need("transformers").SwinForImageClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not found["unexpected_keys"]
    assert all(name.endswith("relative_position_index") for name in found["missing_keys"])
    back = peer.parameters(module, list(state))
    assert all(np.array_equal(back[name], state[name]) for name in state)


def test_weights_under_the_original_names_load_into_timm():
    """timm renames files of the original when it loads them, so this checks our map to it."""
    case, peer = case_named("odd heads"), PEERS["timm"]
    module = peer.build(case.settings)
    state = our_state(case)
    convert = need("timm.models.swin_transformer").checkpoint_filter_fn
    renamed = convert({name: tensor(array) for name, array in state.items()}, module)
    ours = rename(state, TIMM)
    assert renamed.keys() == ours.keys()
    assert all(np.array_equal(renamed[name].numpy(), ours[name]) for name in ours)
