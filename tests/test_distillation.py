"""A DeiT learns from a trained ResNet: who changes, by what loss, resumed how, refused when."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import assert_same_run, stop_after
from tiny_training import install, tiny_load, tiny_settings

from minswin import cli, data, no_grad
from minswin.data import Dataset
from minswin.models.deit import DistilledVisionTransformer
from minswin.models.registry import CLASSES, MODELS
from minswin.models.resnet import ResNet
from minswin.training import load_trained_model, recipe, resume, train
from minswin.training.checkpoints import BEST, LAST, export, read_checkpoint
from minswin.training.inputs import training_batches
from minswin.training.run import Run

RESNET = {"img_size": 8, "width": 8, "depths": (1, 1), "stem": "cifar", "shortcut": "padding"}
DEIT = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2}


def install_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, made, family in (
        ("tiny_resnet", RESNET, ResNet),
        ("tiny_deit", {**DEIT, "drop_path_rate": 0.2}, DistilledVisionTransformer),
    ):
        monkeypatch.setitem(MODELS, name, made)
        monkeypatch.setitem(CLASSES, name, family)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    install_models(monkeypatch)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ResNet that was trained by the same command."""
    folder: Path = tmp_path_factory.mktemp("runs") / "teacher"
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        install_models(patch)
        options = {"model": "tiny_resnet", "epochs": 8, "mixup": 0.0, "cutmix": 0.0}
        assert cli.main(["train", "--quiet", *flat(out=folder, **options)]) == 0
    return folder


def flat(**options: Any) -> list[str]:
    usual = {"batch_size": 10, "lr": 0.02, "holdout": 0, "checkpoint_every": 0}
    given = {**usual, **options}.items()
    return [part for k, v in given for part in (f"--{k.replace('_', '-')}", str(v))]


def student(folder: Path, teacher: Path, **settings: Any) -> Any:
    return tiny_settings(folder, **{"model": "tiny_deit", "teacher": str(teacher), **settings})


def run_of(folder: Path, teacher: Path, **settings: Any) -> Run:
    folder.mkdir(exist_ok=True)
    run = Run(student(folder, teacher, **settings))
    run.model.train()
    return run


# ── who changes ──────────────────────────────────────────────────────────────────────────────────


def test_a_resnet_is_trained_by_the_same_command(teacher: Path) -> None:
    info = read_checkpoint(teacher / LAST).info
    assert info["model"]["name"] == "tiny_resnet" and info["teacher"] is None
    assert info["best_accuracy"] > 0.6  # of three colours
    model, _ = load_trained_model(teacher)
    assert model.bn1.num_batches_tracked.item() % 6 == 0 < model.bn1.num_batches_tracked.item()


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_and_statistics_reach_the_student_only(
    tmp_path: Path, teacher: Path, kind: str, threads: int
) -> None:
    run = run_of(tmp_path, teacher, distillation=kind, threads=threads)
    assert run.teaching is not None
    wise = run.teaching._teacher.model
    before = {name: array.copy() for name, array in wise.state_dict().items()}
    for step in range(2):
        loss, logits = run.loss(*run.batches.batch(0, step))
        loss.backward()
        run.optimizer.step(0.01)
        run.model.train()
    assert logits.shape == (8, 3)
    assert all(p.grad is None for p in wise.parameters())
    assert all(p.grad is not None and p.grad.any() for p in run.model.parameters())
    after = wise.state_dict()
    assert [name for name in before if before[name].tobytes() != after[name].tobytes()] == []
    assert not any(layer.training for layer in wise.layers_within())
    run.close()


def test_two_threads_give_the_loss_and_the_gradients_of_one(tmp_path: Path, teacher: Path) -> None:
    found = []
    for threads in (1, 2):
        run = run_of(tmp_path, teacher, threads=threads)
        loss, _ = run.loss(*run.batches.batch(0, 0))
        loss.backward()
        found.append((loss.item(), [p.grad for p in run.model.parameters()]))
        run.close()
    (one, ours), (two, theirs) = found
    assert one == pytest.approx(two, rel=1e-6)
    for g, h in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(g, h, rtol=1e-4, atol=1e-6)


