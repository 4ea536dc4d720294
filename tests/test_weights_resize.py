"""Position tables and embeddings for other sizes, and heads for other classes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin.models import SwinTransformer, create_model
from minswin.training.checkpoints import Checkpoint, save_checkpoint
from minswin.weights import rename, save_weights
from minswin.weights.load import load
from minswin.weights.resize import (
    antialias_matrix,
    bicubic_matrix,
    choose_rows,
    cubic,
    geometric_matrix,
    read_rows,
    resize_positions,
    resize_table,
)

sides = st.integers(1, 15)
ALL = (bicubic_matrix, antialias_matrix)


# ── matrices ─────────────────────────────────────────────────────────────────────────────────────


def test_the_four_weights_of_a_quarter_are_as_computed_by_hand():
    """At 1/4 past a sample; a = −0.75: −27/256, 225/256, 67/256, −9/256."""
    distances = np.array([1.25, 0.25, 0.75, 1.75])
    assert np.allclose(256 * cubic(distances, -0.75), [-27, 225, 67, -9], rtol=0, atol=1e-12)
    assert np.allclose(256 * cubic(distances, -0.5), [-18, 222, 58, -6], rtol=0, atol=1e-12)
    row = 256 * bicubic_matrix(5, 10)[4]  # of the place 1.75: three quarters past sample 1
    assert np.allclose(row, [-9, 67, 225, -27, 0], rtol=0, atol=1e-10)
    first = 256 * bicubic_matrix(5, 10)[0]  # of the place −0.25: what lies outside is sample 0
    assert np.allclose(first, [-9 + 67 + 225, -27, 0, 0, 0][:5], rtol=0, atol=1e-10)


@given(old=sides, new=sides, kind=st.sampled_from(ALL))
def test_an_even_map_stays_even_and_a_mirrored_one_mirrored(old, new, kind):
    matrix = kind(old, new)
    assert matrix.shape == (new, old)
    assert np.allclose(matrix.sum(1), 1, rtol=0, atol=1e-12)
    assert np.allclose(matrix[::-1, ::-1], matrix, rtol=0, atol=1e-12)
    if old == new:
        assert np.allclose(matrix, np.eye(old), rtol=0, atol=1e-15)


@given(half=st.integers(1, 12), far=st.integers(1, 24))
def test_geometric_keeps_the_middle_and_the_ends(half, far):
    matrix = geometric_matrix(2 * half + 1, 2 * far + 1)
    assert np.allclose(matrix.sum(1), 1, rtol=0, atol=1e-12) and (matrix >= 0).all()
    assert np.allclose(matrix[::-1, ::-1], matrix, rtol=0, atol=1e-9)
    assert matrix[far, half] == 1
    if 1.02**half * half < far < half * 1.4:  # between the least and the largest ratio
        assert matrix[0, 0] > 0.99


def test_geometric_spaces_known_displacements_in_a_progression():
    """From 3 displacements each way to 7: 1, 1 + q, 1 + q + q² = 7 has q = 2, beyond 1.5."""
    matrix = geometric_matrix(7, 9)  # 1 + q + q² = 4: q = (√13 − 1)/2 = 1.30278
    q = (13**0.5 - 1) / 2
    known = [0, 1, 1 + q, 4]
    for wanted in range(5):
        expected = np.interp(wanted, known, [0, 1, 2, 3])
        assert matrix[4 + wanted] @ np.arange(-3, 4) == pytest.approx(expected, abs=1e-5)


def test_antialias_is_pillows_bicubic():
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(1)
    for old, new in (((13, 9), (6, 14)), ((5, 20), (7, 3))):
        x = rng.standard_normal((*old, 1)).astype(np.float32)
        picture = Image.fromarray(x[..., 0])
        theirs = np.asarray(picture.resize(new[::-1], Image.Resampling.BICUBIC))
        flat = x.reshape(1, -1, 1)
        ours = resize_positions(flat, new, rule="timm", old=old)
        assert np.allclose(ours.reshape(new), theirs, rtol=0, atol=2e-6)


# ── arrays ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rule", ["original", "timm"])
def test_each_head_and_each_axis_is_resized_by_itself(rule):
    rng = np.random.default_rng(2)
    table = rng.standard_normal((5 * 9 + 3, 2))  # of a 3×5 window, and three rows more
    out = resize_table(table, (4, 6), rule=rule, old=(3, 5), extra=3)
    assert out.shape == (7 * 11 + 3, 2) and np.array_equal(out[-3:], table[-3:])
    one = resize_table(table[:, 1:], (4, 6), rule=rule, old=(3, 5), extra=3)
    assert np.allclose(out[:, 1:], one, rtol=0, atol=1e-14)  # sums in another order
    flipped = table.copy()
    flipped[:45] = table[:45].reshape(5, 9, 2)[:, ::-1].reshape(45, 2)
    mirrored = resize_table(flipped, (4, 6), rule=rule, old=(3, 5), extra=3)[:77].reshape(7, 11, 2)
    assert np.allclose(mirrored[:, ::-1], out[:77].reshape(7, 11, 2), rtol=0, atol=1e-9)
    assert np.array_equal(resize_table(table, (3, 5), rule=rule, old=(3, 5), extra=3), table)


def test_what_is_no_square_needs_its_shape():
    with pytest.raises(ValueError, match=r"45 rows do not make 6×6.*old="):
        resize_table(np.zeros((45, 2)), (4, 4), rule="timm")
    with pytest.raises(ValueError, match="10 patches do not make 3×3"):
        resize_positions(np.zeros((1, 11, 2)), (4, 4), rule="timm", extra=1)
    with pytest.raises(ValueError, match="one of original, timm"):
        resize_table(np.zeros((49, 2)), (4, 4), rule="cubic")


# ── loading ──────────────────────────────────────────────────────────────────────────────────────

SWIN = {"img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 6, "depths": (2, 1)}
SWIN |= {"num_heads": (1, 3), "num_classes": 5, "ape": True}
LARGER = {**SWIN, "img_size": 24, "window_size": 6}
VIT = {"img_size": 12, "patch_size": 4, "embed_dim": 6, "depth": 2, "num_heads": 2}
VIT |= {"num_classes": 5}


def built(name, settings, seed=0):
    return create_model(name, rng=np.random.default_rng(seed), **settings)


@pytest.mark.parametrize("rule", ["original", "timm"])
def test_a_swin_for_larger_windows_gets_resized_tables_and_positions(rule):
    state, lines = built("swin_cifar", SWIN).state_dict(), []
    with pytest.raises(ValueError, match=r"wrong shape.*resize='original' or 'timm'"):
        load("swin_cifar", state, **LARGER)
    own = load("swin_cifar", state, resize=rule, tell=lines.append, **LARGER).state_dict()
    for name in own:
        expected = state[name]
        if name.endswith("bias_table"):
            expected = resize_table(expected, (6, 6), rule=rule)
        elif name == "absolute_pos_embed":
            expected = resize_positions(expected, (12, 12), rule=rule)
        assert np.array_equal(own[name], expected), name
    assert len(lines) == 4 and f"(49, 1) became (121, 1), as {rule} does" in "".join(lines)


@pytest.mark.parametrize("name", ["vit_cifar", "deit_cifar_distilled"])
@pytest.mark.parametrize("positions", ["learned", "relative"])
def test_a_vit_for_other_images_keeps_its_tokens_without_a_place(name, positions):
    settings = {**VIT, "positions": positions}
    state = built(name, settings).state_dict()
    larger = {**settings, "img_size": (20, 16)}
    own = load(name, state, resize="timm", **larger).state_dict()
    front = 2 if "deit" in name else 1
    for key in own:
        expected = state[key]
        if key == "pos_embed":
            expected = resize_positions(expected, (5, 4), rule="timm", extra=front)
            assert np.array_equal(own[key][:, :front], state[key][:, :front])
        elif key.endswith("bias_table"):
            expected = resize_table(expected, (5, 4), rule="timm", extra=3)
        assert np.array_equal(own[key], expected), key


def test_a_fresh_head_is_said_and_all_else_is_the_files():
    state, lines = built("swin_cifar", SWIN).state_dict(), []
    other = {**SWIN, "num_classes": 3}
    with pytest.raises(ValueError, match=r"wrong shape.*head='fresh'"):
        load("swin_cifar", state, **other)
    fresh = built("swin_cifar", other, seed=9)
    head = fresh.head.weight.data.copy()
    own = load(fresh, state, head="fresh", tell=lines.append).state_dict()
    assert lines == ["head: fresh random weights for 3 classes"]
    assert np.array_equal(own["head.weight"], head)
    assert all(np.array_equal(own[n], state[n]) for n in own if not n.startswith("head."))


def test_rows_of_a_head_are_chosen_by_a_file(tmp_path):
    state = built("deit_cifar_distilled", VIT).state_dict()
    (tmp_path / "rows.txt").write_text("4\n0\n2\n")
    settings = {**VIT, "num_classes": 3}
    for rows in (tmp_path / "rows.txt", str(tmp_path / "rows.txt"), [4, 0, 2]):
        own = load("deit_cifar_distilled", state, head=rows, **settings).state_dict()
        for name in ("head.weight", "head_dist.weight", "head.bias"):
            assert np.array_equal(own[name], state[name][[4, 0, 2]])
    (tmp_path / "rows.txt").write_text("4 0 two")
    with pytest.raises(ValueError, match="'two' where a row number"):
        read_rows(tmp_path / "rows.txt")
    with pytest.raises(ValueError, match=r"rows 0…4, got 1…5"):
        choose_rows(np.zeros((5, 2)), [1, 5])
    with pytest.raises(ValueError, match="whole number for each class"):
        choose_rows(np.zeros((5, 2)), [0.5])
    with pytest.raises(ValueError, match=r"head must be .* no file fersh"):
        load("deit_cifar_distilled", state, head="fersh", **settings)
    with pytest.raises(ValueError, match="whole number for each class"):
        load("deit_cifar_distilled", state, head=3, **settings)


def test_the_only_displacement_of_a_window_of_one_goes_to_all_of_a_larger_one() -> None:
    assert np.array_equal(geometric_matrix(1, 5), np.ones((5, 1)))


def test_the_progression_grows_by_half_at_most() -> None:
    """5 displacements become 21: 1 + q = 10 would need q = 9, it is 1.5; −2.5, −1, 0, 1, 2.5."""
    matrix = geometric_matrix(5, 21)
    assert np.allclose(matrix[10 + 2], [0, 0, 0, 1 / 3, 2 / 3], atol=1e-5)
    assert np.allclose(matrix[10 + 9], [0, 0, 0, 0, 1])


# ── what is of no square ─────────────────────────────────────────────────────────────────────────

WIDE = {**SWIN, "img_size": (16, 32), "window_size": (2, 4)}


def files_of(made, tmp_path):
    """The weights of a model, as others save them and as `minswin train` does."""
    other = "microsoft" if isinstance(made, SwinTransformer) else "timm"
    theirs = rename(made.state_dict(), "minswin", other, model=made)
    save_weights(tmp_path / "theirs.pth", theirs)
    told = {"model": {"name": made.name, "settings": made.settings}}
    save_checkpoint(tmp_path / "run.safetensors", Checkpoint(told, made.state_dict()))
    return tmp_path / "theirs.pth", tmp_path / "run.safetensors"


@pytest.mark.parametrize("rule", ["original", "timm"])
@pytest.mark.parametrize("window", [(4, 4), (4, 2), (2, 8), (3, 4)])
def test_tables_of_a_window_that_is_no_square_are_resized_as_what_they_are(rule, window, tmp_path):
    """(4, 2) has as many rows as (2, 4), which is the window of the file."""
    made = built("swin_cifar", WIDE)
    state = made.state_dict()
    other = {**WIDE, "window_size": window, "img_size": (24, 32), "num_classes": 3}
    for file in files_of(made, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = load("swin_cifar", file, head="fresh", resize=rule, **other)
        own, tables = model.state_dict(), 0
        for name in own:
            expected = state[name]
            if name.endswith("bias_table"):
                tables += 1
                expected = resize_table(expected, window, rule=rule, old=(2, 4))
            elif name == "absolute_pos_embed":
                expected = resize_positions(expected, (12, 16), rule=rule, old=(8, 16))
            assert name.startswith("head.") or np.array_equal(own[name], expected), (file, name)
        assert tables == 3


@pytest.mark.parametrize("positions", ["learned", "relative"])
def test_positions_of_a_run_on_images_that_are_no_squares_are_resized(positions, tmp_path):
    made = built("vit_cifar", {**VIT, "positions": positions, "img_size": (8, 20)})
    _, file = files_of(made, tmp_path)
    larger = {**VIT, "positions": positions, "img_size": (20, 16)}
    own = load("vit_cifar", file, resize="timm", **larger).state_dict()
    for name, x in made.state_dict().items():
        if name == "pos_embed":
            x = resize_positions(x, (5, 4), rule="timm", old=(2, 5), extra=1)
        elif name.endswith("bias_table"):
            x = resize_table(x, (5, 4), rule="timm", old=(2, 5), extra=3)
        assert np.array_equal(own[name], x), name


def test_what_is_of_no_square_and_not_told_is_refused_with_what_it_may_be() -> None:
    made = built("swin_cifar", {**SWIN, "img_size": (16, 32), "window_size": (4, 8), "ape": False})
    with pytest.raises(ValueError) as caught:
        load("swin_cifar", made.state_dict(), resize="original", **{**SWIN, "ape": False})
    assert str(caught.value) == (
        "load: the weights: layers.0.blocks.0.attn.relative_position_bias_table has 105 places, "
        "which are of no square: of 4×8, 8×4 or 3×11, 11×3? The file does not tell; bring it to "
        "the model's size by minswin.weights.resize.resize_table(…, rule='original', old=(rows, "
        "columns)), and give load the arrays"
    )
    positions = built("vit_cifar", {**VIT, "img_size": (8, 20)}).state_dict()
    with pytest.raises(ValueError, match=r"pos_embed has 10 places, .*: of 2×5, 5×2 or 1×10, 10×1"):
        load("vit_cifar", positions, resize="timm", **VIT)


@pytest.mark.parametrize("name", ["swin_shapes", "vit_cifar_small"])
def test_what_has_the_size_of_the_model_is_not_resized(name):
    state, told = create_model(name, rng=1).state_dict(), []
    loaded = load(name, state, resize="original", tell=told.append).state_dict()
    assert told == [] and all(np.array_equal(loaded[n], x) for n, x in state.items())


def test_a_rule_that_there_is_not_is_an_error():
    state = create_model("swin_shapes", rng=1).state_dict()
    with pytest.raises(ValueError, match="load: resize must be one of original, timm, got 'cubic'"):
        load("swin_shapes", state, resize="cubic")
