"""Positions, receptive fields, features and cost: what is drawn is what the model's parts say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import batch, tiny_model

from minswin.autograd import Tensor, no_grad
from minswin.bench.attention_cost import attention_cost
from minswin.look import canvas, cost, features, planes, positions, receptive
from minswin.look.attention import attention_maps
from minswin.models import ResNet, SwinTransformer, VisionTransformer, create_model

ROOT = str(Path(canvas.__file__).parents[2])

# ── positions ────────────────────────────────────────────────────────────────────────────────────


def test_the_picture_of_a_bias_holds_the_table_by_displacement():
    model = tiny_model(window_size=(2, 3))
    pictures = positions.bias_pictures(model, attention_maps(model, batch(1)[0][0]))
    for picture, block in zip(pictures, model.layers[0].blocks, strict=True):
        table = block.attn.relative_position_bias_table.data  # (3·5, h)
        assert np.array_equal(picture, table.T.reshape(2, 3, 5))


def test_the_bias_of_a_computed_table_is_pictured_too():
    settings = {"img_size": 8, "patch_size": 2, "embed_dim": 6, "depths": (1,), "num_heads": (2,)}
    rng = np.random.default_rng(0)
    model = create_model("swinv2_cifar", rng=rng, window_size=2, dtype=np.float64, **settings)
    (picture,) = positions.bias_pictures(model, attention_maps(model, rng.random((3, 8, 8))))
    with no_grad():
        bias = model.layers[0].blocks[0].attn.bias((2, 2)).data  # (h, N, N)
    assert np.array_equal(picture[:, 1, 1], bias[:, 3, 3])
    assert np.array_equal(picture[:, 2, 0], bias[:, 2, 1])  # from (1, 0) to (0, 1)
    assert np.array_equal(picture[:, 0, 1], bias[:, 1, 3])  # from (0, 1) to (1, 1)


def test_relative_positions_of_a_vit_leave_out_the_class_token():
    model = tiny_model("vit_cifar")
    (first, _) = positions.bias_pictures(model, attention_maps(model, batch(1)[0][0]))
    table = model.blocks[0].rel_pos.relative_position_bias_table.data  # (3·5 + 3, h)
    assert np.array_equal(first, table[:15].T.reshape(2, 3, 5))


def test_likeness_of_positions_is_the_cosine():
    v = np.random.default_rng(0).standard_normal((2, 3, 5))
    alike = positions.similarity(v)
    a, b = v[0, 2], v[1, 1]
    want = (a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert alike.shape == (2, 3, 2, 3) and abs(alike[0, 2, 1, 1] - want) < 1e-12


@pytest.mark.parametrize("kind", ["learned", "learned_2d", "sinusoidal", "none"])
def test_position_vectors_are_what_the_model_adds(kind):
    model = tiny_model("vit_cifar", positions=kind, embed_dim=8)
    got = positions.position_vectors(model)
    if kind == "none":
        assert got is None
        return
    x = batch(1)[0]
    with no_grad():
        with_them = model.embed(x)[0].data[0, 1:]  # (HW, C)
        bare = model.patch_embed(Tensor(x)).data[0]  # (H, W, C)
    np.testing.assert_allclose(with_them.reshape(2, 3, 8) - bare, got, rtol=1e-9, atol=1e-12)


# ── receptive fields ─────────────────────────────────────────────────────────────────────────────

SWIN = {"img_size": 32, "patch_size": 2, "embed_dim": 4, "num_heads": (1, 1), "window_size": 4}
OWN = {"num_classes": 2, "dtype": np.float64}


def box(top, left, below, right, size=32):
    want = np.zeros((size, size), bool)
    want[top:below, left:right] = True
    return want


def field(model, step, token, side=32):
    rng = np.random.default_rng(1)
    found = receptive.features_of(model.eval(), step)
    return receptive.dependence(found, (side, side), token, rng=rng, draws=8)


def test_windows_alone_depend_on_their_window_only():
    rng = np.random.default_rng(0)
    model = receptive.without_shift(SwinTransformer(**SWIN, depths=(2, 2), rng=rng, **OWN))
    assert np.array_equal(field(model, 0, (6, 9)), box(8, 16, 16, 24))
    assert np.array_equal(field(model, 1, (2, 5)), box(0, 16, 16, 32))


def test_a_shifted_window_joins_the_windows_that_it_touches():
    model = SwinTransformer(**SWIN, depths=(2, 2), rng=np.random.default_rng(0), **OWN)
    # the shifted window of token (6, 9) is rows 6…9 and columns 6…9: four windows of before
    assert np.array_equal(field(model, 0, (6, 9)), box(8, 8, 24, 24))
    # a masked corner: token (0, 0) shares a window with three other corners, and sees none
    assert np.array_equal(field(model, 0, (0, 0)), box(0, 0, 8, 8))


def test_a_vit_depends_on_the_whole_image_after_one_block():
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=4, depth=2, num_heads=1,
        rng=np.random.default_rng(0), **OWN,
    )  # fmt: skip
    assert field(model, 0, (1, 2)).all()


def test_a_resnet_sees_one_pixel_more_for_each_convolution():
    settings = {"depths": (2, 1), "width": 4, "stem": "cifar"}
    model = ResNet(img_size=32, rng=np.random.default_rng(0), **settings, **OWN)
    assert np.array_equal(field(model, 0, (16, 12)), box(11, 7, 22, 18))  # 1 + 4 convolutions


# ── features ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["swin_shapes", "vit_cifar"])
def test_the_features_are_what_the_head_is_given(name):
    model, x = tiny_model(name), batch(5)[0]
    got = features.pooled_features(model, x, batch=2)
    with no_grad():
        logits = model(x).data
    np.testing.assert_allclose(got @ model.head.weight.data.T + model.head.bias.data, logits)


def test_feature_maps_are_those_of_the_model():
    model, x = tiny_model(depths=(1, 1), num_heads=(1, 2)), batch(1)[0]
    with no_grad():
        want = [t.data[0] for t in model.feature_maps(x)]
    got = features.feature_maps(model, x[0])
    assert [g.shape for g in got] == [(4, 6, 6), (2, 3, 12)]
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
    vit = tiny_model("vit_cifar")
    with no_grad():
        tokens = vit.tokens(x).data[0]
    (only,) = features.feature_maps(vit, x[0])
    assert np.array_equal(only, tokens[1:].reshape(2, 3, 6))


def test_lively_channels_vary_most():
    x = np.random.default_rng(0).standard_normal((4, 5, 3)) * [2, 9, 5]
    assert features.lively_channels(x, 2) == [1, 2]


def test_the_plane_keeps_as_much_of_the_variance_as_any_plane_can():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)) * [1, 5, 1, 3, 1, 1] + 7
    points, share = planes.principal_plane(x)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(share, values[::-1][:2] / values.sum())
    want = (x - x.mean(0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(abs(points), abs(want))


def test_without_scikit_learn_t_sne_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        planes.neighbourhoods(np.zeros((5, 3)))
    assert planes.available_methods() == ("pca",)


def shown_in(axes):
    """The points in axes, in the order of drawing, and the class of each."""
    parts = [np.asarray(dots.get_offsets()) for dots in axes.collections]
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def test_models_are_shown_side_by_side():
    pytest.importorskip("matplotlib")
    from minswin.look.canvas import figure

    x, labels = batch(7)
    _, axes = figure(2)
    models = {"Swin": tiny_model(), "ViT": tiny_model("vit_cifar")}
    vectors = {name: features.pooled_features(model, x) for name, model in models.items()}
    planes.draw_planes(axes, vectors, labels, "abcde")
    order = np.argsort(labels, kind="stable")
    for place, name in zip(axes[0], models, strict=True):
        assert place.get_title().startswith(f"{name}, PCA: ")
        points, classes = shown_in(place)
        assert np.array_equal(classes, labels[order])
        np.testing.assert_array_equal(points, planes.principal_plane(vectors[name])[0][order])
    assert axes[0, 0].get_legend() is None
    assert [text.get_text() for text in axes[0, 1].get_legend().get_texts()] == list("abcde")


def test_t_sne_has_a_row_of_its_own_and_keeps_groups_together():
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    from minswin.look.canvas import figure

    assert planes.available_methods() == ("pca", "tsne")
    rng, labels = np.random.default_rng(0), np.arange(30) % 3
    vectors = {"a": 20 * np.eye(5)[labels] + rng.standard_normal((30, 5))}
    vectors["b"] = vectors["a"][:, ::-1] * 3
    _, axes = figure(2, 2)
    planes.draw_planes(axes, vectors, labels, "abc", methods=("pca", "tsne"))
    assert [place.get_title() for place in axes[1]] == ["a, t-SNE", "b, t-SNE"]
    for place in axes[1]:
        points, classes = shown_in(place)
        middle = np.array([points[classes == k].mean(axis=0) for k in range(3)])
        nearest = ((points[:, None] - middle) ** 2).sum(axis=2).argmin(axis=1)
        assert np.array_equal(nearest, classes)


@pytest.mark.parametrize(("spoilt", "method"), [(np.nan, "pca"), (1.0, "umap")])
def test_a_plane_of_spoilt_features_or_by_another_method_is_refused(spoilt, method):
    x = np.random.default_rng(0).standard_normal((5, 3))
    x[2, 1] *= spoilt
    words = "of Swin are not finite" if np.isnan(spoilt) else "must be pca or tsne, got 'umap'"
    with pytest.raises(ValueError, match=f"draw_plane: .*{words}"):
        planes.draw_plane(None, x, np.arange(5), "abcde", name="Swin", method=method)


@pytest.mark.parametrize("name", ["swin_shapes", "vit_cifar"])
def test_looking_gives_every_layer_its_own_mode_back(name):
    model, x = tiny_model(name, dtype=np.float64), batch(2)[0]
    model.train()
    frozen = model.patch_embed.eval()
    before = [layer.training for layer in model.layers_within()]
    assert not frozen.training and model.training
    for look in (
        lambda: attention_maps(model, x[0]),
        lambda: features.feature_maps(model, x[0]),
        lambda: features.pooled_features(model, x),
        lambda: receptive.fields(model, [0], (8, 12), rng=np.random.default_rng(0)),
    ):
        look()
        assert [layer.training for layer in model.layers_within()] == before


# ── cost ─────────────────────────────────────────────────────────────────────────────────────────


def test_counted_multiply_adds_lie_on_the_formulas_of_the_paper():
    whole, inside = attention_cost([3, 6, 12], channels=10, heads=2, window=3)
    assert [p.macs for p in whole] == [cost.msa_macs(s, s, 10) for s in (3, 6, 12)]
    assert [p.macs for p in inside] == [cost.wmsa_macs(s, s, 10, 3) for s in (3, 6, 12)]
    assert {p.seconds for p in (*whole, *inside)} == {None}
    assert cost.msa_macs(5, 7, 10) == 4 * 35 * 100 + 2 * 35**2 * 10
    assert cost.wmsa_macs(5, 7, 10, 3) == 4 * 35 * 100 + 2 * 9 * 35 * 10


def test_a_measured_point_has_a_time():
    (point,), _ = attention_cost([3], channels=4, heads=1, window=3, rounds=1)
    assert point.seconds is not None and point.seconds > 0


def test_cost_is_drawn_against_the_side_of_the_image_in_pixels():
    pytest.importorskip("matplotlib")
    from minswin.look.canvas import figure

    points = [cost.CostPoint(3, cost.msa_macs(3, 3, 10), 0.25), cost.CostPoint(6, 7, 0.5)]
    _, axes = figure(2)
    cost.draw_cost(axes[0, 0], points, points, C=10, M=3, patch=4)
    cost.draw_time(axes[0, 1], points, points, patch=4)
    for place in axes[0]:
        assert place.get_xlabel() == "side of the image [pixels]"
        assert [label.get_text() for label in place.get_xticklabels()] == ["12", "24"]
    line, counted, *_ = axes[0, 0].lines
    assert list(counted.get_xdata()) == [12, 24]
    assert list(counted.get_ydata()) == [points[0].macs, 7]
    assert line.get_ydata()[list(line.get_xdata()).index(12)] == points[0].macs
    assert list(axes[0, 1].lines[0].get_xdata()) == [12, 24]
    assert list(axes[0, 1].lines[0].get_ydata()) == [250, 500]


@pytest.mark.parametrize("backend", ["module://a_notebook.that_is_not_here", "nonsense", "svg"])
def test_pictures_need_no_backend_of_the_users(tmp_path, backend):
    """A foreign MPLBACKEND: matplotlib itself cannot be imported under the first two."""
    pytest.importorskip("matplotlib")
    program = (
        "from minswin.look import canvas\n"
        "drawn, _ = canvas.figure(2)\n"
        "for name in ('a.png', 'a.svg'): canvas.save(drawn, name)\n"
        "canvas.as_uri(drawn)\n"
        "import os, matplotlib\n"
        f"assert os.environ['MPLBACKEND'] == {backend!r}\n"
        f"assert ({backend!r} != 'svg') or matplotlib.rcParams['backend'] == 'svg'\n"
    )
    environment = {**os.environ, "MPLBACKEND": backend, "PYTHONPATH": ROOT}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg"]