# ── the loss ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("kind", "alpha"), [("hard", 0.5), ("hard", 0.2), ("soft", 0.3)])
def test_the_loss_equals_numbers_worked_out_by_hand(
    tmp_path: Path, teacher: Path, kind: str, alpha: float
) -> None:
    run = run_of(
        tmp_path, teacher, distillation=kind, alpha=alpha, temperature=2.0, smoothing=0.0,
        mixup=0.0, cutmix=0.0,
    )  # fmt: skip
    run.model.eval()  # no drop path
    x, labels = run.batches.batch(0, 0)
    wise, _ = load_trained_model(teacher)
    with no_grad():
        heads = [h.data.astype(float) for h in run.model.both(x)]
        advice = wise(x).data.astype(float)
    total = 0.0
    for b in range(len(x)):
        of_label = -log_softmax(heads[0][b])[labels[b]]
        if kind == "hard":
            of_teacher = -log_softmax(heads[1][b])[int(advice[b].argmax())]
        else:
            p, q = log_softmax(advice[b] / 2), log_softmax(heads[1][b] / 2)
            of_teacher = 4 * sum(math.exp(p[k]) * (p[k] - q[k]) for k in range(3)) / 3
        total += (1 - alpha) * of_label + alpha * of_teacher
    loss, logits = run.loss(x, labels)
    assert loss.item() == pytest.approx(total / len(x), rel=1e-5)
    np.testing.assert_allclose(logits, (heads[0] + heads[1]) / 2, rtol=1e-4, atol=1e-5)
    run.close()


def log_softmax(row: np.ndarray) -> list[float]:
    total = math.log(sum(math.exp(v) for v in row))
    return [v - total for v in row]


def test_the_teacher_sees_the_augmented_batch(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path, teacher)
    assert run.teaching is not None
    seen: list[Any] = []
    for part in ("_teacher", "_student"):
        own = getattr(run.teaching, part)
        monkeypatch.setattr(
            run.teaching, part, lambda x, *share, own=own: (seen.append(x), own(x))[1]
        )
    x, targets = run.batches.batch(1, 2)
    run.loss(x, targets)
    assert len(seen) == 2 and seen[0] is seen[1] is x
    assert targets.shape == (8, 3)  # mixed


