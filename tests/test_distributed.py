"""A group of ranks, and a batch that they share: the numbers of one process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ranks
from limits import HANG
from tiny_models import batch, tiny_model

from minswin import data_parallel, ops
from minswin.buckets import Exchange, Traffic, plan
from minswin.distributed import Group, MPIGroup, Share, _wait_until_read, launched, world
from minswin.layers.convolutions import BatchNorm2d

# ── the group ────────────────────────────────────────────────────────────────────────────────────


def collectives(group):
    """Every collective once, on float32, float64 and whole numbers."""
    for dtype in ("float32", "float64", "int64"):
        mine = np.array([[1, group.rank], [10, 100]], dtype)
        total = group.all_reduce(mine.copy())
        assert total.dtype == dtype
        assert total.tolist() == [
            [group.size, sum(range(group.size))],
            [10 * group.size, 100 * group.size],
        ]
        assert group.broadcast(mine.copy()).tolist() == [[1, 0], [10, 100]]
        assert group.all_gather(mine)[:, 0, 1].tolist() == list(range(group.size))
    group.barrier()
    assert group.gather({"rank": group.rank}) == [{"rank": r} for r in range(group.size)]
    assert group.lead(lambda: f"rank {group.rank}") == "rank 0"
    assert group.leads == (group.rank == 0)
    return group.rank, group.size, group.rank_here, group.ranks_here


@pytest.mark.parametrize("number", [2, 3])
def test_ranks_add_share_and_collect(number):
    assert ranks.run(number, collectives) == [(r, number, r, number) for r in range(number)]


def test_a_group_of_one_does_the_same_without_mpi():
    assert collectives(Group()) == (0, 1, 0, 1)
    code = (
        "from minswin.distributed import world; world(); import sys; print('mpi4py' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ranks.environment(), capture_output=True
    )
    assert done.stdout.strip() == b"False"


def test_the_environment_of_each_launcher_is_understood(monkeypatch):
    for names in (*(n for pair in PAIRS for n in pair),):
        monkeypatch.delenv(names, raising=False)
    assert launched() == 1 and type(world()) is Group
    for rank, size in PAIRS:
        with monkeypatch.context() as patch:
            patch.setenv(rank, "1")
            assert launched() == 1  # a rank of nothing
            patch.setenv(size, "4")
            assert launched() == 4
            assert type(world("off")) is Group


PAIRS = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


@pytest.mark.parametrize(
    ("choice", "device", "message"),
    [
        ("on", "cpu", "must be one of auto, mpi, nccl, off, got 'on'"),
        ("nccl", "cpu", "'nccl' is for GPUs.*choose 'mpi'"),
        ("mpi", "gpu", "'mpi' is for the CPU.*use 'nccl'"),
    ],
)
def test_a_choice_that_cannot_be_is_an_error(choice, device, message):
    with pytest.raises(ValueError, match=message):
        world(choice, device)


def test_a_missing_library_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r'pip install "minswin\[mpi\]"'):
        world("mpi")


def test_an_mpiexec_of_another_mpi_is_an_error_that_says_so():
    """Each process of a foreign launcher is alone in the world that its library sees."""
    ranks.mpiexec()
    code = "from minswin.distributed import world; world()"
    foreign = ranks.environment(OMPI_COMM_WORLD_RANK="1", OMPI_COMM_WORLD_SIZE="4")
    done = subprocess.run(
        [sys.executable, "-c", code], env=foreign, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 1
    assert "started 4 processes, but MPICH" in done.stderr and "mpiexec" in done.stderr


# ── shares ───────────────────────────────────────────────────────────────────────────────────────


def of(rank, size):
    group = Group()
    group.rank, group.size = rank, size
    return group


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 13])
def test_shares_are_parts_in_order_that_differ_by_one_at_most(size, batch_size):
    shares = [of(rank, size).share(batch_size) for rank in range(size)]
    counting = [s for s in shares if s.weight]
    assert sum(s.weight for s in shares) == pytest.approx(1, abs=1e-15)
    rows = [row for s in counting for row in range(batch_size)[s.rows]]
    assert rows == list(range(batch_size))
    lengths = [s.end - s.start for s in counting]
    assert max(lengths) - min(lengths) <= 1
    assert all(s == Share(0, 1, batch_size, 0.0) for s in shares if not s.weight)


# ── buckets ──────────────────────────────────────────────────────────────────────────────────────


def exchanged(group, order):
    """Two parts hand in three gradients, one of which only rank 0 has, and one nobody."""
    rng = np.random.default_rng([7, group.rank])
    weights = [np.zeros((2, 3)), np.zeros(4, np.float32), np.zeros(5), np.zeros(1)]
    exchange = Exchange(group, weights, 2, Traffic())
    for part, number in order:
        has = number != 2 or (group.rank, part) == (0, 1)
        g = rng.standard_normal(weights[number].shape).astype(weights[number].dtype)
        exchange.hand_in(part, number, g if has else None)
    for part in range(2):
        exchange.close(part)
    return exchange.results()


def test_a_gradient_is_the_sum_of_all_parts_of_all_ranks_and_none_where_nobody_has_one():
    order = [(0, 2), (1, 1), (0, 0), (1, 2), (0, 1), (1, 0)]
    alone = []
    for rank in range(2):
        rng = np.random.default_rng([7, rank])
        shapes = {0: (2, 3), 1: 4, 2: 5}
        alone.append({at: rng.standard_normal(shapes[at[1]]) for at in order})
    want = [sum(a[part, n] for a in alone for part in range(2)) for n in (0, 1)]
    for got in ranks.run(2, exchanged, order):
        assert np.abs(got[0] - want[0]).max() < 1e-14
        assert got[1].dtype == np.float32 and np.abs(got[1] - want[1]).max() < 1e-6
        assert np.array_equal(got[2], alone[0][1, 2]) and got[3] is None


def test_buckets_hold_every_weight_once_last_ones_first():
    weights = [np.ones(n, d) for n, d in ((3, "f"), (9, "f"), (1, "d"), (2, "d"), (50, "d"))]
    buckets = plan(weights, limit=64)
    assert [n for bucket in buckets for n in bucket] == [4, 3, 2, 1, 0]
    for bucket in buckets:
        assert len({weights[n].dtype for n in bucket}) == 1
        assert len(bucket) == 1 or sum(weights[n].nbytes for n in bucket) <= 64


def early(group):
    """Which weights had begun to travel while backward of the model was not over."""
    model, (x, targets) = tiny_model(), batch(4)
    weights, sent = list(model.parameters()), []
    forward = data_parallel(model, 1, group)
    later = group.later

    def watched(work):
        sent.append(sum(p.grad is not None for t in forward._twins for p in t.weights))
        return later(work)

    share = group.share(len(x))
    loss = ops.cross_entropy(forward(x[share.rows], share), targets[share.rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minswin.buckets.BYTES", 256)
        patch.setattr(plan, "__defaults__", (256,))
        patch.setattr(group, "later", watched)
        loss.backward()
    return sent, len(weights)


def test_the_last_layers_gradients_travel_while_the_first_are_being_computed():
    for sent, number in ranks.run(2, early):
        assert len(sent) > 4 and sent[0] < number / 2 and sent == sorted(sent)


# ── a batch in shares ────────────────────────────────────────────────────────────────────────────


def differentiated(group, rate, threads, sizes):
    """Losses, gradients and random state of a few batches, with dropped paths."""
    model = tiny_model(rate=rate)
    forward, results = data_parallel(model, threads, group), []
    for size in sizes:
        x, targets = batch(size)
        share = group.share(size)
        loss = ops.cross_entropy(forward(x[share.rows], share), targets[share.rows])
        model.zero_grad()
        loss.backward(np.array(share.weight))
        total = group.all_reduce(np.array([loss.item() * share.weight]))
        gradients = {name: p.grad for name, p in model.named_parameters()}
        results.append((total.item(), gradients, model.rng.bit_generator.state))
    return results


@pytest.mark.parametrize(("number", "threads"), [(2, 1), (3, 1), (2, 2)])
def test_losses_gradients_and_dropped_paths_are_those_of_the_whole_batch(number, threads):
    """7 samples divide by none of them; of 2 samples the third rank has none."""
    sizes = (7, 8, 2, 1)
    want = differentiated(Group(), 0.5, 1, sizes)
    got = ranks.run(number, differentiated, 0.5, threads, sizes)
    for rank in got:
        for ours, theirs in zip(rank, want, strict=True):
            assert abs(ours[0] - theirs[0]) < 1e-13
            for name, g in theirs[1].items():
                assert np.abs(ours[1][name] - g).max() < 1e-13, name
            assert ours[2] == theirs[2]
    for other in got[1:]:  # and all ranks have the same bits
        for ours, theirs in zip(other, got[0], strict=True):
            assert all(np.array_equal(ours[1][n], g) for n, g in theirs[1].items())


def test_without_a_share_nothing_is_summed():
    model, (x, targets) = tiny_model(), batch(5)
    split = data_parallel(model, 1, Group())
    one = ops.cross_entropy(split(x), targets)
    assert one.item() == ops.cross_entropy(model(x), targets).item()


def test_a_layer_that_needs_the_whole_batch_is_refused():
    with pytest.raises(
        ValueError, match=r"BatchNorm2d needs the whole batch, which 3 ranks.*process"
    ):
        data_parallel(BatchNorm2d(2), group=of(1, 3))


def test_the_cores_of_a_machine_are_divided_among_its_ranks(monkeypatch):
    monkeypatch.setattr("minswin.parallel.cores", lambda: 8)
    group = of(0, 4)
    group.ranks_here = 3
    assert data_parallel(tiny_model(), group=group)._threads == 2
    group.ranks_here = 16
    assert data_parallel(tiny_model(), group=group)._threads == 1


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────


def one_fails(group):
    return group.all_failed(0.2) if group.rank else None


def all_fail(group):
    return group.all_failed(30)


def test_a_failed_rank_learns_whether_the_others_failed_too():
    assert ranks.run(2, all_fail) == [True, True]


def test_a_rank_that_failed_alone_ends_all():
    code = (
        "from minswin.distributed import world; g = world()\n"
        "if g.rank: print('alone', not g.all_failed(0.2), flush=True); g.abort(3)\n"
        "g.barrier()"
    )
    done = ranks.start(2, "-c", code, timeout=HANG)
    assert done.returncode == 3 and "alone True" in done.stdout


def test_last_words_are_read_before_the_others_are_ended():
    source, sink = os.pipe()
    heard = []

    def listen_late():
        time.sleep(0.2)
        heard.append(os.read(source, 100))

    with os.fdopen(sink, "w") as stream, ThreadPoolExecutor(1) as pool:
        print("what was wrong", file=stream, flush=True)
        listening = pool.submit(listen_late)
        _wait_until_read(stream)
        assert heard == [b"what was wrong\n"]
        listening.result()
        print("to nobody", file=stream, flush=True)
        _wait_until_read(stream, patience=0.0)  # ends all the same
    os.close(source)
    _wait_until_read(io.StringIO("no pipe"))


def test_signals_are_handled_while_a_rank_waits_for_another():
    code = (
        "import os, signal, threading; from minswin.distributed import world; g = world()\n"
        "def note(*_): print('noted', flush=True); g.abort(0)\n"
        "signal.signal(signal.SIGUSR1, note)\n"
        "if not g.rank:\n"
        "    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()\n"
        "    g.barrier()\n"
        "else:\n"
        "    threading.Event().wait(2000)"
    )
    done = ranks.start(2, "-c", code, timeout=HANG)
    assert "noted" in done.stdout


def test_mpi_is_a_group_of_one_for_a_process_that_was_started_alone():
    ranks.mpiexec()
    code = (
        "from minswin.distributed import world; g = world('mpi'); print(type(g).__name__, g.size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ranks.environment(), capture_output=True, timeout=HANG
    )
    assert done.stdout.split() == [MPIGroup.__name__.encode(), b"1"], os.fsdecode(done.stderr)
