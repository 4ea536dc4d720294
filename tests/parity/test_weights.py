"""Weights through our tables of names: in another implementation they give the same logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from minswin import create_model, no_grad
from minswin.models import ResNet, SwinTransformer, SwinTransformerV2, VisionTransformer
from minswin.models.blank import BLANK
from minswin.weights.families import FAMILIES
from minswin.weights.load import load
from minswin.weights.recognise import recognise
from minswin.weights.rename import rename
from minswin.weights.resize import resize_positions, resize_table

from . import names as by_hand
from .cases import Case, case_named
from .compare import build, error
from .family import Proof
from .peers import PEERS, load_timm, need, tensor, torch

pytestmark = pytest.mark.parity
TOLERANCE = 1e-12  # of float64 logits

BUFFERS = {name for family in FAMILIES.values() for name in family.buffers}
CHOSEN = (
    ("odd heads, image 48×80", "timm"),
    ("absolute positions, maps 12×8, 6×4, window 4", "transformers"),
    ("patch 2×3, maps 10×14, 5×7, 3×4, window 3: padded", "transformers"),
    ("V2, pretrained windows 3 and 6, window 4, image 32×48", "timm V2"),
    ("V2, pretrained windows 3 and 6, window 4, image 32×48", "transformers V2"),
    ("ViT, patch 4, image 12×20", "timm ViT"),
    ("ViT, relative positions, class token", "timm ViT"),
    ("ViT with pre-logits", "transformers ViT"),
    ("DeiT distilled, patch 4, image 12×20", "timm DeiT"),
    ("DeiT distilled, patch 3×2, mlp ratio 3", "transformers DeiT"),
    ("TNT, patch 6×5, words every 4 pixels, qkv bias", "timm TNT"),
    ("TNT legacy, patch 4×6, words every 2 pixels", "timm TNT"),
    ("ResNet, bottlenecks, image 48×36", "timm ResNet"),
)


def is_buffer(name: str) -> bool:
    return name.rpartition(".")[2] in BUFFERS


def dialect_of(peer: Any) -> str:
    if peer.package == "timm":
        return "timm"
    v2 = peer is PEERS["transformers V2"]
    return "transformers5" if peer._since_5() and not v2 else "transformers"


def put(module: Any, state: dict[str, np.ndarray]) -> None:
    """These arrays and no others into a module; buffers that it computes may be left out."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    arrays = {name: tensor(np.ascontiguousarray(array)) for name, array in state.items()}
    missing, unexpected = module.load_state_dict(arrays, strict=False)
    assert not unexpected
    assert all(is_buffer(name) for name in missing), missing


@pytest.mark.parametrize(("name", "against"), CHOSEN)
def test_renamed_weights_give_the_same_logits_in_both_directions(
    name: str, against: str, proofs: list[Proof]
) -> None:
    case, peer, rng = case_named(name), PEERS[against], np.random.default_rng(11)
    model, images = build(case, rng), case.draw_images(rng)
    module = peer.build(case.settings).double()
    peer.load(module, model.state_dict())  # V2's tables of coordinates become float64
    theirs = rename(model.state_dict(), "minswin", dialect_of(peer), model=model)
    put(module, theirs)
    with no_grad(), torch.no_grad():
        logits, expected = model(images).numpy(), peer.logits(module, tensor(images)).numpy()
    proofs.append(Proof(case.family, "weights out", peer.version(), error(logits, expected)))
    assert error(logits, expected) < TOLERANCE

    state = {name: array.numpy() for name, array in module.state_dict().items()}
    known = recognise(state)
    ours = "torchvision" if case.family is ResNet else dialect_of(peer)
    assert known.dialect == ours and not known.unknown
    other = build(case, np.random.default_rng(12))
    load(other, state)
    with no_grad():
        again = other(images).numpy()
    proofs.append(Proof(case.family, "weights in", peer.version(), error(again, expected)))
    assert np.array_equal(again, logits)


def test_the_weights_of_a_resnet_give_the_same_logits_in_transformers():
    case, rng = case_named("ResNet, bottlenecks, image 48×36"), np.random.default_rng(13)
    model, images = build(case, rng), case.draw_images(rng)
    transformers = need("transformers")
    config = transformers.ResNetConfig(
        depths=list(case.settings["depths"]), num_labels=7, layer_type="bottleneck"
    )
    module = transformers.ResNetForImageClassification(config).double().eval()
    put(module, rename(model.state_dict(), "minswin", "transformers"))
    with no_grad(), torch.no_grad():
        expected = module(tensor(images)).logits.numpy()
        assert error(model(images).numpy(), expected) < TOLERANCE


