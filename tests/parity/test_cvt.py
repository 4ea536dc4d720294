"""CvT: logits, maps and every gradient equal those of transformers, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minswin
from minswin.models import CvT
from minswin.weights.rename import rename

from .cases import TOLERANCE, Case, Row, build, error, our_run, their_run
from .names import State
from .peers import PEERS, Transformers, need, tensor

pytestmark = pytest.mark.parity


class TransformersCvT(Transformers):
    """Our names come from the table that loads its files, so that the table is compared too.

    It cannot build a stage i of fewer than i + 1 blocks: it takes the rate of the i-th.
    """

    def build(self, settings: dict[str, Any]) -> Any:
        own = dict(settings)
        ratio = own.pop("mlp_ratio", 4.0)
        sides, strides = own.pop("patch_sizes"), own.pop("strides")
        config = need("transformers").CvtConfig(
            patch_sizes=sides,
            patch_stride=strides,
            patch_padding=[
                (side - stride + 1) // 2 for side, stride in zip(sides, strides, strict=True)
            ],
            embed_dim=own.pop("embed_dims"),
            depth=own.pop("depths"),
            num_heads=own.pop("num_heads"),
            mlp_ratio=[ratio] * 3,
            num_labels=own.pop("num_classes"),
        )
        own.pop("img_size")  # it takes any
        assert not own, own
        return need("transformers").CvtForImageClassification(config).eval()

    def load(self, module: Any, state: State) -> None:
        renamed = rename(state, "minswin", "transformers")
        module.load_state_dict({name: tensor(array) for name, array in renamed.items()})

    def gradients(self, module: Any, names: list[str]) -> State:
        theirs = {n: p.detach().numpy() for n, p in module.state_dict().items()}
        theirs |= {n: p.grad.numpy() for n, p in module.named_parameters()}
        ours = rename(theirs, "transformers", "minswin")
        return {name: ours[name] for name in names}


PEERS["transformers CvT"] = TransformersCvT()

CASES = (
    Case(
        "CvT, odd maps 12×9, 6×5 and 3×3 of an image 47×36",
        {
            "img_size": (47, 36), "patch_sizes": (7, 3, 3), "strides": (4, 2, 2),
            "embed_dims": (6, 10, 12), "depths": (1, 2, 3), "num_heads": (1, 2, 3),
            "num_classes": 5,
        },
        peers=("transformers CvT",),
        batch=3,
        family=CvT,
    ),
    Case(
        "CvT, patches of 3 with stride 2, mlp ratio 2",
        {
            "img_size": 32, "patch_sizes": (3, 3, 3), "strides": (2, 2, 2),
            "embed_dims": (8, 6, 10), "depths": (2, 2, 3), "num_heads": (2, 3, 5),
            "mlp_ratio": 2.0, "num_classes": 7,
        },
        peers=("transformers CvT",),
        family=CvT,
    ),
)  # fmt: skip


def has_no_effect(name: str) -> bool:
    """What adds one number to all logits of a query, and the query of the last block's patches."""
    last_query = name.startswith("stages.2.blocks.2.attn.conv_proj_q.")  # the head reads the class
    every_key = name.endswith("attn.conv_proj_k.bn.bias") and not name.startswith("stages.2.")
    return last_query or every_key or name.endswith("attn.proj_k.bias")


class Pair:
    """Our model and theirs with the same random weights; theirs has run."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(20210325)
        self.case, self.peer, self.model = case, PEERS["transformers CvT"], build(case, rng)
        self.images = case.draw_images(rng)
        self.g = rng.standard_normal((case.batch, case.settings["num_classes"]))
        self.names = [name for name, _ in self.model.named_parameters()]
        module = self.peer.build(case.settings).double()
        self.peer.load(module, self.model.state_dict())
        self.logits, self.theirs = their_run(self.peer, module, self.images, self.g, self.names)

    def row(self) -> Row:
        """The errors of ours, where some gradients are nothing but rounding."""
        logits, ours = our_run(self.model, self.images, self.g)
        assert ours.keys() == self.theirs.keys()
        largest = max(abs(gradient).max() for gradient in self.theirs.values())
        dead = [name for name in ours if has_no_effect(name)]
        assert len(dead) > 5
        for name in dead:
            assert max(abs(ours[name]).max(), abs(self.theirs[name]).max()) < 1e-13 * largest
        alive = ours.keys() - dead
        errors = {name: error(ours[name], self.theirs[name]) for name in alive}
        worst = max(errors, key=lambda name: errors[name])
        forward = error(logits, self.logits)
        return Row(self.case.name, self.peer.version(), forward, errors[worst], worst, CvT)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_and_every_gradient_equal_those_of_transformers(case, report: list[Row]):
    row = Pair(case).row()
    report.append(row)
    assert row.logits < TOLERANCE, row
    assert row.gradient < TOLERANCE, row


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_map_equals_that_of_transformers(case):
    rng = np.random.default_rng(3)
    peer, model = PEERS["transformers CvT"], build(case, rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    images = case.draw_images(rng)
    theirs = module.cvt(tensor(images), output_hidden_states=True).hidden_states
    ours = [y.numpy() for y in model.feature_maps(images)]
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):  # the last of ours is normalised
        other = other.detach().numpy().transpose(0, 2, 3, 1)
        assert np.abs(mine - other).max() < TOLERANCE * np.abs(other).max()
    last = module.layernorm(theirs[-1].permute(0, 2, 3, 1)).detach().numpy()
    assert np.abs(ours[-1] - last).max() < TOLERANCE * np.abs(last).max()


def test_a_model_of_transformers_is_loaded_and_its_settings_are_read():
    case = CASES[1]
    module = PEERS["transformers CvT"].build(case.settings)
    names = ("img_size", "num_heads", "strides")  # which no weight tells
    given = {name: case.settings[name] for name in names}
    model = minswin.create_model("cvt_cifar", weights=module, **case.settings).eval()
    assert model.settings | given == model.settings
    images = case.draw_images(np.random.default_rng(0), np.float32)
    theirs = module(tensor(images)).logits.detach().numpy()
    assert np.abs(model(images).numpy() - theirs).max() < 1e-5


def test_a_change_of_a_millionth_in_any_parameter_is_seen():
    pair = Pair(CASES[0])
    for name in (n for n in pair.names if not has_no_effect(n)):
        last = pair.model.state_dict()[name].reshape(-1)[-1:]
        before = last.copy()
        last += 1e-6
        row = pair.row()
        assert row.largest > TOLERANCE, f"unseen: {name}, {row}"
        last[:] = before
