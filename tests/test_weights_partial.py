"""A file that lacks a part of a model is known for what it is, and the part is named."""

from __future__ import annotations

import re

import pytest
from test_weights_names import TABLES, model

from minswin import create_model
from minswin.weights import load
from minswin.weights.convert import describe
from minswin.weights.files import save_weights
from minswin.weights.recognise import recognise
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
