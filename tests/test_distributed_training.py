"""Training in several processes gives the numbers of one, and ends well whatever happens to one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path

import nccl_on_host
import numpy as np
import pytest
import ranks
import tiny_training
from faults_in_ranks import FAULTS
from limits import HANG
from tiny_training import tiny_settings

import minswin.training.folder
from minswin.arrays import to_numpy
from minswin.data import batches, normalize
from minswin.devices import working_on
from minswin.distributed import Group, world
from minswin.models import create_model
from minswin.models.registry import MODELS
from minswin.training import inputs, loop, read_checkpoint
from minswin.training.loop import Interrupts
from minswin.training.ranks import require_same_run, require_same_start, require_same_weights
from minswin.training.run import Run
from minswin.training.updates import Updates

# ── the numbers of one process ───────────────────────────────────────────────────────────────────

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


# ── the command ──────────────────────────────────────────────────────────────────────────────────


SCRIPT = Path(tiny_training.__file__)


def line(folder, **changes):
    """The command line of a tiny training, which takes two seconds."""
    settings = {
        "model": "tiny", "epochs": 2, "batch_size": 7, "count": 60, "holdout": 0, "lr": 0.01,
        "ema": 0.9, "augment": "basic", "mixup": 0.4, "cutmix": 0.4, "checkpoint_every": 3,
        "log_every": 1, "threads": 1, "out": folder, **changes,
    }  # fmt: skip
    given = ((k, v) for k, v in settings.items() if v is not None)
    return [str(w) for k, v in given for w in (f"--{k.replace('_', '-')}", v)]


def train(number, folder, *more, timeout=HANG, variables=None, **changes):
    words = ("train", *(line(folder, **changes) if folder else ()), *more)
    return ranks.start(number, SCRIPT, *words, timeout=timeout, **(variables or {}))


def steps_of(folder):
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [r for r in records if r["kind"] == "step"]


def test_the_command_trains_in_two_ranks_and_goes_on_in_three(tmp_path):
    """The log, the bar and the files are those of one process; the first half is one of ranks."""
    two, one = tmp_path / "two", tmp_path / "one"
    done = train(2, two, variables={"STOP_AT": f"9 0 {signal.SIGTERM.value}"})
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert done.stdout.count("saved after step") == 1 and "saved after step 9" in done.stdout
    done = train(3, None, "--resume", two)
    assert not done.returncode, done.stderr
    assert done.stdout.count("test accuracy 1") == 1 + 1  # the epoch's line, and the result
    words = [sys.executable, SCRIPT, "train", *line(one)]
    subprocess.run(words, env=ranks.environment(), check=True, capture_output=True, timeout=HANG)
    ours, theirs = steps_of(two), steps_of(one)
    assert [r["step"] for r in ours] == [r["step"] for r in theirs] == list(range(1, 17))
    assert np.allclose([r["loss"] for r in ours], [r["loss"] for r in theirs], rtol=1e-4)
    a, b = (read_checkpoint(folder) for folder in (two, one))
    assert a.info["rng"] == b.info["rng"]
    shown = [
        subprocess.run(
            [*start, sys.executable, SCRIPT, "evaluate", one],
            env=ranks.environment(),
            check=True,
            capture_output=True,
            timeout=HANG,
        ).stdout
        for start in ([], [ranks.mpiexec(), "-n", "2"])
    ]
    assert shown[0] == shown[1] and b"33 test images" in shown[0]
    assert {p.name for p in two.iterdir()} == {p.name for p in one.iterdir()}
    for name, array in b.weights.items():
        assert np.abs(a.weights[name] - array).max() < 1e-3 * max(1, np.abs(array).max()), name


def test_off_trains_alone_whatever_the_environment_says(tmp_path):
    ranks.mpiexec()
    words = [sys.executable, SCRIPT, "train", *line(tmp_path / "run"), "--distributed", "off"]
    env = ranks.environment(PMI_RANK="1", PMI_SIZE="2")
    done = subprocess.run(words, env=env, capture_output=True, timeout=HANG)
    assert not done.returncode and (tmp_path / "run" / "last.safetensors").is_file()


# ── what differs between ranks is found before the first step ────────────────────────────────────


def differing(group, folder, what):
    """The error of a rank whose run has one thing that rank 0 has otherwise."""
    tiny_training.install()
    mine = group.rank == group.size - 1
    with pytest.MonkeyPatch.context() as patch:
        if what == "version" and mine:
            patch.setattr("minswin.training.ranks.VERSION", "0.0.1")
        changes = {"lr": {"lr": 0.02}, "seed": {"seed": 5}}.get(what, {}) if mine else {}
        settings = tiny_settings(folder, **changes)
        try:
            require_same_start(group, settings)
            run = Run(settings, group=group)
            if what == "data" and mine:
                run.train_set.images[3, 0, 0, 0] ^= 1
            if what == "test data" and mine:
                run.test_set.labels[3] = (run.test_set.labels[3] + 1) % 3
            if what == "weights" and mine:
                next(run.model.parameters()).data += 1
            require_same_run(run)
            if what == "memory" and mine:
                list(run.model.parameters())[3].data.flat[0] += 1e-7
            require_same_weights(run)
        except ValueError as error:
            return str(error)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("lr", "rank 1 has lr 0.02, and rank 0 has 0.01; start all ranks with the same settings"),
        ("seed", "rank 1 has seed 5, and rank 0 has 0"),
        ("version", "rank 1 has minswin '0.0.1'"),
        ("data", "rank 1 has the training images '60 with check sum"),
        ("test data", "rank 1 has the test images '33 with check sum"),
        ("memory", "of rank 1 has other bits than that of rank 0; not saved"),
        ("weights", None),  # they are those of rank 0 from there on
    ],
)
def test_what_differs_is_named_in_all_ranks(tmp_path, what, message):
    first, second = ranks.run(2, differing, str(tmp_path), what)
    assert first == second
    assert first is None if message is None else message in first


def test_more_ranks_than_images_of_a_batch_is_an_error_that_all_share_once(tmp_path):
    done = train(3, tmp_path / "run", batch_size=2)
    assert done.returncode == 2
    assert done.stderr.count("minswin: error:") == 1
    assert "3 ranks share a batch of 2 images; start 2 ranks at most" in done.stderr


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_error_of_rank_0_alone_is_said_once_and_ends_all(tmp_path):
    (tmp_path / "run").write_text("a file where the folder should be")
    done = train(2, tmp_path / "run")
    assert done.returncode == 2 and done.stderr.count("minswin: error:") == 1


def test_a_loss_that_is_no_number_in_one_rank_stops_all_with_one_message(tmp_path):
    done = train(2, tmp_path / "run", lr=1e30, warmup=0, clip=0)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("minswin: error:") == 1 and "Try a smaller --lr" in done.stderr
    assert read_checkpoint(tmp_path / "run").info["step"] < 4


def full_disk(group, folder):
    """What each rank raises when rank 0 can write no more; the saves before were good."""
    tiny_training.install()
    saves, save = [], minswin.training.folder.save_checkpoint

    def write(path, checkpoint):
        saves.append(path)
        if len(saves) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minswin.training.folder.save_checkpoint", write)
        try:
            loop.train(tiny_settings(folder), quiet=True, group=group)
        except OSError as error:
            return str(error), len(saves)


def test_a_full_disk_of_rank_0_stops_all_and_leaves_the_last_good_checkpoint(tmp_path):
    first, second = ranks.run(2, full_disk, str(tmp_path))
    assert first == ("[Errno 28] No space left on device", 3)
    assert second == ("[Errno 28] No space left on device", 0)  # it writes nothing
    assert read_checkpoint(tmp_path).info["step"] == 3


ONE_FAILS = """
import sys
from minswin import cli
from minswin.training.updates import Updates
import tiny_training
tiny_training.install()
step, count = Updates.step, []
def failing(self, lr):
    count.append(lr)
    if self.run.group.rank == 1 and len(count) == 5:
        raise {error}
    step(self, lr)
