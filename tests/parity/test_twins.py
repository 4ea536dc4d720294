"""Twins-SVT: the last map equals that of timm, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from .cases import TWINS_CASES
from .compare import TOLERANCE, build
from .peers import PEERS, tensor

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("case", TWINS_CASES, ids=str)
def test_the_last_map_equals_that_of_timm(case):
    rng = np.random.default_rng(3)
    peer, model = PEERS["timm Twins"], build(case, rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())
    images = case.draw_images(rng)
    ours = model.feature_maps(images)[-1].numpy()
    theirs = module.forward_features(tensor(images)).detach().numpy()
    assert np.abs(ours.reshape(theirs.shape) - theirs).max() < TOLERANCE * np.abs(theirs).max()
