"""CvT: every map equals that of transformers, whose weights are loaded, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import minswin

from .cases import CVT_CASES
from .compare import TOLERANCE, build
from .peers import PEERS, tensor

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("case", CVT_CASES, ids=str)
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
    case = CVT_CASES[1]
    module = PEERS["transformers CvT"].build(case.settings)
    names = ("img_size", "num_heads", "strides")  # which no weight tells
    given = {name: case.settings[name] for name in names}
    model = minswin.create_model("cvt_cifar", weights=module, **case.settings).eval()
    assert model.settings | given == model.settings
    images = case.draw_images(np.random.default_rng(0), np.float32)
    theirs = module(tensor(images)).logits.detach().numpy()
    assert np.abs(model(images).numpy() - theirs).max() < 1e-5
