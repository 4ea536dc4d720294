"""The probes find, in other implementations, exactly the differences that are known of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from minswin.crosscheck.adapter import load_adapter
from minswin.crosscheck.conform import examine
from minswin.crosscheck.probes import selected
from minswin.crosscheck.report import DIFFERS, PASSED, REFUSED

from .peers import load_timm, need

pytestmark = pytest.mark.parity
EXAMPLES = Path(__file__).parents[2] / "examples" / "conformance"
REFUSES = {  # the table does not shrink with the window, or on each axis by itself
    "transformers_swin.py": {"model/small_map", "model/low_map", "model/narrow_map"},
    "timm_swin.py": {"model/low_map", "model/narrow_map"},
}
ASKED = ("window_attention/", "window_attention_v2/", "block/", "model/", "build_model/")
ASKED += ("model_vit", "model_deit", "model_tnt")  # of timm
KNOWN = {
    "transformers_swin.py": {
        "window_attention_v2/leaking_mask",  # the mask is added twice
        "build_model/big_small_big",  # the shift is lost after a small image
    },
    "timm_swin.py": {
        "window_attention/padded",  # rolled before it is padded
        "block/padded",
        "model/padded",
        "model/small_padded",
        "block/covered_one_side",  # each axis by itself
        "model/flat_map",
        "build_model/big_small_big",
    },
}


@pytest.mark.parametrize("file", KNOWN)
def test_what_differs_is_what_is_known_to_differ(file, monkeypatch):
    need("transformers")
    load_timm()
    monkeypatch.syspath_prepend(str(EXAMPLES))
    adapter = load_adapter(str(EXAMPLES / file))
    verdicts = [examine(adapter, probe) for probe in selected(ASKED)]
    assert {v.name for v in verdicts if v.status == DIFFERS} == KNOWN[file]
    assert {v.name for v in verdicts if v.status == REFUSED} == REFUSES[file]
    assert sum(v.status == PASSED for v in verdicts) > 15