LAYOUTS = {
    "absolute positions, maps 12×8, 6×4, window 4": by_hand.TRANSFORMERS_FILES,
    "V2, pretrained windows 3 and 6, window 4, image 32×48": by_hand.V2_TRANSFORMERS,
    "ViT with pre-logits": by_hand.VIT_TRANSFORMERS_FILES,
    "DeiT distilled, patch 4, image 12×20": by_hand.distilled(by_hand.VIT_TRANSFORMERS_FILES),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_names_are_those_that_transformers_was_seen_to_read(name):
    """The layouts on the right are loaded into transformers itself by other tests here."""
    model = build(case_named(name), np.random.default_rng(0))
    mine = rename(model.state_dict(), "minswin", "transformers", model=model)
    theirs = by_hand.rename(model.state_dict(), LAYOUTS[name])
    assert {n for n in mine if not is_buffer(n)} == theirs.keys()
    assert all(np.array_equal(mine[n], theirs[n]) for n in theirs)


# ── torchvision ──────────────────────────────────────────────────────────────────────────────────

SMALL = {"embed_dim": 8, "num_heads": (2, 4), "depths": (2, 2), "num_classes": 5}
SMALL |= {"img_size": 64, "patch_size": 4, "window_size": 4}
SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 8, "depth": 2, "num_heads": 2}
SMALL_VIT |= {"mlp_ratio": 2.0, "num_classes": 5}
SMALL_RESNET = {"img_size": 48, "depths": (1, 2, 1, 1), "block": "bottleneck", "num_classes": 5}
TORCHVISION: dict[type, dict[str, Any]] = {
    SwinTransformer: SMALL,
    SwinTransformerV2: SMALL,
    VisionTransformer: SMALL_VIT,
    ResNet: SMALL_RESNET,
}


def of_torchvision(family: type) -> Any:
    """torchvision's model with the settings in TORCHVISION."""
    own, models = TORCHVISION[family], need("torchvision.models")
    if family is VisionTransformer:
        return models.VisionTransformer(
            own["img_size"], own["patch_size"], own["depth"], own["num_heads"], own["embed_dim"],
            int(own["mlp_ratio"] * own["embed_dim"]), num_classes=own["num_classes"],
        )  # fmt: skip
    if family is ResNet:
        return models.ResNet(models.resnet.Bottleneck, own["depths"], own["num_classes"])
    swin = need("torchvision.models.swin_transformer")
    v2 = {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}
    patch, window = [own["patch_size"]] * 2, [own["window_size"]] * 2
    return swin.SwinTransformer(
        patch, own["embed_dim"], list(own["depths"]), list(own["num_heads"]), window,
        num_classes=own["num_classes"], **(v2 if family is SwinTransformerV2 else {}),
    )  # fmt: skip


def put_coordinates_in_float64(module: Any) -> None:
    """Its tables of coordinates are computed in float32, whatever the model is of."""
    arange = torch.arange

    def in_float64(*bounds: Any, **settings: Any) -> Any:
        return arange(*bounds, **{**settings, "dtype": torch.float64})

    with patch.object(torch, "arange", in_float64):
        for layer in module.modules():
            if hasattr(layer, "relative_coords_table"):
                layer.define_relative_position_bias_table()


@pytest.mark.parametrize("family", TORCHVISION)
def test_weights_go_to_torchvision_and_back_with_the_same_logits(
    family: Any, proofs: list[Proof]
) -> None:
    rng, settings = np.random.default_rng(7), TORCHVISION[family]
    case = Case(f"{family.__name__} of torchvision", settings, family=family)
    model, images = build(case, rng), case.draw_images(rng)
    module = of_torchvision(family).double().eval()
    file = rename(model.state_dict(), "minswin", "torchvision", model=model)
    assert {n: a.shape for n, a in file.items()} == {
        n: tuple(a.shape) for n, a in module.state_dict().items()
    }
    put(module, file)
    with no_grad(), torch.no_grad():
        logits, rounded = model(images).numpy(), module(tensor(images)).numpy()
        put_coordinates_in_float64(module)
        expected = module(tensor(images)).numpy()
    against = f"torchvision {need('torchvision').__version__}"
    proofs.append(Proof(family, "weights out", against, error(logits, expected)))
    assert error(logits, expected) < TOLERANCE
    if family is SwinTransformerV2:  # what its float32 tables cost: far more than our rounding
        assert 100 * TOLERANCE < error(rounded, expected) < 1e-7

    other = build(case, np.random.default_rng(8))
    load(other, {name: array.numpy() for name, array in module.state_dict().items()})
    with no_grad():
        again = other(images).numpy()
    proofs.append(Proof(family, "weights in", against, error(again, expected)))
    assert np.array_equal(again, logits)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("swin_tiny", "swin_t"),
        ("swinv2_tiny_window8_256", "swin_v2_t"),
        ("vit_base", "vit_b_16"),
        ("resnet50", "resnet50"),
    ],
)
def test_the_names_and_shapes_are_those_of_torchvision(name: str, theirs: str) -> None:
    models = need("torchvision.models")
    with torch.device("meta"):
        module = getattr(models, theirs)()
    model = create_model(name, rng=BLANK)
    ours = rename(model.state_dict(), "minswin", "torchvision", model=model)
    assert {n: array.shape for n, array in ours.items()} == {
        n: tuple(array.shape) for n, array in module.state_dict().items()
    }


# ── buffers ──────────────────────────────────────────────────────────────────────────────────────


