"""Segmentation: shapes, derivatives, the loss of pixels, mean IoU, and what a trained one says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense_cases import SWIN, TINY, backbone
from drawn import fill, law
from hypothesis import strategies as st

from minswin import create_model, data, data_parallel, ops
from minswin.autograd import Tensor
from minswin.dense import (
    Backbone,
    Segmenter,
    class_masks,
    confusion,
    mean_iou,
    pixel_cross_entropy,
    segment,
    segmentation_batches,
    small_backbone,
)
from minswin.dense.layers import FeaturePyramid, PyramidPooling
from minswin.dense.segmentation import HEADS
from minswin.layers import Layer, Linear
from minswin.models import ResNet, SwinTransformer
from minswin.testing.claims import assert_close, assert_derivative, assert_far, assert_same
from minswin.testing.strategies import seeds


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


# ── pictures in and out ──────────────────────────────────────────────────────────────────────────


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
