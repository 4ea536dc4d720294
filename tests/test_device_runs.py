"""Runs of training on a device: the numbers of the CPU, late readings, recorded steps, feeding."""

from __future__ import annotations

import json

import host_cuda
import numpy as np
import pytest
import standin
import tiny_training
from gpu import require_gpu
from tiny_models import batch, tiny_model
from tiny_training import tiny_settings

from minswin import devices, ops
from minswin.arrays import to_numpy
from minswin.cli import main
from minswin.training import SGD, Diverged, load_trained_model, read_checkpoint, resume, train
from minswin.training.evaluation import evaluate_checkpoint
from minswin.training.folder import Folder
from minswin.training.gpu import WARM_UP, Captured, feed
from minswin.training.run import Run
from minswin.training.updates import Updates


@pytest.fixture
def cupy(monkeypatch):
    tiny_training.install(monkeypatch)
    return standin.use(monkeypatch)


def arrays_of(path):
    saved = read_checkpoint(path)
    groups = "weights", "optimizer", "average"
    return {f"{g}/{n}": a for g in groups for n, a in getattr(saved, g).items()}


def log_of(folder):
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("images_per_second", "out", "device")}
        for line in lines
    ]


def assert_equal_runs(a, b):
    ours, truth = arrays_of(a), arrays_of(b)
    assert ours.keys() == truth.keys()
    for name in truth:
        assert type(ours[name]) is np.ndarray
        assert np.array_equal(ours[name], truth[name]), name


# ── whole runs ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("log_every", [1, 4, 0])
def test_a_run_on_a_device_ends_with_the_bits_and_the_log_of_the_cpu(cupy, tmp_path, log_every):
    """Drop path is on; the captured steps draw the masks that plain steps would."""
    results = {}
    for device in ("cpu", "gpu"):
        results[device] = train(
            tiny_settings(tmp_path / device, device=device, log_every=log_every, clip=0.3),
            quiet=True,
        )
    assert_equal_runs(tmp_path / "gpu", tmp_path / "cpu")
    assert results["gpu"].test_accuracy == results["cpu"].test_accuracy
    assert log_of(tmp_path / "gpu") == log_of(tmp_path / "cpu")


@pytest.mark.parametrize(("cores", "workers"), [(2, 2), (64, 8)])
def test_a_gpu_gets_a_worker_for_each_core_and_at_most_eight(
    cupy, tmp_path, monkeypatch, cores, workers
):
    monkeypatch.setattr("minswin.training.run.cores", lambda: cores)
    assert Run(tiny_settings(tmp_path, device="gpu")).workers == workers
    assert Run(tiny_settings(tmp_path, device="gpu", workers=3)).workers == 3
    assert Run(tiny_settings(tmp_path)).workers == 1


def test_a_run_on_a_device_is_replayed_and_not_run_kernel_by_kernel(cupy, tmp_path, monkeypatch):
    plain, differentiate = [], Updates._forward_backward

    def counted(self, x, targets):
        plain.append(len(x))
        return differentiate(self, x, targets)

    monkeypatch.setattr(Updates, "_forward_backward", counted)
    result = train(tiny_settings(tmp_path, device="gpu"), quiet=True)
    assert result.steps == 21
    assert len(plain) == WARM_UP + 1  # and one to record


def test_a_run_goes_on_on_another_device(cupy, tmp_path, monkeypatch):
    """Here both devices round alike, so even the bits agree."""
    train(tiny_settings(tmp_path / "whole"), quiet=True)
    settings = tiny_settings(tmp_path / "parts", checkpoint_every=5)

    class Stopped(Exception):
        pass

    def stop(folder, *names):
        save(folder, *names)
        if folder.run.step == 10:
            raise Stopped

    save = Folder.save
    monkeypatch.setattr(Folder, "save", stop)
    with pytest.raises(Stopped):
        train(settings, quiet=True)
    monkeypatch.setattr(Folder, "save", save)
    resume(tmp_path / "parts", quiet=True, device="gpu")
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")
    assert read_checkpoint(tmp_path / "parts").info["settings"]["device"] == "gpu"


