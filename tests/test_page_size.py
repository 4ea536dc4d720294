"""A page stays below five million bytes, and says what it left out for that."""

from __future__ import annotations

import explained
import numpy as np
import pytest
from explained import Page

from minswin.look import attention
from minswin.look.page import data, subject, write
from minswin.models import create_model

quick = explained.quick  # the fixture


# The attention of Swin-T: stages, heads and windows of 7×7 tokens.
SWIN_T = [(0, 3, 8)] * 2 + [(1, 6, 4)] * 2 + [(2, 12, 2)] * 6 + [(3, 24, 1)] * 2


def seen_by_swin_t():
    rng, seen = np.random.default_rng(0), []
    for i, (stage, heads, across) in enumerate(SWIN_T):
        p = rng.random((across**2, heads, 49, 49), np.float32)
        grid, shift = (7 * across, 7 * across), (3 * (i % 2), 3 * (i % 2))
        shift = shift if across > 1 else (0, 0)
        block = i - [first for first, *_ in SWIN_T].index(stage)
        seen.append(attention.Attention(stage, block, p, (7, 7), shift, grid, grid, 0))
    return seen


def about_noise(model, x):
    """A page about a picture of noise: none is larger."""
    noise = np.random.default_rng(1).integers(0, 256, x.shape).astype(np.uint8)
    two = np.stack([x, x + 1])
    nothing = subject.Examples("none", two, np.zeros(2, int), ("a", "b", "c"))
    sights = [subject.Sight(model.name, model, x, two, ("a", "b", "c"))]
    return subject.Subject(
        samples=[subject.Sample("a.png", noise)],
        x=x,
        model=model,
        origin="Random weights",
        trained=False,
        classes="abc",
        statistics=((0.5,) * 3, (0.5,) * 3),
        probabilities=np.array([0.2, 0.5, 0.3]),
        examples=nothing,
        cost=subject.Cost([], [], 96, 3, 7, 4),
        sights=sights,
    )


@pytest.mark.parametrize("taken", [400_000, 2_400_000, 4_200_000, 4_600_000])
def test_a_page_stays_below_five_million_bytes_whatever_else_it_holds(taken, monkeypatch):
    """taken: bytes of the rest, beside the programs and the picture."""
    model = create_model("swinv2_cifar")
    x = np.zeros((3, *model.img_size), np.float32)
    monkeypatch.setattr(write, "attention_maps", lambda *given: seen_by_swin_t())
    monkeypatch.setattr(data.positions, "bias_pictures", lambda *given: [])
    monkeypatch.setattr(data, "_channels", lambda about: ["é" * (taken // 6)])  # "\\u00e9"
    path = write.write_page(about_noise(model, x), "a.html")
    page = Page(path)
    assert path.stat().st_size < 5_000_000
    assert len(page.data["blocks"]) + len(page.data["left_out"]) == 12
    assert all(name in page.text for name in page.data["left_out"])
    if taken < 1_000_000:
        assert len(page.data["blocks"]) == 12
    elif taken < 4_000_000:
        assert len(page.data["blocks"]) == 10 and path.stat().st_size > 4_000_000  # stage 2: 4 of 6
