"""Arrays that follow from the model, as indices and masks, are checked, left out and made again."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from named_models import model
from weight_files import same

from minswin.models import create_model
from minswin.weights import load, rename
from minswin.weights.families import FAMILIES
from minswin.weights.families.swin_buffers import check
from minswin.weights.recognise import fitting, recognise, settings_of


def test_the_originals_buffers_are_as_many_as_published():
    """190 entries of Swin-T: 173 parameters, 12 indices, 5 masks."""
    blank = create_model("swin_tiny", rng=np.random.default_rng(0)).state_dict()
    state = rename(blank, "minswin", "microsoft")  # its geometry is known by its name
    _, buffers = FAMILIES["swin"].split(state)
    assert len(state) == 190 and len(buffers) == 17
    masks = {n: a.shape for n, a in buffers.items() if n.endswith("attn_mask")}
    assert masks == {
        "layers.0.blocks.1.attn_mask": (64, 49, 49),
        "layers.1.blocks.1.attn_mask": (16, 49, 49),
        **{f"layers.2.blocks.{j}.attn_mask": (4, 49, 49) for j in (1, 3, 5)},
    }
    assert len(rename(blank, "minswin", "torchvision")) == 185
    assert len(rename(blank, "minswin", "transformers")) == 233
    assert len(rename(blank, "minswin", "timm")) == 173
    known = recognise(state)
    assert fitting(known) == ["swin_tiny"]
    assert settings_of(known)["img_size"] == (224, 224)


@pytest.mark.parametrize(
    ("family", "name", "said"),
    [
        ("swin", "layers.0.blocks.1.attn.relative_position_index", "tokens 2 and 3"),
        ("swin", "layers.1.blocks.0.attn.relative_position_index", "tokens 2 and 3"),
        ("swin", "layers.0.blocks.1.attn_mask", "not the mask"),
        ("swinv2", "layers.2.blocks.1.attn.relative_coords_table", "log-spaced"),
        ("swinv2", "layers.2.blocks.0.attn.relative_position_index", "tokens 2 and 3"),
    ],
)
def test_a_buffer_that_differs_is_refused(family, name, said):
    made = model(family)
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    file[name] = file[name].copy()
    at = (0, 2, 3) if file[name].ndim == 3 else (0, 2, 3, 0) if file[name].ndim == 4 else (2, 3)
    file[name][at] += 1
    for use in (lambda: rename(file, "microsoft", "timm"), lambda: load(made, file)):
        with pytest.raises(ValueError, match=said) as error:
            use()
        assert name in str(error.value)


def test_an_index_of_keys_minus_queries_is_refused():
    made = model("swin")
    file = rename(made.state_dict(), "minswin", "torchvision", model=made)
    name = "features.1.0.attn.relative_position_index"
    file[name] = np.ascontiguousarray(file[name].reshape(16, 16).T).reshape(-1)
    with pytest.raises(
        ValueError, match=r"tokens 0 and 1 have the bias in row 23; the file has 25"
    ):
        rename(file, "torchvision", "minswin")


@pytest.mark.parametrize("window", [(2, 4), (4, 2)])
def test_the_buffers_of_windows_that_are_not_square_are_made_and_read(window):
    made = model("swin", window_size=window, img_size=(32, 48), depths=(2, 2, 2))
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    assert same(rename(file, "microsoft", "minswin"), made.state_dict())
    assert same(rename(file, "microsoft", "microsoft", model=made), file)
    own = settings_of(recognise(file))
    assert own["window_size"] == window and own["img_size"] == (32, 48)


def test_the_window_of_the_pre_training_is_read_from_the_coordinates():
    made = model("swinv2", pretrained_window_sizes=(3, 6, 0))
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    own = settings_of(recognise(file))
    assert own["pretrained_window_sizes"] == (3, 6, 0) and own["window_size"] == (4, 4)
    assert same(rename(file, "microsoft", "microsoft"), file)  # the file itself tells all


@pytest.mark.parametrize(("other", "ape"), [("torchvision", False), ("microsoft", True)])
def test_an_index_is_not_guessed_for_a_table_of_no_square_window(other, ape):
    made = model("swin", window_size=(2, 4), ape=ape)
    with pytest.raises(ValueError, match=r"the window that.*model="):
        rename(made.state_dict(), "minswin", other)
    file = rename(made.state_dict(), "minswin", other, model=made)
    assert same(rename(file, other, "minswin"), made.state_dict())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("attn.relative_position_index", (700, 1)), ("attn_mask", (1, 700, 1))],
)
def test_a_thin_buffer_is_refused_before_a_square_one_is_made(name, shape):
    buffers = {f"layers.0.blocks.1.{name}": np.zeros(shape, np.int8)}
    with pytest.raises(ValueError, match="is not the"):
        check(buffers, {})  # imports what the first call imports
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is not the"):
            check(buffers, {})
        assert tracemalloc.get_traced_memory()[1] < 700 * 700
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("last", [3e38, 350.0])
def test_coordinates_beyond_all_windows_are_refused(last):
    made = model("swinv2")
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    name = "layers.0.blocks.0.attn.relative_coords_table"
    file[name] = file[name].copy()
    file[name][0, -1, 0, 0] = last
    with pytest.raises(ValueError, match="log-spaced"):
        rename(file, "microsoft", "minswin")


def test_masks_need_a_model_where_nothing_tells_the_size_of_the_image():
    made = model("swin")
    with pytest.raises(ValueError, match=r"size of the image.*model="):
        rename(made.state_dict(), "minswin", "microsoft")


def test_an_index_is_written_for_patches_that_may_be_overlapping() -> None:
    state = create_model("swin_shapes", rng=0, stem="overlapping").state_dict()
    theirs = rename(state, "minswin", "torchvision")
    assert len(theirs["features.1.0.attn.relative_position_index"]) == 4**4
    assert same(rename(theirs, "torchvision", "minswin"), state)


# ── maps that are no square ──────────────────────────────────────────────────────────────────────


def test_the_image_of_positions_that_make_no_square_is_not_guessed():
    made = model("swin", img_size=(32, 48), depths=(2, 2, 2), ape=True)
    own = settings_of(recognise(made.state_dict()))
    assert own["img_size"] == "one of 384 patches, which are no square"
    with pytest.raises(ValueError, match="do not tell the size of the image that their masks"):
        rename(made.state_dict(), "minswin", "microsoft")
    file = rename(made.state_dict(), "minswin", "microsoft", model=made)
    assert settings_of(recognise(file))["img_size"] == (32, 48)


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_nor_that_of_a_vit(family):
    own = settings_of(recognise(model(family).state_dict()))
    assert own["img_size"] == "one of 10 patches, which are no square"
