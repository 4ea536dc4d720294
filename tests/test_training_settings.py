"""A wrong setting is named; every recipe is right."""

from __future__ import annotations

import pytest

from minswin.models import list_models
from minswin.training import RECIPES, Settings, recipe


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"data": "imagenet"},
            "data must be one of shapes, .*, or a folder .* class, got 'imagenet'",
        ),
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, muon; got 'adam'"),
        ({"epochs": 0}, "epochs must be a whole number of 1 or more, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of 1 or more, got 2.5"),
        ({"lr": float("nan")}, "lr must be a number of 0 or more, got nan"),
        ({"smoothing": 1.0}, "smoothing must be 0 or more and below 1, got 1.0"),
        ({"epochs": 3, "warmup": 4.0}, "warmup must be 0 to 3 epochs, got 4.0"),
        ({"count": 3, "batch_size": 4}, "count must be 4 or more, got 3"),
        ({"piece": 24}, "piece and piece_epochs belong together, .*; got 24 and 0"),
        ({"piece_epochs": 3}, "piece and piece_epochs belong together, .*; got 0 and 3"),
        (
            {"model_settings": {"stem": "patches", "img_size": 8}},
            "img_size of the model follows from the images, got 8; leave it out",
        ),
        ({"model_settings": {"rng": 3}}, "rng in model_settings: random numbers are no setting"),
        ({"nesterov": "no"}, "nesterov must be True or False, got 'no'"),
        ({"seed": True}, "seed must be a whole number of 0 or more, got True"),
    ],
)
def test_a_bad_setting_is_named(setting, message):
    with pytest.raises(ValueError, match=f"Settings: {message}"):
        Settings(**setting)


def test_every_recipe_is_valid_and_names_a_model(tmp_path):
    for name in RECIPES.keys() - {"folder"}:
        assert recipe(name).model in list_models()
        assert recipe(name, epochs=50).epochs == 50
    assert recipe("cifar10", epochs=2).warmup == pytest.approx(0.2)
    assert recipe("cifar10", epochs=2, warmup=1.5).warmup == 1.5
    assert recipe("cifar10", count=2_000).holdout == 200
    assert recipe("cifar10", count=2_000, holdout=0).holdout == 0
    known = "unknown setting 'learning_rate'; known are alpha, augment, "
    with pytest.raises(ValueError, match=known):
        recipe("shapes", learning_rate=1)
