"""Segmentation: shapes, derivatives, the loss of pixels, mean IoU, and a short training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import fill, law
from hypothesis import strategies as st

from minswin import create_model, data, data_parallel, ops
from minswin.autograd import Tensor
from minswin.dense import (
    Backbone,
    Segmenter,
    class_masks,
    confusion,
    fit,
    mean_iou,
    pixel_cross_entropy,
    segment,
    segmentation_batches,
    small_backbone,
)
from minswin.dense.layers import FeaturePyramid, PyramidPooling
from minswin.dense.learning import _learning_rate
from minswin.dense.segmentation import HEADS
from minswin.layers import Layer, Linear
from minswin.models import ResNet, SwinTransformer
from minswin.testing.claims import assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import seeds
from minswin.training import Diverged

TINY: dict[str, Any] = {"img_size": (10, 14), "num_classes": 1, "dtype": np.float64}
SWIN: dict[str, Any] = {
    "patch_size": 2,
    "embed_dim": 4,
    "depths": (1, 2),
    "num_heads": (1, 2),
    "window_size": 3,
    "drop_path_rate": 0.0,
}


def backbone(kind: str, rng: np.random.Generator) -> Backbone:
    if kind == "swin":
        return Backbone(SwinTransformer(**TINY, **SWIN, rng=rng))
    return Backbone(ResNet(**TINY, depths=(1, 1, 1), width=3, stem="cifar", rng=rng), keep=2)


def segmenter(kind: str, head: str, rng: np.random.Generator) -> Segmenter:
    own = {"head": head, "width": 5, "rng": rng, "dtype": np.float64}
    return fill(Segmenter(backbone(kind, rng), 3, **own), rng)


class Without(Layer):
    """Leaves the first k channels out: what goes in can be read from what comes out."""

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, x: Tensor) -> Tensor:
        return x[..., self.k :]


# ── the model ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["swin", "resnet"])
def test_a_backbone_gives_maps_of_the_channels_and_strides_that_it_states(kind: str) -> None:
    rng = np.random.default_rng(0)
    for stride, size in ((2, (18, 26)), (4, (36, 52))):  # windows of 4 are padded
        made = small_backbone(kind, img_size=size, stride=stride, rng=rng)
        maps = made(rng.standard_normal((2, 3, *size)).astype(np.float32))
        assert made.strides == (stride, 2 * stride, 4 * stride)
        for y, C, s in zip(maps, made.channels, made.strides, strict=True):
            assert y.shape == (2, -(-size[0] // s), -(-size[1] // s), C)


@pytest.mark.parametrize(("stride", "size"), [(2, 32), (4, 96)])
def test_the_two_small_backbones_cost_the_same_within_two_percent(stride: int, size: int) -> None:
    rng = np.random.default_rng(0)
    swin, resnet = (
        small_backbone(kind, img_size=size, stride=stride, rng=rng).macs()
        for kind in ("swin", "resnet")
    )
    assert abs(swin / resnet - 1) < 0.02


@pytest.mark.parametrize("side", [10, 13, 16, 17])
@pytest.mark.parametrize(("stem", "first"), [("cifar", 1), ("imagenet", 4)])
def test_strides_do_not_depend_on_the_size_that_a_model_was_made_for(
    side: int, stem: str, first: int
) -> None:
    own = {"img_size": (side, 23), "depths": (1, 1, 1), "width": 2, "num_classes": 1}
    made = Backbone(ResNet(**own, stem=stem))
    assert made.strides == (first, 2 * first, 4 * first)
    maps = made(np.zeros((1, 3, side, 23), np.float32))
    for y, s in zip(maps, made.strides, strict=True):
        assert y.shape[1:3] == (-(-side // s), -(-23 // s))


def test_tokens_that_are_no_squares_are_an_error() -> None:
    model = SwinTransformer(**TINY, **{**SWIN, "patch_size": (5, 2)})
    with pytest.raises(ValueError, match="tokens of a pyramid must be squares, got patch_size 5×2"):
        Backbone(model)


def test_what_gives_no_pyramid_is_no_backbone() -> None:
    with pytest.raises(TypeError, match="a VisionTransformer gives no pyramid of maps"):
        Backbone(create_model("vit_cifar_small"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keep must be 1 to 2 of the maps, got 3"):
        Backbone(SwinTransformer(**TINY, **SWIN), keep=3)
    with pytest.raises(ValueError, match="stride must be 2 or 4, got 3"):
        small_backbone("swin", img_size=32, stride=3, rng=np.random.default_rng(0))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ["swin", "resnet"])
def test_every_pixel_gets_logits_also_of_images_of_another_size(kind: str, head: str) -> None:
    rng = np.random.default_rng(0)
    model = segmenter(kind, head, rng)
    for size in ((10, 14), (22, 12)):
        assert model(rng.standard_normal((2, 3, *size))).shape == (2, *size, 3)


@pytest.mark.parametrize("head", HEADS)
def test_a_segmenter_has_the_derivative_of_its_value(head: str) -> None:
    rng = np.random.default_rng(1)
    model = segmenter("swin", head, rng)
    own = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    own.append(model.backbone.model.patch_embed.proj.weight)
    assert_derivative(model, rng.standard_normal((2, 3, 10, 14)), rng, own)


def test_each_map_of_the_pyramid_has_a_say_in_every_head() -> None:
    rng = np.random.default_rng(2)
    for head in HEADS:
        model = segmenter("swin", head, rng)
        x = rng.standard_normal((2, 3, 10, 14))
        before = model(x).data
        assert len(model.pyramid.laterals) == 2
        for lateral in model.pyramid.laterals:
            assert isinstance(lateral, Linear)
            kept = lateral.weight.data.copy()
            lateral.weight.data[...] *= 2
            assert_far(model(x), before)
            lateral.weight.data[...] = kept
        assert_same(model(x), before)


def test_fine_maps_of_a_pyramid_know_what_coarse_ones_see_and_not_the_reverse() -> None:
    rng = np.random.default_rng(2)
    pyramid = fill(FeaturePyramid((4, 7), 5, rng=rng, dtype=np.float64), rng)
    fine, coarse = rng.standard_normal((2, 5, 6, 4)), rng.standard_normal((2, 3, 3, 7))
    before = pyramid([Tensor(fine), Tensor(coarse)])
    other = pyramid([Tensor(fine), Tensor(coarse[::-1])])
    assert_far(other[0], before[0].data)
    assert_same(pyramid([Tensor(fine[::-1]), Tensor(coarse)])[1], before[1].data)


def test_pyramid_pooling_sets_the_means_of_regions_beside_the_map() -> None:
    rng = np.random.default_rng(14)
    pooling, x = PyramidPooling(8, rng=rng, dtype=np.float64), rng.standard_normal((2, 6, 12, 8))
    pooling.branches = [Without(k) for k in range(4)]
    pooling.fuse = Without(0)
    wanted = [x]
    for k, side in enumerate((1, 2, 3, 6)):
        means = x.reshape(2, side, 6 // side, side, 12 // side, 8).mean(axis=(2, 4))
        wanted.append(ops.resize(Tensor(means[..., k:]), size=(6, 12)).data)
    assert_close(pooling(Tensor(x)), np.concatenate(wanted, axis=-1))


def test_a_batch_split_over_threads_gives_the_logits_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    model, x = segmenter("swin", "uper", rng), rng.standard_normal((5, 3, 10, 14))
    assert_close(data_parallel(model, 2)(x), model(x))


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────


def test_the_loss_is_the_mean_over_the_pixels_that_count() -> None:
    rng = np.random.default_rng(4)
    logits, masks = rng.standard_normal((2, 3, 4, 5)), rng.integers(0, 5, (2, 3, 4))
    masks[0, 1], masks[1, 2, 3] = 255, 255
    terms = []
    for place in np.ndindex(2, 3, 4):
        if masks[place] != 255:
            p = np.exp(logits[place]) / np.exp(logits[place]).sum()
            terms.append(-np.log(p[masks[place]]))
    assert_close(pixel_cross_entropy(Tensor(logits), masks), np.mean(terms))


def test_ignored_pixels_have_no_gradient_and_no_influence() -> None:
    rng = np.random.default_rng(5)
    logits, masks = rng.standard_normal((2, 3, 4, 5)), rng.integers(0, 5, (2, 3, 4))
    masks[:, 1] = -7
    x = Tensor(logits, requires_grad=True)
    loss = pixel_cross_entropy(x, masks, ignore=-7)
    loss.backward()
    assert not x.grad[:, 1].any()
    assert x.grad[:, [0, 2]].all()
    logits[:, 1] += 3
    assert_close(pixel_cross_entropy(Tensor(logits), masks, ignore=-7), loss)
    assert_derivative(lambda x: pixel_cross_entropy(x, masks, ignore=-7), logits, rng)


@pytest.mark.parametrize(
    ("masks", "kind", "message"),
    [
        (np.zeros((2, 4, 3), int), ValueError, r"masks must be \(2, 3, 4\), a label for each"),
        (np.full((2, 3, 4), 5), ValueError, "hold 0…4, or 255 where a pixel is ignored, got 5"),
        (np.full((2, 3, 4), -1), ValueError, "got -1"),
        (np.zeros((2, 3, 4)), TypeError, "masks must hold integers, got float64"),
        (np.full((2, 3, 4), 255), ValueError, "every pixel has the label 255, which is ignored"),
    ],
)
def test_masks_that_do_not_fit_are_named(masks: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        pixel_cross_entropy(Tensor(np.zeros((2, 3, 4, 5))), masks)


# ── mean IoU ─────────────────────────────────────────────────────────────────────────────────────


def test_mean_iou_by_hand() -> None:
    truth = np.array([[[0, 0, 1], [1, 1, 255]]])
    found = np.array([[[0, 1, 1], [1, 0, 2]]])
    table = confusion(found, truth, 4)
    assert_same(table, [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    mean, iou = mean_iou(table)
    assert_close(iou[:2], [1 / 3, 2 / 4])
    assert np.isnan(iou[2:]).all()  # nowhere: not in the mean
    assert_close(mean, (1 / 3 + 2 / 4) / 2)


@law(seed=seeds, K=st.integers(2, 5))
def test_mean_iou_is_that_of_sets_of_pixels(seed: int, K: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, K, (2, 2, 4, 5))
    truth[0, 0, 0] = 255
    counted = truth != 255
    each = []
    for k in range(K):
        mine, theirs = (found == k) & counted, (truth == k) & counted
        if (mine | theirs).any():
            each.append((mine & theirs).sum() / (mine | theirs).sum())
    assert_close(mean_iou(confusion(found, truth, K))[0], np.mean(each))


@pytest.mark.parametrize("wrong", [3, -1, 255])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_a_class_that_there_is_not_is_an_error_where_it_is_found(wrong: int, dtype: Any) -> None:
    truth, found = np.array([[0, 2], [1, 255]]), np.array([[0, 2], [1, 2]], dtype)
    assert_same(confusion(found, truth, 3), np.eye(3, dtype=int))
    found[1, 1] = np.array(wrong).astype(dtype)  # the truth is ignored there: no matter
    assert_same(confusion(found, truth, 3), np.eye(3, dtype=int))
    for i, j in ((0, 0), (0, 1)):
        called = found.copy()
        called[i, j] = found[1, 1]
        message = f"confusion: predicted must hold 0…2 where a pixel counts, got {found[1, 1]}"
        with pytest.raises(ValueError, match=message):
            confusion(called, truth, 3)
    with pytest.raises(TypeError, match="predicted must hold integers, got float64; use argmax"):
        confusion(found.astype(float), truth, 3)


def test_masks_of_another_size_and_no_pixel_at_all_are_errors() -> None:
    with pytest.raises(ValueError, match=r"masks must be \(2, 3, 4\), .* got \(2, 4, 3\)"):
        confusion(np.zeros((2, 3, 4), int), np.zeros((2, 4, 3), int), 3)
    with pytest.raises(ValueError, match="no pixel was counted"):
        mean_iou(np.zeros((3, 3), np.int64))


# ── batches and training ─────────────────────────────────────────────────────────────────────────


def test_an_image_and_its_mask_are_mirrored_together() -> None:
    images = data.load("shapes", split="train", count=20)
    masks = class_masks(images)
    assert set(np.unique(masks)) == {0, *(images.labels + 1)}
    marked = images.images.copy()
    marked[:, 0] = masks * 20  # the red channel tells the mask
    x, drawn = segmentation_batches(marked, masks, 16)(np.random.default_rng(0))
    low = x[:, 0].min()
    assert_close((x[:, 0] - low) / (x[:, 0].max() - low), drawn / drawn.max(), 1e-6)
    firsts = [bool((d == m).all()) for d in drawn for m in masks]
    mirrored = [bool((d == m[:, ::-1]).all()) for d in drawn for m in masks]
    assert sum(firsts) > 0
    assert sum(mirrored) > 0
    assert sum(firsts) + sum(mirrored) == 16
    with pytest.raises(ValueError, match=r"masks must be .* to go with the images"):
        segmentation_batches(marked, masks[:, 1:], 16)


def problem(rng: np.random.Generator) -> tuple[Any, Any]:
    model = Segmenter(backbone("swin", rng), 3, width=8, rng=rng, dtype=np.float64)

    def batch(rng: np.random.Generator) -> tuple[Any, Any]:
        masks = rng.permutation(3)[:, None, None] + np.zeros((1, 10, 14), int)  # one each
        return rng.standard_normal((3, 3, 10, 14)) + 3 * (masks[:, None] - 1), masks

    return model, batch


def test_fit_lowers_the_loss_and_repeats_itself() -> None:
    runs = []
    for _ in range(2):
        rng = np.random.default_rng(6)
        model, batch = problem(rng)
        losses = fit(model.eval(), batch, pixel_cross_entropy, steps=16, lr=1e-2, rng=rng)
        assert model.training
        runs.append(losses)
    assert runs[0] == runs[1]
    assert np.mean(runs[0][-5:]) < np.mean(runs[0][:5]) - 0.2


def test_fit_clips_the_gradient_and_lets_the_weights_decay() -> None:
    """A gradient of almost no length moves nothing: what is left is the decay of the weights."""
    rng = np.random.default_rng(13)
    model, batch = problem(rng)
    before = model.classifier.weight.data.copy()
    own = {"steps": 1, "lr": 0.5, "clip": 1e-14, "weight_decay": 0.3, "rng": rng}
    fit(model, batch, pixel_cross_entropy, **own)
    assert_close(model.classifier.weight.data, before * (1 - 0.01 * 0.3), 1e-7)  # lr/50 at first


def test_each_step_of_fit_has_the_gradient_of_its_own_batch() -> None:
    rng = np.random.default_rng(15)
    model, batch = problem(rng)
    x, masks = batch(rng)
    own = {"steps": 3, "lr": 1e-13, "clip": 1e9, "rng": rng}
    fit(model, lambda rng: (x, masks), pixel_cross_entropy, **own)
    last = model.classifier.weight.grad.copy()
    model.zero_grad()
    pixel_cross_entropy(model(x), masks).backward()
    assert_close(last, model.classifier.weight.grad, 1e-9)


def test_fit_ends_when_the_time_is_over() -> None:
    rng = np.random.default_rng(7)
    model, batch = problem(rng)
    losses = fit(model, batch, pixel_cross_entropy, steps=10**6, minutes=1e-3, rng=rng)
    assert 1 <= len(losses) < 1000


def test_the_rate_rises_from_a_fiftieth_and_falls_to_nothing() -> None:
    rates = [_learning_rate(done, 0.5) for done in (0, 0.05, 0.525, 1)]
    assert_close(rates, [0.01, 0.5, 0.25, 0])


def test_fit_refuses_no_time_and_stops_when_the_loss_is_no_number() -> None:
    rng = np.random.default_rng(8)
    model, batch = problem(rng)
    with pytest.raises(ValueError, match="steps and minutes must be above 0, got 0 and None"):
        fit(model, batch, pixel_cross_entropy, steps=0, rng=rng)
    with pytest.raises(ValueError, match="got 1 and 0"):
        fit(model, batch, pixel_cross_entropy, steps=1, minutes=0, rng=rng)
    before = {name: a.copy() for name, a in model.state_dict().items()}
    with pytest.raises(Diverged, match="in step 1 the loss became nan"):
        fit(model, batch, lambda y, t: ops.sum(y) * float("nan"), steps=3, rng=rng)
    for name, array in model.state_dict().items():
        assert_same(array, before[name])


def test_segment_takes_the_likeliest_class_whatever_the_batch() -> None:
    rng = np.random.default_rng(9)
    model, x = segmenter("resnet", "fpn", rng), rng.standard_normal((5, 3, 10, 14))
    model.classifier.weight.data -= model.classifier.weight.data.mean()
    assert model.classifier.bias is not None
    model.classifier.bias.data[...] = 0
    whole = segment(model, x)
    assert set(np.unique(whole)) == {0, 1, 2}
    assert_same(whole, model.eval()(x).data.argmax(-1))
    model.train()
    assert_same(segment(model, x, batch=2), whole)
    assert model.training
