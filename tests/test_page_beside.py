"""Models side by side in one page are given the same images, each in its own way."""

from __future__ import annotations

from pathlib import Path

import explained
import numpy as np
import pytest
from explained import save

from minswin import cli
from minswin.explain import explain
from minswin.look import features, planes
from minswin.look.page import data, words

quick, subjects = explained.quick, explained.subjects  # the fixtures


CIFAR = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def test_models_beside_are_given_the_same_images_each_in_its_own_way(subjects):
    explain(save("a.png"), "a.html", model="vit_tiny", beside=["swin_cifar_small"] * 2)
    (about,) = subjects
    names = [sight.name for sight in about.sights]
    assert names == ["vit_tiny", "swin_cifar_small", "swin_cifar_small (2)"]
    small, large = about.sights[0].examples, about.sights[1].examples
    assert small.shape == (4, 3, 16, 16) and large.shape == (4, 3, 32, 32)
    mean, std = (np.array(x)[:, None, None] for x in CIFAR)
    np.testing.assert_allclose((large * std + mean)[..., ::2, ::2], small * 0.5 + 0.5, atol=1e-6)
    picture = about.sights[1].picture * std + mean
    np.testing.assert_allclose(picture[:, ::2, ::2], about.x * 0.5 + 0.5, atol=1e-6)


def test_the_picture_is_a_point_among_those_of_each_model(subjects):
    command = ["explain", str(save("a.png")), "--model", "vit_tiny", "--beside", "swin_cifar_small"]
    assert cli.main(command) == 0
    (about,) = subjects
    for sight, plane in zip(about.sights, data.all_planes(about), strict=True):
        vectors = features.pooled_features(sight.model, sight.examples)
        picture = features.pooled_features(sight.model, sight.picture[None])
        axes, _ = planes.principal_axes(vectors)
        got = np.array([point[:2] for point in plane["points"]])
        np.testing.assert_allclose(got, planes.principal_plane(vectors)[0], rtol=1e-3, atol=1e-6)
        assert len(plane["picture"]) == 2 and plane["title"].startswith(sight.name)
        joined = (picture[0] - vectors.mean(0, dtype=np.float64)) @ axes.T
        np.testing.assert_allclose(plane["picture"], joined, rtol=1e-9)
    text = words.about_points(about, ("pca",))
    assert "Not trained on these classes: vit_tiny, swin_cifar_small. " in text
    assert "t-SNE" not in text and "t-SNE" in words.about_points(about, ("pca", "tsne"))


def test_where_scikit_learn_is_there_the_page_has_t_sne_too(monkeypatch, subjects):
    pytest.importorskip("sklearn")
    explain(save("a.png"), Path("a.html"), model="vit_tiny")
    monkeypatch.setattr(planes, "available_methods", lambda: planes.METHODS)
    assert [p["title"].split(", ")[1][:5] for p in data.all_planes(subjects[0])] == [
        "PCA: ",
        "t-SNE",
    ]
