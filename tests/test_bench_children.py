"""A contender runs in a child process, with an environment and an end of its own."""

from __future__ import annotations

import os

import pytest

from minswin.bench import race
from minswin.bench.children import Child, Failed, blas_threads, call


def counter(start):
    """Adds up what it is asked, in its child."""
    total = start
    while True:
        total += yield total


def test_a_child_answers_and_keeps_its_state():
    with Child(counter, 5) as child:
        assert (child.answer, child.ask(2), child.ask(3)) == (5, 7, 10)


def test_a_child_that_fails_says_why_and_one_that_dies_is_noticed():
    with pytest.raises(Failed, match="ValueError: invalid literal for int"):
        call(int, "x")
    with pytest.raises(Failed, match=r"its process ended \(exit code 3"):
        call(os._exit, 3)


def test_the_environment_of_a_child_is_its_own(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert call(os.getenv, "MKL_NUM_THREADS", environment=blas_threads(3)) == "3"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_a_child_can_be_without_a_variable(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert call(os.getenv, "OPENBLAS_CORETYPE", environment=race.ENVIRONMENT) is None
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"