def test_a_checkpoint_of_a_gpu_is_tested_on_the_cpu_and_the_other_way_round(cupy, tmp_path):
    for device in ("cpu", "gpu"):
        train(tiny_settings(tmp_path / device, device=device, epochs=1), quiet=True)
    found = [
        evaluate_checkpoint(tmp_path / made, device=used).result
        for made in ("cpu", "gpu")
        for used in ("cpu", "gpu")
    ]
    assert len({(r.loss, r.accuracy) for r in found}) == 1
    model, _ = load_trained_model(tmp_path / "gpu")
    assert all(type(p.data) is np.ndarray for p in model.parameters())


def test_a_loss_that_is_no_number_is_found_when_it_is_read_and_nothing_is_saved(
    cupy, tmp_path, monkeypatch
):
    compute, seen = Run.loss, []

    def broken(self, x, targets, share):
        loss, logits = compute(self, x, targets, share)
        seen.append(loss)
        return (loss * np.nan if len(seen) == 2 else loss), logits

    monkeypatch.setattr(Run, "loss", broken)
    message = r"loss became nan in epoch 1, step 2 .*; nothing was saved since"
    with pytest.raises(Diverged, match=message):
        train(tiny_settings(tmp_path, device="gpu", log_every=5, checkpoint_every=0), quiet=True)
    assert read_checkpoint(tmp_path).info["step"] == 0