Updates.step = failing
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("MemoryError('no room')", "rank 1 of 2: no room"),
        ("KeyError('a bug')", "rank 1 of 2: Traceback"),
    ],
)
def test_an_error_of_one_rank_is_printed_by_it_and_ends_all(tmp_path, error, said):
    folder = tmp_path / "run"
    done = ranks.start(2, "-c", ONE_FAILS.format(error=error), "train", *line(folder))
    assert done.returncode == 2
    assert done.stderr.count("minswin: error:") == 1 and said in done.stderr
    assert read_checkpoint(folder).info["step"] == 3


def unequal(group):
    """What rank 0 says of the cores of two ranks."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as said:
        patch.setattr("minswin.training.ranks.cores", lambda: 2 + 2 * group.rank)
        require_same_start(group, tiny_settings("here"))
    return said.getvalue()


def test_ranks_of_unequal_cores_are_named(tmp_path):
    first, second = ranks.run(2, unequal)
    assert "the ranks have 2, 4 cores" in first and second == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_mpiexec_saves_once(tmp_path, number):
    folder = tmp_path / "run"
    words = ranks.command(2, SCRIPT, "train", *line(folder, epochs=500, warmup=1))
    with subprocess.Popen(
        words, env=ranks.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        _wait_for_step(folder, 2)
        process.send_signal(number)
        out, err = process.communicate(timeout=HANG)
    assert out.count("saved after step") == 1, out + err
    assert read_checkpoint(folder).info["step"] == steps_of(folder)[-1]["step"]


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_rank_ends_all_and_leaves_a_good_checkpoint(tmp_path, victim):
    folder = tmp_path / "run"
    done = train(
        2, folder, epochs=500, warmup=1,
        variables={"STOP_AT": f"5 200 {signal.SIGKILL.value}", "STOP_RANK": str(victim)},
    )  # fmt: skip
    assert done.returncode
    assert read_checkpoint(folder).info["step"] in (3, 6)
    done = train(2, None, "--resume", folder, variables={"STOP_AT": "9 0 15"})
    assert done.returncode == 128 + signal.SIGTERM and "saved after step" in done.stdout


def _wait_for_step(folder, step):
    for _ in range(20 * HANG):
        if (folder / "log.jsonl").is_file() and len(steps_of(folder)) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"{folder} did not come to step {step}")


def test_signals_of_a_group_of_one_are_its_own():
    with Interrupts(Group()) as interrupts:
        assert interrupts.received() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received() == signal.SIGTERM
