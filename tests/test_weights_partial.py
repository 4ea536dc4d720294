"""A file that lacks a part of a model is known for what it is, and the part is named."""

from __future__ import annotations

import re

import numpy as np
import pytest
from named_models import model

from minswin import create_model, list_models
from minswin.models.blank import BLANK
from minswin.models.registry import CLASSES
from minswin.weights import load
from minswin.weights.convert import describe
from minswin.weights.families import FAMILIES, TABLES
from minswin.weights.files import save_weights
from minswin.weights.recognise import fitting, recognise
from minswin.weights.rename import rename

# Most blocks in one stage: what is left of its names behind `layers.1.` is a ViT's.
STAGES = {"depths": (1, 6), "num_heads": (1, 3)}
NETWORK = "cpb_mlp|continuous_position"
ALL_OF_IT = rf"logit_scale|relative_|attn_mask|{NETWORK}"
PARTS = {
    "swin": ["relative_position|attn_mask", "relative_position_bias"],
    "swinv2": ["logit_scale", NETWORK, ALL_OF_IT],
}
CASES = [
    (family, other, part)
    for family, parts in PARTS.items()
    for other in ["minswin", *(of for f, of in TABLES if f == family)]
    for part in parts
    if (other, part) != ("torchvision", ALL_OF_IT)  # then its names are those of a Swin
]


def without(made, other, part):
    """The weights of a model under other names, but for those that a pattern is in."""
    theirs = rename(made.state_dict(), "minswin", other, model=made)
    left = {name: x for name, x in theirs.items() if not re.search(part, name)}
    assert 0 < len(left) < len(theirs)
    return left


@pytest.mark.parametrize(("family", "other", "part"), CASES)
@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_swin_without_a_part_of_its_bias_is_a_swin(family, other, part, prefix):
    left = without(model(family, **STAGES), other, part)
    known = recognise({prefix + name: x for name, x in left.items()})
    assert (known.family, known.prefix) == (family, prefix)
    assert known.dialect in (other, "microsoft") and not known.unknown


def test_it_is_described_and_what_is_missing_is_said(tmp_path):
    made = model("swin", **STAGES)
    left = without(made, "timm", "relative_position")
    save_weights(tmp_path / "w.npz", left)
    told = describe(tmp_path / "w.npz")
    assert "family      Swin Transformer\n" in told
    table = r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table"
    assert re.search(rf"a whole swin was expected, .* have no {table}", told)
    with pytest.raises(ValueError, match=rf"missing \(7\): {table}"):
        load(made, left)
    with pytest.raises(ValueError, match=r"holds a Swin Transformer .* but vit_cifar is a Vision"):
        create_model("vit_cifar", weights=left, embed_dim=6, depth=1, num_heads=2)


@pytest.mark.parametrize(("family", "base"), [("swinv2", "swinv2."), ("deit", "deit.")])
def test_of_two_families_that_transformers_saved_the_nearest_is_taken(family, base):
    """Without their first word: most names of a Swin V2 are a Swin's, of a DeiT a ViT's."""
    made = model(family)
    theirs = rename(made.state_dict(), "minswin", "transformers", model=made)
    left = {name.removeprefix(base): x for name, x in theirs.items() if name.startswith(base)}
    known = recognise(left)
    assert known.family == family and not known.unknown


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_whole_model_nothing_is_said_to_be_missing(family, tmp_path):
    made = model(family)
    theirs = next(iter(FAMILIES[family].tables))
    file = rename(made.state_dict(), "minswin", theirs, model=made)
    save_weights(tmp_path / "w.npz", file)
    assert "problem" not in describe(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("family", "part", "named"),
    [
        ("swinv2", "cpb_mlp", r"layers\.0\.blocks\.0\.attn\.cpb_mlp\.0\.weight"),
        ("swin", r"1\.blocks\.0\.norm1", r"layers\.1\.blocks\.0\.norm1\.weight, .*bias\."),
        ("swin", "downsample", r"layers\.0\.downsample\.reduction\.weight"),
        ("vit", r"^norm\.", r"norm\.weight, norm\.bias\."),
        ("deit", "head_dist", r"head_dist\.weight, head_dist\.bias\."),
        ("resnet", r"layer1\.0\.bn1", r"layer1\.0\.bn1\.weight"),
    ],
)
def test_what_load_would_refuse_is_no_fit(family, part, named, tmp_path):
    made = model(family)
    left = {n: x for n, x in made.state_dict().items() if not re.search(part, n)}
    save_weights(tmp_path / "w.npz", left)
    told = describe(tmp_path / "w.npz")
    assert re.search(rf"problem     load refuses them: .* missing \(\d+\): {named}", told), told
    assert "\nfits" not in told
    with pytest.raises(ValueError, match="missing"):
        load(made, left)


def test_windows_that_differ_by_stage_fit_no_model(tmp_path):
    state = create_model("swin_shapes", rng=0).state_dict()
    assert fitting(recognise(state)) == ["swin_shapes"]
    for name, table in state.items():
        if re.match(r"layers\.1.*bias_table", name):
            state = {**state, name: np.zeros((15**2, table.shape[1]), table.dtype)}
    assert not fitting(recognise(state))
    save_weights(tmp_path / "w.npz", state)
    told = describe(tmp_path / "w.npz")
    assert "windows are larger in a later stage than in the first" in told and "\nfits" not in told
    index = rename(state, "minswin", "torchvision")["features.3.0.attn.relative_position_index"]
    assert len(index) == 64**2  # of each stage its own


def test_a_wrong_shape_inside_a_named_model_is_no_fit(tmp_path):
    state = dict(create_model("swin_shapes", rng=0).state_dict())
    state["layers.1.blocks.1.mlp.fc2.bias"] = np.zeros(7, np.float32)
    save_weights(tmp_path / "w.npz", state)
    told = describe(tmp_path / "w.npz")
    assert "wrong shape (1): layers.1.blocks.1.mlp.fc2.bias" in told and "\nfits" not in told


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("change", ["", "missing", "unexpected"])
def test_info_and_load_say_the_same_of_a_file(family, change, tmp_path):
    """Of a file of the smallest named model of a family, and with a name too few or too many."""
    names = [n for n in list_models() if CLASSES[n].family == family]
    name = min(names, key=lambda n: create_model(n, rng=BLANK).parameter_count())
    made = create_model(name, rng=0)
    state = dict(made.state_dict())
    if change == "missing":
        state.popitem()
    elif change:
        state["extra.gamma"] = np.ones(3, np.float32)
    file = tmp_path / "w.safetensors"
    save_weights(file, state)
    told = describe(file)
    if not change:
        assert re.search(rf"\nfits .*\b{name}\b", told) and "problem" not in told
        load(name, file)
        return
    with pytest.raises(ValueError) as refused:
        load(name, file)
    said = str(refused.value).removeprefix(f"load: {file}: ")
    assert told.endswith(f"problem     load refuses them: {said}") and "\nfits" not in told
