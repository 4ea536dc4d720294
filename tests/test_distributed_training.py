"""Training in several processes, with GPUs or without, gives the numbers of one."""

from __future__ import annotations

import os
from functools import partial

import nccl_on_host
import numpy as np
import pytest
import ranks
import tiny_training
from faults_in_ranks import FAULTS
from tiny_training import tiny_settings

from minswin.arrays import to_numpy
from minswin.data import batches, normalize
from minswin.devices import working_on
from minswin.distributed import world
from minswin.models import create_model
from minswin.models.registry import MODELS
from minswin.training import inputs
from minswin.training.ranks import require_same_run, require_same_weights
from minswin.training.run import Run
from minswin.training.updates import Updates

STEPS = 54
BRIEFLY = {"epochs": 2}  # a fault shows at once


def learn(group, folder, overrides=None):
    """54 steps in float64: batches of 7, and one of a single image at the end of each epoch.

    Augmentation, mixup and cutmix, dropped paths, clipping, momentum and the average are on.
    """
    tiny_training.install()
    MODELS["tiny"] = {**tiny_training.MODEL, "drop_path_rate": 0.4}
    inputs.create_model = partial(create_model, dtype=np.float64)
    batches.normalize = partial(normalize, dtype=np.float64)
    usual = {"batch_size": 7, "count": 57, "epochs": 6, "clip": 0.3}
    settings = tiny_settings(folder, **{**usual, **(overrides or {})})
    run = Run(settings, group=group)
    run.batches.drop_last = False  # 8 · 7 + 1
    require_same_run(run)
    updates, losses, norms = Updates(run), [], []
    for epoch in range(settings.epochs):
        for x, targets in run.feed(run.batches.epoch(epoch)):
            updates.differentiate(x, targets.astype(np.float64))
            updates.step(run.learning_rate(run.step))
            for made in updates.read():
                losses.append(made.loss)
                norms.append(made.norm)
                run.count(made)
        require_same_weights(run)
        result, totals = run.evaluate(), (run.totals.right, run.totals.images)
        run.close_epoch(result)
    arrays = {
        part: {name: to_numpy(a).copy() for name, a in getattr(run, part).state_dict().items()}
        for part in ("model", "optimizer", "average")
    }
    rng = run.model.rng.bit_generator.state
    run.close()
    return {
        "losses": np.array(losses), "norms": np.array(norms), "arrays": arrays, "rng": rng,
        "result": result, "totals": totals,
    }  # fmt: skip


def farthest(ours, theirs):
    """The largest difference relative to the largest number of each array, by what it is of."""
    pairs = {name: (ours[name], theirs[name]) for name in ("losses", "norms")}
    for part, arrays in theirs["arrays"].items():
        pairs |= {f"{part} {n}": (ours["arrays"][part][n], a) for n, a in arrays.items()}
    pairs["evaluation"] = np.array(ours["result"].loss), np.array(theirs["result"].loss)
    far: dict[str, float] = {}
    for name, (a, b) in pairs.items():
        kind = name.split()[0]
        away = np.abs(a - b).max() / max(np.abs(b).max(), 1e-300)
        far[kind] = max(far.get(kind, 0.0), float(away))
    return far


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return ranks.python(learn, str(tmp_path_factory.mktemp("alone")))


@pytest.fixture(scope="module")
def briefly_alone(tmp_path_factory):
    return ranks.python(learn, str(tmp_path_factory.mktemp("briefly")), BRIEFLY)


def learn_in_ways(group, folder, ways):
    return [learn(group, folder, overrides) for overrides in ways]


@pytest.mark.parametrize(
    ("number", "ways"),
    [
        (2, [{}, {**BRIEFLY, "threads": 2}, {**BRIEFLY, "recompute": True}]),
        (3, [{}]),
        (4, [{}]),
    ],
    ids=["2", "3", "4"],
)
def test_fifty_steps_are_those_of_one_process(alone, briefly_alone, tmp_path, number, ways):
    assert len(alone["losses"]) == STEPS
    found = ranks.run(number, learn_in_ways, str(tmp_path), ways)
    for overrides, *each in zip(ways, *found, strict=True):
        truth = briefly_alone if overrides else alone
        _assert_those_of_one(truth, each)
        print(f"{number} ranks, {overrides}: {farthest(each[0], truth)}")
    if number == 3:  # where the order of a sum of ranks counts
        (again,) = ranks.run(number, learn_in_ways, str(tmp_path), ways)[0]
        _assert_same_bits(found[0][0], again)


