"""Weights of another model are refused, and it is said what they are of and what ours lacks."""

from __future__ import annotations

import numpy as np
import pytest
from named_models import model
from weight_files import same
from weight_states import swin, vit

from minswin.models import create_model
from minswin.weights import load, rename, save_weights
from minswin.weights.convert import convert, describe


def test_another_family_is_named_in_one_sentence(tmp_path) -> None:
    save_weights(tmp_path / "a.npz", create_model("swin_cifar_small").state_dict())
    with pytest.raises(ValueError) as caught:
        load(vit(), tmp_path / "a.npz")
    assert str(caught.value) == (
        f"load: {tmp_path / 'a.npz'} holds a Swin Transformer (names of microsoft), but vit_cifar "
        "is a Vision Transformer; it fits swin_cifar_small"
    )
    deit = vit("deit_cifar_distilled").state_dict()
    with pytest.raises(
        ValueError, match=r"holds a DeiT with a distillation token .* but vit_cifar"
    ):
        load(vit(), deit)


def test_names_of_no_family_give_no_long_list() -> None:
    names = {f"encoder.block{i}.conv.weight": np.ones(3) for i in range(300)}
    with pytest.raises(ValueError, match="none of the known families") as caught:
        load(swin(1), names)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fc_norm.weight", "normalises after pooling"),
        ("reg_token", "register tokens"),
        ("blocks.0.ls1.gamma", "layer scale"),
        ("blocks.1.attn.q_norm.weight", "normalise queries and keys"),
        ("norm_pre.bias", "a norm before the blocks"),
    ],
)
def test_a_part_of_timms_vits_that_ours_lacks_is_explained(name, why, tmp_path) -> None:
    state = {**vit().state_dict(), name: np.ones(12, np.float32)}
    with pytest.raises(ValueError, match=why):
        load(vit(), state)
    save_weights(tmp_path / "a.npz", state)
    assert why in describe(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=why):
        convert(tmp_path / "a.npz", tmp_path / "b.npz", to="transformers")


def test_a_distillation_token_with_one_head_is_explained() -> None:
    """As transformers' DeiTForImageClassification saves it."""
    made = vit("deit_cifar_distilled")
    theirs = rename(made.state_dict(), "minswin", "transformers")
    theirs = {n.replace("cls_classifier", "classifier"): x for n, x in theirs.items()}
    one = {n: x for n, x in theirs.items() if not n.startswith("distillation_classifier")}
    with pytest.raises(ValueError, match=r"missing \(2\): head_dist.* The file has one head, head"):
        load(vit("deit_cifar_distilled"), one)
    loaded = load(vit("deit_cifar_distilled"), one, head="fresh")
    assert np.array_equal(loaded.dist_token.data, made.dist_token.data)


def test_everything_that_does_not_fit_is_said_in_one_message():
    made = model("swin")
    before = {name: array.copy() for name, array in made.state_dict().items()}
    file = rename(made.state_dict(), "minswin", "timm")
    file["head.fc.weight"] = np.zeros((7, 24), np.float32)
    file["extra.gamma"] = file.pop("norm.bias")
    with pytest.raises(ValueError) as error:
        load(made, file)
    said = str(error.value)
    for part in ("missing (1): norm.bias", "unexpected (1): extra.gamma", "wrong shape (1): head"):
        assert part in said
    assert "num_classes" in said
    assert same(made.state_dict(), before)