def test_the_coordinates_that_we_write_are_those_of_timm():
    case = case_named("V2, pretrained windows 3 and 6, window 4, image 32×48")
    model = build(case, np.random.default_rng(0))
    file = rename(model.state_dict(), "minswin", "microsoft", model=model)
    theirs = dict(PEERS["timm V2"].build(case.settings).named_buffers())
    kinds = ("relative_coords_table", "relative_position_index", "attn_mask")
    seen = set()
    for name, array in file.items():
        if is_buffer(name):
            buffer = next(b for n, b in theirs.items() if n.endswith(name)).numpy()
            assert np.allclose(array.reshape(buffer.shape), buffer, rtol=0, atol=2e-7), name
            seen.add(name.rpartition(".")[2])
    assert seen == {*kinds}


# ── other sizes ──────────────────────────────────────────────────────────────────────────────────


def timm_warns(test: Any) -> Any:
    """Lets timm's interpolation warn of what torch will not allow for ever."""
    for said in ("torch.searchsorted", "Using a non-tuple sequence"):
        test = pytest.mark.filterwarnings(f"ignore:{said}")(test)
    return test


SIZES = [(13, 23), (23, 13), (5, 7), (7, 6), (14, 24), (2, 9)]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_positions_are_resized_as_torch_interpolates(antialias, old, new):
    rng = np.random.default_rng(old)
    x = rng.standard_normal((1, 2 + old * (old + 1), 3))
    rule = "timm" if antialias else "original"
    grid = (new, new + 2)
    ours = resize_positions(x, grid, rule=rule, old=(old, old + 1), extra=2)
    places = tensor(x[:, 2:].reshape(1, old, old + 1, 3)).permute(0, 3, 1, 2)
    resize = torch.nn.functional.interpolate
    theirs = resize(places, grid, mode="bicubic", align_corners=False, antialias=antialias)
    expected = theirs.permute(0, 2, 3, 1).reshape(1, -1, 3).numpy()
    assert np.array_equal(ours[:, :2], x[:, :2])
    assert error(ours[:, 2:], expected) < 1e-12


@contextmanager
def in_float64() -> Iterator[None]:
    """timm resizes in float32, whatever the weights are of; here in float64, to see more."""
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@timm_warns
@pytest.mark.parametrize(("old", "new"), [((7, 7), (12, 12)), ((12, 12), (7, 7)), ((4, 4), (5, 7))])
def test_tables_are_resized_as_by_timm(old, new):
    load_timm()
    from timm.layers import resize_rel_pos_bias_table  # type: ignore[import-not-found]

    rows, wanted = ((2 * w[0] - 1) * (2 * w[1] - 1) for w in (old, new))
    table = np.random.default_rng(5).standard_normal((rows, 3))
    with in_float64():
        theirs = resize_rel_pos_bias_table(tensor(table), new, (wanted, 3)).numpy()
    assert error(resize_table(table, new, rule="timm"), theirs) < 1e-12


@pytest.mark.parametrize(("old", "new"), [((7, 7), (12, 12)), ((12, 12), (7, 7)), ((4, 4), (5, 7))])
def test_tables_are_resized_as_by_the_original(old, new):
    side, size = 2 * old[0] - 1, (2 * new[0] - 1, 2 * new[1] - 1)
    table = np.random.default_rng(5).standard_normal((side * side, 3))
    places = tensor(table).permute(1, 0).reshape(1, 3, side, side)
    theirs = torch.nn.functional.interpolate(places, size=size, mode="bicubic")
    ours = resize_table(table, new, rule="original")
    assert error(ours, theirs.reshape(3, -1).permute(1, 0).numpy()) < 1e-12


FILTERS = {"timm": "swin_transformer", "timm ViT": "vision_transformer"}


@timm_warns
@pytest.mark.parametrize(
    ("start", "against", "change"),
    [
        ("window 7, no qkv bias, mlp ratio 2", "timm", {"img_size": 20, "window_size": 5}),
        ("window 7, no qkv bias, mlp ratio 2", "timm", {"img_size": 44, "window_size": 11}),
        ("ViT, patch 2×3, no qkv bias, mlp ratio 2", "timm ViT", {"img_size": (6, 21)}),
    ],
)
def test_a_model_for_another_size_equals_the_one_that_timm_makes_of_the_same_file(
    start: str, against: str, change: dict[str, Any]
) -> None:
    small, rng, peer = case_named(start), np.random.default_rng(6), PEERS[against]
    if against == "timm ViT":  # of 4×4 patches: timm takes it that they were a square
        small = Case("square", {**small.settings, "img_size": (8, 12)}, family=small.family)
    large = Case("another size", {**small.settings, **change}, family=small.family)
    file = rename(build(small, rng).state_dict(), "minswin", "timm")
    module = peer.build(large.settings).double()
    convert = need(f"timm.models.{FILTERS[against]}").checkpoint_filter_fn
    with in_float64():
        fitted = convert({name: tensor(array) for name, array in file.items()}, module)
    module.load_state_dict(fitted)
    model = load(build(large, rng), file, resize="timm")
    images = large.draw_images(rng)
    with no_grad(), torch.no_grad():
        expected = module(tensor(images)).numpy()
        assert error(model(images).numpy(), expected) < TOLERANCE
