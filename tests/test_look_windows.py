"""Windows and masks on the image are those of the model, found here by looking token by token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin.look import masks, windows
from minswin.reference.shape import roll
from minswin.reference.windows import attention_mask, window_partition


@st.composite
def geometries(draw):
    """Grids of several windows, on both axes of other sizes."""
    window = draw(st.integers(2, 4)), draw(st.integers(2, 4))
    grid = window[0] * draw(st.integers(2, 3)), window[1] * draw(st.integers(2, 4))
    return grid, window, (window[0] // 2, window[1] // 2)


@given(geometries())
def test_slots_say_where_the_model_puts_every_token(geometry):
    grid, window, shift = geometry
    tokens = np.arange(grid[0] * grid[1]).reshape(1, *grid, 1)
    rolled, _ = roll(tokens, shift=(-shift[0], -shift[1]))
    in_windows = window_partition(rolled, window=window)[0].ravel()  # windows · N
    assert np.array_equal(in_windows[windows.slots(*geometry)], tokens[0, :, :, 0])


def neighbours(grid, window, shift, a, b):
    """Whether two tokens share a window of the image, as a person would cut it: no roll."""
    row = [(t[0] + window[0] - shift[0]) // window[0] for t in (a, b)]
    column = [(t[1] + window[1] - shift[1]) // window[1] for t in (a, b)]
    return row[0] == row[1] and column[0] == column[1]


@given(geometries(), st.data())
def test_a_token_may_look_at_those_that_share_its_piece_of_the_image(geometry, data):
    grid = geometry[0]
    token = data.draw(st.integers(0, grid[0] - 1)), data.draw(st.integers(0, grid[1] - 1))
    want = [[neighbours(*geometry, token, (r, c)) for c in range(grid[1])] for r in range(grid[0])]
    assert np.array_equal(masks.visible(*geometry, token), want)


def test_without_a_shift_a_token_may_look_at_its_whole_window():
    sees = masks.visible((6, 8), (3, 2), (0, 0), (4, 5))
    assert np.array_equal(np.argwhere(sees), [(r, c) for r in (3, 4, 5) for c in (4, 5)])


@given(geometries())
def test_there_are_four_masks_and_every_window_has_one(geometry):
    found = masks.distinct_masks(*geometry)
    assert len(found) == 4
    of = {number: mask.added for mask in found for number in mask.windows}
    every = attention_mask(*geometry)
    assert sorted(of) == list(range(len(every)))
    assert all(np.array_equal(of[number], every[number]) for number in of)


def test_the_image_is_rolled_by_as_many_pixels_as_its_tokens_cover():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 24)).astype(np.uint8)
    moved = windows.rolled_image(pixels, (6, 8), (2, 1))
    assert np.array_equal(moved, np.roll(pixels, (-4, -3), axis=(1, 2)))


def test_cut_is_undone_by_put_back():
    x = np.random.default_rng(1).standard_normal((1, 6, 8, 5))
    again = windows.put_back(windows.cut(x, (3, 2), (1, 1)), (3, 2), (1, 1), (6, 8))
    assert np.array_equal(again, x)


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────


def drawn(function, *arguments):
    """The arrays of all images in the axes after drawing, and the title."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert function(axes, *arguments) is axes
    return [np.asarray(image.get_array()) for image in axes.images], axes.get_title()


def test_the_picture_of_a_mask_is_blue_where_a_query_may_look():
    mask = masks.distinct_masks((6, 8), (3, 2), (1, 1))[-1]
    (picture,), title = drawn(masks.draw_mask, mask, (3, 2))
    assert np.array_equal(picture[..., 2] > picture[..., 0], mask.added == 0)
    assert title == "1 window: 7"


STEPS = (0, 1), (1, 0), (1, 1), (1, -1)  # to half of the neighbours of a place; the others mirror


@pytest.mark.parametrize(
    ("grid", "window"),
    [((16, 16), (4, 4)), ((40, 40), (4, 4)), ((6, 10), (2, 2)), ((6, 8), (3, 2)), ((4, 6), (4, 2))],
    ids=["16 windows", "100 windows", "3 rows and 5 columns", "8 windows", "1 row"],
)
@pytest.mark.parametrize("shifted", [False, True])
def test_pieces_of_one_window_have_one_colour_and_windows_that_touch_differ(grid, window, shifted):
    shift = tuple(M // 2 * shifted * (M < side) for side, M in zip(grid, window, strict=True))
    pixels = np.zeros((3, *grid), np.uint8)
    (_, colours), title = drawn(windows.draw_windows, pixels, grid, window, shift)
    number = windows.window_of(grid, window, shift)
    for n in range(number.max() + 1):
        assert len({tuple(c) for c in colours[number == n]}) == 1
    (H, W), touching = grid, 0
    for r, c in np.ndindex(H, W):
        for s, t in ((r + down, c + right) for down, right in STEPS):
            if s < H and 0 <= t < W and number[r, c] != number[s, t]:
                assert (colours[r, c] != colours[s, t]).any(), (number[r, c], number[s, t])
                touching += 1
    assert touching >= H
    count = grid[0] * grid[1] // (window[0] * window[1])
    kind = "shifted windows" if any(shift) else "windows"
    assert title == f"{count} {kind} of {window[0]}×{window[1]} tokens"


def numbers_in(grid, window, shift):
    """The numbers in the picture of windows, by their places in tokens (column, row)."""
    pytest.importorskip("matplotlib")
    from minswin.look.canvas import figure

    axes = figure(1, width=2.7, height=2.9)[1][0, 0]
    pixels = np.zeros((3, 2 * grid[0], 2 * grid[1]), np.uint8)
    windows.draw_windows(axes, pixels, grid, window, shift)
    places = ((text.get_position(), int(text.get_text())) for text in axes.texts)
    return {(x / 2, y / 2): number for (x, y), number in places}


def test_every_piece_bears_the_number_of_its_window_where_there_is_room():
    found = numbers_in((12, 8), (4, 4), (2, 2))
    assert set(found) == {(x, y) for x in (1, 4, 7) for y in (1, 4, 8, 11)}  # middles of pieces
    number = windows.window_of((12, 8), (4, 4), (2, 2))
    assert all(n == number[int(y), int(x)] for (x, y), n in found.items())
    assert found[1, 1] == found[7, 11] == 5  # the corners are pieces of the last window
    assert sorted(numbers_in((56, 56), (7, 7), (0, 0)).values()) == list(range(64))


def test_a_number_is_left_out_where_it_would_not_fit():
    assert numbers_in((144, 144), (4, 4), (2, 2)) == {}
    found = numbers_in((48, 48), (4, 4), (2, 2))
    assert found[8, 4] == 1 and found[20, 20] == 52  # 4 tokens wide
    assert (1, 20) not in found and (47, 20) not in found  # 2 of them
