"""bench --scaling: what is measured in several processes, and what the model says of more."""

from __future__ import annotations

import json

import pytest
import ranks

from minswin.bench import scaling
from minswin.bench.scaling import Lap, Network, predict, travel
from minswin.bench.setups import Setup

LAP = Lap(
    ranks=1, threads=1, step=0.5, backward=0.3, bytes=0, travel=0.0, waited=0.0, images=0.001,
    buckets=(4_000_000, 4_000_000, 1_000_000), here=None,
)  # fmt: skip


def test_a_ring_carries_twice_all_but_one_part_of_the_bytes():
    """4 ranks, 6 trips, of a quarter of the bytes each; by hand."""
    assert travel([400], 4, Network(0.5, 100.0)) == pytest.approx(6 * (0.5 + 1.0))
    assert travel([400, 40], 4, Network(0.0, 100.0)) == pytest.approx(6 * 1.1)
    assert travel([400], 1, Network(0.5, 100.0)) == 0


def test_what_travels_in_less_than_backward_costs_the_last_bucket_alone(monkeypatch):
    monkeypatch.setattr(scaling, "NETWORKS", {"fast": Network(0.0, 1e9), "slow": Network(0.0, 1e7)})
    monkeypatch.setattr(scaling, "RANKS", (2,))
    fast, slow = predict(LAP)
    assert fast.step == pytest.approx(0.5 + 1e-3)  # 1 MB at 1 GB/s, two halves
    assert fast.efficiency == pytest.approx(0.5 / 0.501)
    assert slow.travel == pytest.approx(0.9) and slow.step == pytest.approx(0.2 + 0.9)


def test_images_that_every_rank_makes_for_all_end_the_gain(monkeypatch):
    monkeypatch.setattr(scaling, "NETWORKS", {"fast": Network(0.0, 1e12)})
    monkeypatch.setattr(scaling, "RANKS", (100, 1000))
    few, many = predict(LAP)
    assert few.efficiency > 0.99
    assert many.data == pytest.approx(1.0) and many.efficiency == pytest.approx(0.5)


def test_ranks_are_measured_beside_one_and_written_down_as_measured_and_predicted(tmp_path):
    ranks.mpiexec()
    out, shown = tmp_path / "scaling.json", []
    setup, ways = Setup("swin_shapes", 4, 32, 10), ((1, 1), (2, 1))
    scaling.run(out, rounds=1, setup=setup, ways=ways, show=shown.append)
    one, two = json.loads(out.read_text())["measured"]
    assert one["bytes"] == one["travel"] == 0 and one["here"] is None
    assert two["bytes"] > sum(two["buckets"]) > 0  # and who has a gradient at all
    assert 0 < two["waited"] and 0 < two["backward"] < two["step"]
    assert len(json.loads(out.read_text())["predicted"]) == 9
    assert "PREDICTED, not measured" in shown[-1] and "measured on this machine" in shown[-2]