def test_the_command_line_says_what_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    tiny_training.install(monkeypatch)
    folder = str(tmp_path / "run")
    assert main(["train", "--model", "tiny", "--device", "gpu", "--out", folder]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "pip install cupy-cuda13x" in err


# ── recorded steps ───────────────────────────────────────────────────────────────────────────────


def steps_of(cupy, *, record, model, count=7, said=None):
    """Losses of `count` updates, and the weights; forward and backward recorded or plain."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        model.to("gpu").train()

        def differentiate(x, targets):
            model.zero_grad()
            loss = ops.cross_entropy(model(x), targets)
            loss.backward()
            return loss.data

        say = print if said is None else said.append
        step = Captured(differentiate, model, say) if record else differentiate
        optimizer, losses = SGD(model.named_parameters(), 0.1, momentum=0.9), []
        for number in range(count):
            x, targets = batch(4, np.float32)
            x = x + np.float32(0.1 * number)
            losses.append(step(cupy.asarray(x), cupy.asarray(targets)).item())
            optimizer.step(0.1 / (1 + number))
    return losses, [to_numpy(p.data) for p in model.parameters()], step


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rate": 0.5},
        {"rate": 0.5, "drop_rate": 0.2, "attn_drop_rate": 0.1},
        {"rate": 0.5, "recompute": True},
    ],
    ids=["sure", "drop path", "dropout", "recompute"],
)
def test_a_recorded_step_gives_the_numbers_of_a_plain_one(cupy, settings):
    models = [tiny_model(dtype=np.float32, **settings) for _ in range(2)]
    losses, weights, step = steps_of(cupy, record=True, model=models[0])
    truth, true_weights, _ = steps_of(cupy, record=False, model=models[1])
    assert [r.graph.launches for r in step.recordings.values()] == [7 - WARM_UP]
    assert losses == truth and len(set(losses)) == 7
    assert all(np.array_equal(a, b) for a, b in zip(weights, true_weights, strict=True))
    states = [model.rng.bit_generator.state for model in models]
    assert states[0] == states[1]


def test_batch_norm_follows_in_a_recorded_step(cupy):
    from minswin import create_model

    models = [
        create_model("resnet20", img_size=(8, 12), num_classes=5, rng=np.random.default_rng(1))
        for _ in range(2)
    ]
    for model, record in zip(models, (True, False), strict=True):
        steps_of(cupy, record=record, model=model)
    for (name, a), (_, b) in zip(*(m.named_buffers() for m in models), strict=True):
        assert np.array_equal(to_numpy(a.data), to_numpy(b.data)), name
    assert next(t for n, t in models[0].named_buffers() if n.endswith("tracked")).item() == 7


def test_what_cannot_be_captured_is_said_once_and_runs_plainly(cupy, monkeypatch):
    models, said = [tiny_model(dtype=np.float32, rate=0.5) for _ in range(2)], []
    read = ops.cross_entropy

    def curious(logits, targets):
        loss = read(logits, targets)
        loss.item()  # waits for the GPU
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(ops, "cross_entropy", curious)
        losses, _, step = steps_of(cupy, record=True, model=models[0], said=said)
    assert losses == steps_of(cupy, record=False, model=models[1])[0]
    assert step.failed and all(r.graph is None for r in step.recordings.values())
    assert said == [
        "the step cannot be captured (nothing can be read while capturing); "
        "it runs kernel by kernel"
    ]


def test_each_size_of_batch_has_a_recording(cupy):
    said, calls = [], []

    def double(x):
        calls.append(len(x))
        return x * 2

    with cupy.cuda.Stream(non_blocking=True):
        step = Captured(double, tiny_model(), said.append)
        for n in [4, 4, 4, 4, 4, 3, 4, 3, 3, 3, 3, 4]:
            x = np.random.default_rng(n).standard_normal((n, 2))
            assert np.array_equal(step(cupy.asarray(x)).get(), 2 * x)
    assert calls == [4] * (WARM_UP + 1) + [3] * (WARM_UP + 1) and said == []
    assert [r.graph.launches for r in step.recordings.values()] == [4, 2]


# ── batches on their way ─────────────────────────────────────────────────────────────────────────


def some_batches(count):
    rng = np.random.default_rng(2)
    sizes = [5] * (count - 1) + [3]
    return [(rng.random((n, 3, 2, 2), np.float32), rng.integers(0, 9, n)) for n in sizes]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_batch_arrives_whole_and_in_order(cupy, count):
    truth = some_batches(count)
    with cupy.cuda.Stream(non_blocking=True):
        arrived = 0
        for (x, y), (a, b) in zip(feed(truth, "gpu"), truth, strict=True):
            twice = x * 2  # what a step does, and it may do so late
            assert np.array_equal(twice.get(), 2 * a) and np.array_equal(y.get(), b)
            arrived += 1
    assert arrived == count


def test_the_next_batch_is_under_way_while_this_one_is_used(cupy):
    asked = []

    def batches():
        for number, pair in enumerate(some_batches(4)):
            asked.append(number)
            yield pair

    fed = feed(batches(), "gpu")
    next(fed)
    assert asked == [0, 1]


def test_a_place_is_not_written_before_all_that_reads_it_is_done(cupy):
    """Steps that are themselves late still see their own batches."""
    truth = some_batches(7)[:6]  # all of one size
    stream = cupy.cuda.Stream(non_blocking=True)
    results = [cupy.zeros(x.shape, x.dtype) for x, _ in truth]
    with stream:
        for result, (x, _) in zip(results, feed(truth, "gpu"), strict=True):
            stream.waiting.append(lambda x=x, r=result: r.inside.__setitem__(..., x.inside))
        stream.synchronize()
    for result, (x, _) in zip(results, truth, strict=True):
        assert np.array_equal(result.get(), x)


def test_on_the_cpu_the_batches_are_the_very_ones():
    truth = some_batches(3)
    assert all(a is b for a, b in zip(feed(truth, "cpu"), truth, strict=True))


# ── on a GPU ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.gpu
def test_a_run_on_a_gpu_learns_what_the_run_on_the_cpu_learns(tmp_path, monkeypatch):
    require_gpu()
    tiny_training.install(monkeypatch)
    logs, epochs = [], 3 if host_cuda.entered() is None else 1
    for device in ("cpu", "gpu"):
        train(tiny_settings(tmp_path / device, device=device, epochs=epochs), quiet=True)
        logs.append([line["loss"] for line in log_of(tmp_path / device) if "loss" in line])
    assert np.allclose(*logs, rtol=1e-3)


@pytest.mark.gpu
def test_a_step_is_captured_on_a_gpu_and_gives_the_losses_of_plain_steps():
    library = require_gpu()
    said, results = [], []
    for record in (True, False):
        model = tiny_model(dtype=np.float32, rate=0.5)
        results.append(steps_of(library, record=record, model=model, said=said)[0])
    assert said == [] and np.allclose(*results, rtol=1e-5)
    assert devices.device_of(library.zeros(1)) == "gpu:0"