def _assert_those_of_one(alone, each):
    for rank in each:
        assert len(rank["losses"]) == len(alone["losses"])
        far = farthest(rank, alone)
        assert max(far.values()) < 1e-12, far
        assert rank["rng"] == alone["rng"] and rank["totals"] == alone["totals"]
        assert rank["result"].accuracy == alone["result"].accuracy
        assert np.array_equal(rank["result"].per_class, alone["result"].per_class)
    for name, array in each[0]["arrays"]["model"].items():
        assert all(np.array_equal(array, rank["arrays"]["model"][name]) for rank in each), name


def _assert_same_bits(first, second):
    assert np.array_equal(first["losses"], second["losses"])
    for part, arrays in first["arrays"].items():
        for name, array in arrays.items():
            assert np.array_equal(array, second["arrays"][part][name]), name


def learn_wrongly(group, folder):
    """`learn` with each fault planted, and with none; what it raises is a result too."""
    found = {}
    for fault in (*FAULTS, "none"):
        with pytest.MonkeyPatch.context() as patch:
            FAULTS.get(fault, str)(patch)
            try:
                found[fault] = learn(group, folder, BRIEFLY)
            except ValueError as error:
                found[fault] = str(error)
    return found


def test_a_planted_fault_does_not_give_the_numbers_of_one_process(briefly_alone, tmp_path):
    """By far: all that is compared above stays below 1e-12, and again without a fault."""
    each = ranks.run(2, learn_wrongly, str(tmp_path))
    _assert_those_of_one(briefly_alone, [rank.pop("none") for rank in each])
    for fault, found in (item for rank in each for item in rank.items()):
        if isinstance(found, str):
            assert "has other bits than that of rank 0" in found, fault
        else:
            far = farthest(found, briefly_alone)
            print(fault, far)
            assert max(far["losses"], far["model"]) > 1e-6, fault
    assert set(each[0]) == set(FAULTS)


# ── GPUs ─────────────────────────────────────────────────────────────────────────────────────────


def collectives_there(group):
    """What NCCL does with arrays of a GPU, and MPI with those of the CPU, in one group."""
    with pytest.MonkeyPatch.context() as patch:
        cupy = nccl_on_host.use(patch)
        there = world("auto", "gpu")
        assert type(there).__name__ == "NCCLGroup"
        for dtype in ("float16", "float32", "float64", "int32", "int64", "uint8"):
            mine = cupy.asarray(np.array([[1, there.rank], [3, 4]], dtype))
            total = there.all_reduce(mine.copy())
            assert isinstance(total, cupy.ndarray) and total.dtype == dtype
            assert total.get().tolist() == [[2, 1], [6, 8]]
            assert there.broadcast(mine.copy()).get().tolist() == [[1, 0], [3, 4]]
            assert there.all_gather(mine).get()[:, 0, 1].tolist() == [0, 1]
        assert there.all_reduce(np.array([1.0])).tolist() == [2.0]
        assert there.broadcast(np.array([there.rank])).tolist() == [0]
        assert there.all_gather(np.array([there.rank])).tolist() == [[0], [1]]
        return os.environ["CUDA_VISIBLE_DEVICES"]


def test_arrays_of_gpus_go_by_nccl_and_each_rank_has_one():
    assert ranks.run(2, collectives_there) == ["0", "1"]


def learn_there(group, folder):
    """`learn` on a GPU for each rank: recorded steps, gradients summed by NCCL."""
    with pytest.MonkeyPatch.context() as patch:
        nccl_on_host.use(patch)
        with working_on("gpu"):
            return learn(world("auto", "gpu"), folder, {"device": "gpu"})


def test_two_gpus_give_the_numbers_of_one_process(alone, tmp_path):
    for rank in ranks.run(2, learn_there, str(tmp_path)):
        far = farthest(rank, alone)
        assert max(far.values()) < 1e-12, far
        assert rank["rng"] == alone["rng"] and rank["totals"] == alone["totals"]
