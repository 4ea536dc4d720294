"""The search: what is looked up changes no number, and the time of other processes counts."""

from __future__ import annotations

import inspect
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import score

from minswin.around import around
from minswin.crosscheck.building import forked
from minswin.crosscheck.edits.functions import forget, reaches
from minswin.crosscheck.ground import Ground, frozen
from minswin.crosscheck.search import EQUAL, Clock, Search, rms
from minswin.crosscheck.site import sites_of
from minswin.models import create_model
from minswin.reference.elementwise import gelu
from minswin.reference.linear import linear
from minswin.reference.windows import attention_mask, relative_position_index, shift_regions


def test_a_definition_reaches_what_it_calls() -> None:
    from minswin.reference.windows import _cut, window_partition

    assert reaches(window_partition, _cut) and reaches(gelu, gelu)
    assert not reaches(linear, gelu)


@pytest.mark.parametrize("given", [(), ("q", "scores")])
def test_what_is_looked_up_gives_the_same_numbers(given: tuple[str, ...]) -> None:
    """Of every twelfth edit of an attention, with what the right run and other edits gave."""
    truth = score.truth("square")
    have = {n: np.array(x) for n, x in truth.arrays["float32"].items()}
    for name in [n for n in have if n.startswith("layers.0.blocks.1.attn.")]:
        aside = name.rpartition(".")[2] not in given
        if aside and truth.steps[name].op != "parameter":
            del have[name]
    have = {n: x for n, x in have.items() if not n.startswith(("cotangent/", "after/"))}
    target = "layers.0.blocks.1.attn.proj"
    have[target] = np.array(truth.arrays["float32"][target])
    site = sites_of(Ground(truth, have), target)[0]
    assert site.is_of_layers == (not given)
    search = Search(site, 2.0**-24, Clock(60))
    tried = search.singles(set())[::12]
    quick = [search.value(e) for e in tried]
    assert given or sum(bool(search._way(e)) for e in tried) > len(tried) / 2  # of parts alone
    compared = 0
    for edit, value in zip(tried, quick, strict=True):
        slow = None
        with suppress(Exception), np.errstate(all="ignore"), edit.planted():
            slow = site.run()  # which raises where an edit makes no sense
        assert (value is None) == (slow is None or not np.isfinite(slow).all()), edit.diff
        if value is not None:
            assert rms(value - slow) <= EQUAL * rms(slow), edit.diff  # one, as for a search
            compared += 1
    assert compared > 40
    assert len(search.same) < compared  # many are one

    def rounded(go: Any, definition: Any, inputs: Any, settings: Any) -> Any:
        result = go(definition, inputs, settings)
        result.data = np.round(result.data, 1)
        return result

    with around(rounded):
        assert np.abs(site.value() - search.right).max() > 1e-3  # nothing of the right run


def test_an_edit_empties_the_tables_that_its_function_makes_and_no_others() -> None:
    window = (2, 3)
    mask, index = attention_mask((4, 6), window, (1, 1)), relative_position_index(window)
    forget(inspect.unwrap(shift_regions))
    assert attention_mask((4, 6), window, (1, 1)) is not mask
    assert relative_position_index(window) is index


def burn(seconds: float = 0.05) -> None:
    """Use so many CPU seconds."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_time_of_another_process_counts() -> None:
    clock = Clock(10)
    forked(burn)
    assert clock.left < 10 - 0.05 + 0.02  # of a child, hundredths are counted


def test_another_process_has_no_more_time_than_is_left() -> None:
    search = Search.__new__(Search)
    burn()
    search.clock, search.count, search.tell, search.site = Clock(0), 7, print, None
    assert search.apart([object()], "edits of building") == []
    assert search.count == 7  # nothing was tried


def test_an_edited_text_cannot_write_into_running_statistics() -> None:
    """A norm that is made to train would, and what is tried after it starts from others."""
    model = frozen(create_model("resnet18", depths=(1, 1, 1, 1), num_classes=3, rng=0))
    assert not any(x.flags.writeable for x in model.state_dict().values())