@pytest.mark.parametrize("how", ["weights to begin with", "resumed"])
def test_the_teacher_sees_images_normalised_as_its_own_were(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    others = (0.3, 0.4, 0.5), (0.2, 0.3, 0.4)
    settings = student(tmp_path, teacher)
    if how == "resumed":
        run = Run(settings)
        run.normalise_by(*others)  # as Folder.restore does
    else:
        monkeypatch.setattr("minswin.training.run.begin_with", lambda *_, **__: others)
        run = Run(replace(settings, weights="of ImageNet"))
    assert run.teaching is not None
    seen: list[Any] = []
    see = run.teaching._teacher
    x, targets = run.batches.batch(0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(run.teaching, "_teacher", lambda x: (seen.append(x), see(x))[1])
        run.loss(x, targets)
    learnt = training_batches(run.train_set, settings).batch(0, 1)[0]
    assert abs(x - learnt).max() > 0.1
    np.testing.assert_allclose(seen[0], learnt, rtol=1e-5, atol=1e-5)
    assert seen[0].dtype == np.float32
    run.close()


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_stopped_run_goes_on_to_the_bits_of_the_unbroken_one(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"distillation": "soft", "temperature": 2.5, "alpha": 0.4, "threads": 2, "epochs": 2}
    assert train(student(tmp_path / "whole", teacher, **own), quiet=True).interrupted is None
    with monkeypatch.context() as patch:
        stop_after(patch, 10)
        assert train(student(tmp_path / "broken", teacher, **own), quiet=True).interrupted
    assert resume(tmp_path / "broken", quiet=True).interrupted is None
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    info = read_checkpoint(tmp_path / "whole" / LAST).info
    kept = {name: info["settings"][name] for name in ("distillation", "temperature", "alpha")}
    assert kept == {name: own[name] for name in kept}
    assert info["teacher"]["model"] == "tiny_resnet"


def test_the_teacher_may_move_but_not_change(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes((teacher / BEST).read_bytes())
    stop_after(monkeypatch, 3)
    train(student(tmp_path / "run", moved, epochs=1), quiet=True)
    other = tmp_path / "other.safetensors"
    export(moved, other)  # rounded to float16
    moved.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint \S+moved.safetensors"):
        resume(tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match=r"but the run began with a 'tiny_resnet' of check sum"):
        resume(tmp_path / "run", quiet=True, teacher=str(other))
    arguments = ["--resume", str(tmp_path / "run"), "--teacher", str(teacher), "--quiet"]
    assert cli.main(["train", *arguments]) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_an_exported_file_teaches_and_an_exported_student_names_no_folder(
    tmp_path: Path, teacher: Path
) -> None:
    export(teacher, tmp_path / "teacher.safetensors")
    train(student(tmp_path / "run", tmp_path / "teacher.safetensors", epochs=1), quiet=True)
    export(tmp_path / "run", tmp_path / "student.safetensors")
    info = read_checkpoint(tmp_path / "student.safetensors").info
    assert info["settings"]["teacher"] is None and info["teacher"]["model"] == "tiny_resnet"
    assert str(tmp_path) not in str(info)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


def refused(folder: Path, teacher: Path | str, **settings: Any) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        Run(student(folder, Path(teacher), **settings))
    return str(caught.value)


def test_a_model_without_a_distillation_head_is_refused(tmp_path: Path, teacher: Path) -> None:
    message = refused(tmp_path, teacher, model="tiny")
    assert "tiny has no distillation head, so it cannot learn from a teacher; leave out" in message
    assert "deit_cifar_distilled" in message


def test_a_teacher_that_is_missing_or_that_the_run_would_replace_is_refused(
    tmp_path: Path, teacher: Path
) -> None:
    assert "there is no checkpoint" in refused(tmp_path, tmp_path / "nowhere.safetensors")
    assert "this run would replace its teacher" in refused(teacher, teacher)


def of_other_size(*arguments: Any, **settings: Any) -> Dataset:
    images = tiny_load(*arguments, **settings)
    wider = np.pad(images.images, ((0, 0), (0, 0), (0, 0), (0, 4)))
    return Dataset(wider, images.labels, images.classes, images.name)


def of_four_classes(*arguments: Any, **settings: Any) -> Dataset:
    images = tiny_load(*arguments, **settings)
    return Dataset(images.images, images.labels, (*images.classes, "grey"), images.name)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (of_other_size, "was trained on images (3, 8, 8), those of 'shapes' are (3, 8, 12); train"),
        (of_four_classes, "tells the 3 classes of 'shapes' apart, not the 4 of 'shapes'; train"),
    ],
)
def test_a_teacher_for_another_task_is_refused(
    tmp_path: Path, teacher: Path, load: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load", load)
    assert message in refused(tmp_path, teacher)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 2.0}, "recipe: temperature says how to learn from a teacher, and there"),
        ({"teacher": "a", "temperature": 0}, "Settings: temperature must be a number above 0, got"),
        ({"teacher": "a", "alpha": 1.5}, "Settings: alpha must be 0 to 1, the share of the teach"),
        ({"teacher": "a", "distillation": "firm"}, "distillation must be one of hard, soft; got"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        recipe("shapes", **settings)
    assert message in str(caught.value)
