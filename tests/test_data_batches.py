"""Batches: every sample once, the same after a resume, and targets that fit the images."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minswin.data import LEVELS, STATISTICS, Augmentation, Batches, Dataset, normalize, one_hot
from minswin.data.batches import ORDER, STEP
from minswin.data.dataset import stream

N, K = 23, 5
FULL = {"augment": "strong", "mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1}


def numbered(count=N, side=16, name="cifar10"):
    """Sample i is an even picture of brightness i."""
    images = (
        np.zeros((count, 3, side, side + 4), np.uint8)
        + np.arange(count, dtype=np.uint8)[:, None, None, None]
    )
    labels = np.random.default_rng(0).integers(0, K, count)
    return Dataset(images, labels, tuple("abcde"), name)


def noisy(count=N):
    images = np.random.default_rng(1).integers(0, 256, (count, 3, 16, 20), dtype=np.uint8)
    return Dataset(images, np.arange(count) % K, tuple("abcde"), "cifar10")


def samples(x):
    """The numbers of the samples in a batch of numbered()."""
    mean, std = STATISTICS["cifar10"]
    return np.rint((x[:, 0, 0, 0] * std[0] + mean[0]) * 255).astype(int).tolist()


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# ---- which samples ---------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 3))
def test_an_epoch_holds_every_sample_once_but_for_a_dropped_rest(count, size, drop_last, epoch):
    if drop_last and size > count:
        return
    batches = Batches(numbered(count, side=2), size, seed=1, drop_last=drop_last)
    got = [samples(x) for x, _ in batches.epoch(epoch)]
    seen = [number for part in got for number in part]
    assert len(got) == len(batches)
    assert len(set(seen)) == len(seen) == (count // size * size if drop_last else count)
    assert all(len(part) == size for part in got[:-1])


def test_labels_go_with_their_images():
    dataset = numbered()
    for x, targets in Batches(dataset, 6, seed=1, augment="none").epoch(2):
        assert targets.dtype == np.int64
        assert targets.tolist() == dataset.labels[samples(x)].tolist()


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        return tuple(Batches(numbered(), 4, seed=seed).order(epoch))

    assert order(0, 1) == order(0, 1)
    assert len({order(0, 0), order(0, 1), order(1, 0), order(1, 1), tuple(range(N))}) == 5


def test_evaluation_gives_every_sample_in_order_unchanged_with_labels():
    dataset = noisy()
    batches = Batches.evaluation(dataset, 10)
    parts = list(batches.epoch(3))
    assert [len(x) for x, _ in parts] == [10, 10, 3] and len(batches) == 3
    mean, std = STATISTICS["cifar10"]
    x = np.concatenate([x for x, _ in parts])
    np.testing.assert_array_equal(x, normalize(dataset.images, mean=mean, std=std))
    np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), dataset.labels)


# ---- resuming --------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_a_resumed_epoch_goes_on_exactly(level):
    def fresh():
        return Batches(noisy(), 4, seed=9, **{**FULL, "augment": level})

    whole = list(fresh().epoch(5))
    for start in range(len(whole) + 1):
        rest = list(fresh().epoch(5, start=start))
        assert len(rest) == len(whole) - start
        assert all(same(a, b) for a, b in zip(rest, whole[start:], strict=True))


def test_a_batch_depends_on_nothing_that_was_asked_before():
    batches = Batches(noisy(), 4, seed=9, **FULL)
    places = [(e, s) for e in range(3) for s in range(len(batches))]
    first = {place: Batches(noisy(), 4, seed=9, **FULL).batch(*place) for place in places}
    for place in [*places, *reversed(places)]:
        assert same(batches.batch(*place), first[place])
    results = {}

    def work(mine):
        for place in mine:
            results[place] = batches.batch(*place)

    threads = [threading.Thread(target=work, args=(places[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(results[place], first[place]) for place in places)


def test_steps_draw_different_numbers():
    dataset = noisy(1)
    batches = Batches(
        dataset.subset([0] * 40), 4, seed=0, augment=Augmentation(padding=4), drop_last=False
    )
    firsts = {x[0].tobytes() for e in range(4) for x, _ in batches.epoch(e)}
    assert len(firsts) > 25  # of 40, each one of 81 places


def test_the_first_step_and_the_order_share_no_numbers():
    drawn = {stream(7, ORDER, 3).integers(2**63), stream(7, STEP, 3, 0).integers(2**63)}
    assert len(drawn) == 2


def test_batches_are_the_same_in_another_process():
    code = (
        "import numpy as np; from minswin.data import Batches, load; "
        "d = load('shapes', split='train', count=20); "
        "b = Batches(d, 6, seed=2, augment='strong', mixup=1); "
        "x, y = b.batch(3, 1); print(x.sum(dtype=float), (x * y.sum()).max())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1 and runs != {""}


# ---- what is in a batch ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "soft"),
    [
        ({}, False),
        ({"augment": "strong"}, False),
        ({"mixup": 0.8}, True),
        ({"cutmix": 1.0}, True),
        ({"smoothing": 0.1}, True),
        (FULL, True),
    ],
)
def test_targets_are_labels_until_something_makes_them_soft(changes, soft):
    x, targets = Batches(noisy(), 6, seed=0, **changes).batch(0, 0)
    assert (x.shape, x.dtype) == ((6, 3, 16, 20), np.float32)
    if soft:
        assert (targets.shape, targets.dtype) == ((6, K), np.float32)
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
        assert targets.min() >= 0
    else:
        assert (targets.shape, targets.dtype) == ((6,), np.int64)


def test_smoothing_alone_is_one_hot_of_the_labels():
    hard, soft = (Batches(noisy(), 6, seed=0, smoothing=s).batch(1, 2) for s in (0.0, 0.2))
    np.testing.assert_array_equal(soft[0], hard[0])
    np.testing.assert_array_equal(soft[1], one_hot(hard[1], classes=K, smoothing=0.2))


def test_with_mixup_and_cutmix_each_batch_is_one_or_the_other_half_of_the_time():
    batches = Batches(numbered(side=8), 7, seed=0, mixup=0.8, cutmix=1.0)
    pasted = 0
    for epoch in range(100):
        for x, _ in batches.epoch(epoch):
            pasted += any(np.ptp(image[0]) > 0 for image in x)  # an even image stays so in mixup
    assert 120 < pasted < 180  # of 300; some boxes cover all or nothing


def test_mixed_targets_fit_the_mixed_images():
    for changes in ({"mixup": 0.8}, {"cutmix": 1.0}):
        batches = Batches(numbered(), 7, seed=0, **changes)
        plain = Batches(numbered(), 7, seed=0)
        for (x, targets), (x0, labels) in zip(batches.epoch(1), plain.epoch(1), strict=True):
            a, b = x0.mean(axis=(1, 2, 3)), x0[::-1].mean(axis=(1, 2, 3))
            first = np.argmax(np.abs(a - b))
            share = (x.mean(axis=(1, 2, 3))[first] - b[first]) / (a - b)[first]
            hot = one_hot(labels, classes=K)
            np.testing.assert_allclose(targets, share * hot + (1 - share) * hot[::-1], atol=1e-4)


def test_each_level_does_what_it_says():
    dataset = noisy()
    sets = {level: Batches(dataset, 23, seed=0, augment=level).batch(0, 0)[0] for level in LEVELS}
    mean, std = STATISTICS["cifar10"]
    order = Batches(dataset, 23, seed=0).order(0)
    plain = normalize(dataset.images[order], mean=mean, std=std)
    np.testing.assert_array_equal(sets["none"], plain)
    corner = normalize(np.zeros((1, 3, 1, 1), np.uint8), mean=mean, std=std)[0, :, 0, 0]
    for image, got in zip(plain, sets["basic"], strict=True):
        wide = np.tile(corner[:, None, None], (1, 24, 28))
        options = []
        for mirrored in (image, image[:, :, ::-1]):
            wide[:, 4:20, 4:24] = mirrored
            options += [wide[:, y : y + 16, x : x + 20].copy() for y in range(9) for x in range(9)]
        assert any(np.array_equal(got, option) for option in options)
    erased = Batches(dataset, 23, seed=0, augment=Augmentation(erasing=1.0)).batch(0, 0)[0]
    share = (erased != plain).mean(axis=(1, 2, 3))
    assert share.min() > 0 and share.max() < 0.5
    assert (sets["strong"] != sets["basic"]).any(axis=(1, 2, 3)).mean() > 0.5
    assert LEVELS["strong"] == Augmentation(True, 4, operations=2, magnitude=9.0, erasing=0.25)


def test_mean_and_std_are_those_of_the_named_set_unless_given():
    dataset = noisy()
    own = Batches(dataset, 6, seed=0).batch(0, 0)[0]
    other = Batches(dataset, 6, seed=0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 1.0)).batch(0, 0)[0]
    mean, std = (np.array(s)[:, None, None] for s in STATISTICS["cifar10"])
    pixels = own * std + mean
    half = Batches(dataset, 6, seed=0, mean=(0.5, 0.5, 0.5)).batch(0, 0)[0]
    np.testing.assert_allclose(half, (pixels - 0.5) / std, atol=1e-5)
    np.testing.assert_allclose(
        other, (pixels - 0.5) / np.array([0.5, 0.25, 1])[:, None, None], atol=1e-5
    )


def test_the_first_epochs_are_shown_pieces_of_the_same_samples():
    settings = {"seed": 3, "augment": "basic", **{k: FULL[k] for k in ("mixup", "smoothing")}}
    whole, pieces = (
        Batches(numbered(), 6, **settings, **own) for own in ({}, {"piece": 7, "piece_epochs": 2})
    )
    for epoch in range(4):
        for (x, targets), (y, wanted) in zip(whole.epoch(epoch), pieces.epoch(epoch), strict=True):
            assert y.shape == ((6, 3, 7, 7) if epoch < 2 else x.shape)
            assert targets.shape == wanted.shape
            if epoch >= 2:
                assert same((x, targets), (y, wanted))
    assert all(np.array_equal(whole.order(e), pieces.order(e)) for e in range(4))


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"batch_size": 24},
            "batch_size is 24, expected 1 to 23, the number of samples in cifar10",
        ),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"augment": "storng"}, "'storng', expected one of none, basic, strong"),
        ({"mixup": -0.1}, "mixup is -0.1"),
        ({"cutmix": -1}, "cutmix is -1"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"piece": 17, "piece_epochs": 1}, "piece is 17, expected 1 to 16"),
        ({"piece_epochs": 1}, "piece is 0, expected 1 to 16"),
        ({"dataset": numbered(name="mine")}, "colours of 'mine'; give mean and std"),
        ({"std": (1, 0, 1)}, "std above 0"),
    ],
)
def test_batches_refuse_settings_that_cannot_be(changes, said):
    settings = {"dataset": numbered(), "batch_size": 6, "seed": 0, **changes}
    with pytest.raises(ValueError, match=said):
        Batches(settings.pop("dataset"), settings.pop("batch_size"), **settings).batch(0, 0)


def test_steps_outside_the_epoch_are_refused_at_once():
    batches = Batches(numbered(), 6, seed=0)
    with pytest.raises(ValueError, match="start is 4, expected 0 to 3"):
        batches.epoch(0, start=4)
    for step in (3, -1):
        with pytest.raises(IndexError, match=f"step is {step}, expected 0 to 2"):
            batches.batch(0, step)
