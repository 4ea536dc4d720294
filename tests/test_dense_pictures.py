"""Pictures: what colours mean, where a picture is saved, and that this is asked in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm

from minswin.data.scenes import IGNORED
from minswin.dense.detection import Detections
from minswin.dense.pictures import PALETTE, UNKNOWN, painted, save_boxes, save_segments
from minswin.look.canvas import empty_figure, picture_path, rgb, save
from minswin.testing.claims import assert_same

pytest.importorskip("matplotlib")
EXAMPLES = Path(__file__).parent.parent / "examples"


# ── colours ──────────────────────────────────────────────────────────────────────────────────────


def test_a_colour_is_read_from_its_six_digits() -> None:
    assert_same(rgb("#00ff33") * 255, [0, 255, 51])


def test_ten_classes_the_background_and_what_does_not_count_look_different() -> None:
    mask = np.array([[*range(11), IGNORED]], np.uint8)
    seen = painted(mask)
    assert seen.shape == (1, 12, 3)
    assert_same(seen[0, 0], np.ones(3))
    assert_same(seen[0, 1:11], PALETTE)
    apart = np.linalg.norm(seen[0, :, None] - seen[0], axis=-1)  # (12, 12)
    assert (apart[~np.eye(12, dtype=bool)] > 0.1).all()  # 0 where two look the same
    for integers in (np.int64, np.int16):
        assert_same(painted(mask.astype(integers)), seen)


# ── what is drawn ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved; their files are empty."""
    figures = []

    def kept(figure: Any, path: Path, **_: int) -> None:
        figures.append(figure)
        path.touch()

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", kept)
    return figures


def test_segments_are_three_rows_of_images_truth_and_what_was_found(tmp_path, drawn) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 5, 4)).astype(np.uint8)
    truth, found = rng.integers(0, 3, (2, 2, 5, 4))
    save_segments(images, truth, found, ("cat", "dog"), tmp_path / "a.png")
    places = np.array(drawn[0].axes).reshape(3, 2)
    for i in range(2):
        shown = [axes.images[0].get_array() for axes in places[:, i]]
        assert_same(shown[0], images[i].transpose(1, 2, 0))
        assert_same(shown[1], painted(truth[i]))
        assert_same(shown[2], painted(found[i]))


def test_the_legend_names_what_does_not_count_where_there_is_such(tmp_path, drawn) -> None:
    truth = np.arange(40).reshape(2, 5, 4) % 3
    other = np.where(truth == 2, IGNORED, truth)
    for mask in (truth, other):
        images = np.zeros((2, 3, 5, 4), np.uint8)
        save_segments(images, mask, truth, ("cat", "dog"), tmp_path / "a.png")
    for figure, more in zip(drawn, ([], ["does not count"]), strict=True):
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog", *more]
        colours = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
        assert_same(colours, [*PALETTE[:2], UNKNOWN][: 2 + len(more)])


def test_of_boxes_in_one_place_the_best_is_drawn_and_none_below_the_least_score(
    tmp_path, drawn
) -> None:
    boxes = np.array([[1, 2, 6, 7], [1, 2, 6, 8], [20, 1, 28, 9]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8, 0.2], np.float32), np.array([1, 0, 0]))
    images, true = np.zeros((1, 3, 16, 32), np.uint8), [boxes[:1] + 1]
    for least in (0.3, 0.1):
        save_boxes(images, true, [found], ("cat", "dog"), tmp_path / "a.png", least=least)
    for figure, texts in zip(drawn, (["dog 90%"], ["dog 90%", "cat 20%"]), strict=True):
        axes = figure.axes[0]
        assert [text.get_text() for text in axes.texts] == texts
        edges = [(*line.get_xdata()[[0, 1]], *line.get_ydata()[[0, 2]]) for line in axes.lines]
        dotted, mine = edges[:2], edges[2:]
        assert_same(dotted, [[1.5, 6.5, 2.5, 7.5]] * 2)  # light and dark; half a pixel is the rim
        assert_same(mine, [[0.5, 5.5, 1.5, 6.5], [19.5, 27.5, 0.5, 8.5]][: len(texts)])


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_pictures_of_segments_and_boxes_are_saved_as_png_if_nothing_else_is_said(tmp_path) -> None:
    images, truth = np.zeros((3, 3, 8, 9), np.uint8), np.ones((3, 8, 9), int)
    save_segments(images, truth, truth, ("cat", "dog"), tmp_path / "segments")
    box = np.array([[1, 2, 6, 7]], np.float32)
    found = Detections(box, np.array([0.9], np.float32), np.array([1]))
    save_boxes(images, [box] * 3, [found] * 3, ("cat", "dog"), str(tmp_path / "boxes"), columns=2)
    assert {p.name for p in tmp_path.iterdir()} == {"segments.png", "boxes.png"}
    for path in tmp_path.iterdir():
        assert path.read_bytes()[:4] == b"\x89PNG"


def test_an_ending_decides_on_the_kind_of_picture(tmp_path) -> None:
    save(empty_figure(1, 1), tmp_path / "v1.5.SVG")
    assert b"<svg" in (tmp_path / "v1.5.SVG").read_bytes()


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one_and_nothing_else(
    tmp_path, monkeypatch
) -> None:
    path, figure = tmp_path / "a.png", empty_figure(1, 1)
    save(figure, path)
    before = path.read_bytes()

    def broken(where: Path, **_: int) -> None:
        Path(where).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        save(figure, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_where_no_picture_can_be_is_said_before_one_is_drawn(tmp_path) -> None:
    for path in (tmp_path, f"{tmp_path}/"):
        with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
            picture_path(path)
    with pytest.raises(FileNotFoundError, match=r"cannot write .*\.png: there is no folder .*none"):
        picture_path(tmp_path / "none" / "a")
    with pytest.raises(ValueError, match=r"a\.pgn ends in \.pgn, .* one of .*\.png.*\.svg"):
        picture_path(tmp_path / "a.pgn")
    assert picture_path(str(tmp_path / "a")) == tmp_path / "a.png"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["13_segment.py", "14_detect.py"])
def test_an_example_asks_where_its_picture_goes_before_it_learns(name: str, tmp_path: Path) -> None:
    done = warm.run([str(EXAMPLES / name), "--quick", "-o", str(tmp_path / "none/a")])
    assert done.returncode == 1
    assert "there is no folder" in done.stderr.splitlines()[-1]
    assert done.stdout == ""  # its first line comes before the training
