"""A comparison as data and as a page: all that the report says, and how much it rests on."""

from __future__ import annotations

import json
import re
from functools import cache
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import score

from minswin.cli import main
from minswin.crosscheck import folder
from minswin.crosscheck.compare import Comparison, compare
from minswin.crosscheck.diagnose import Diagnosis, diagnose
from minswin.crosscheck.edits.classics import classics, planted
from minswin.crosscheck.findings import coverage, unseen_layers
from minswin.crosscheck.html import page_of
from minswin.crosscheck.recording import GIVEN
from minswin.crosscheck.results import data_of, report


@cache
def wrong() -> tuple[Comparison, Diagnosis | None]:
    with planted(next(f for f in classics() if f.name == "no scale")):
        theirs = score.run("square", ("float32",)).arrays["float32"]
    found = compare(score.truth("square"), theirs)
    return found, diagnose(score.truth("square"), found, seconds=5)


def test_the_command_writes_data_and_a_page_that_say_what_it_prints(
    tmp_path: Path, capsys: Any
) -> None:
    truth = score.truth("square")
    folder.write(truth, tmp_path / "truth")
    theirs = {n: truth.arrays["float32"][n] for n in ("image", "norm", "head")}
    theirs["head"] = theirs["head"] + 1
    np.savez(tmp_path / "x.npz", **theirs)  # type: ignore[arg-type]
    command = ["compare", str(tmp_path / "truth"), str(tmp_path / "x.npz"), "--quick"]
    files = ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
    assert main([*command, *files]) == 1
    printed = capsys.readouterr().out
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert data["verdict"] == "wrong" and data["first"]["name"] == "head"
    assert data["command"] == " ".join(["minswin", *command, *files]) and data["command"] in printed
    assert data["rests on"]["values"]["by_name"] == 2
    assert "2 of" in printed and "not seen  patch_embed, layers" in printed
    assert data["rests on"]["layers not seen"] == ["patch_embed", "layers"]
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page == page_of(data) and data["first"]["our line"].split()[0] in page
    first, values = data["first"], data["rests on"]["values"]["in words"]
    for line in (*data["summary"], first["where"], first["how much"], first["judged"], values):
        assert line in printed and escape(line) in page


def test_what_is_paired_by_its_shape_alone_is_told_as_a_guess() -> None:
    truth = score.truth("square")
    logits = 2 * truth.arrays["float32"]["head"]
    told = [
        report(data_of(truth, compare(truth, {name: logits}), None)) for name in ("mine", "head")
    ]
    assert ["by its shape alone" in text for text in told] == [True, False]


def test_all_that_is_wrong_stands_in_the_data_with_numbers_of_json() -> None:
    comparison, diagnosis = wrong()
    data = data_of(score.truth("square"), comparison, diagnosis, "again")
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    by_name = {row["name"]: row for row in data["tensors"]}
    for f in comparison.findings:
        if f.verdict == "missing":
            assert f.name in data["missing"]
        else:
            assert by_name[f.name]["verdict"] == f.verdict
            assert by_name[f.name]["absolute"] == f.absolute
    assert [c["words"] for c in data["diagnosis"]["causes"]] == [
        cause.name
        for cause in diagnosis.causes  # type: ignore[union-attr]
    ]
    assert data["diagnosis"]["causes"][0]["diff"][0].startswith("- ")


class _Page(HTMLParser):
    """Which tags stand open, and what the page asks others for."""

    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.others: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        words = dict(attrs)
        self.open += [tag] if tag not in self.VOID else []
        self.rows += [words] if tag == "tr" and "id" in words else []
        self.links += [words.get("href") or ""] if tag == "a" else []
        self.others += [x for n, x in attrs if n in ("src", "srcset") or tag == "link"]  # type: ignore[misc]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_needs_nothing_beside_it_and_its_links_lead_somewhere() -> None:
    comparison, diagnosis = wrong()
    data = data_of(score.truth("square"), comparison, diagnosis, "a < b & c")
    text = page_of(data)
    page = _Page()
    page.feed(text)
    assert page.open == [] and page.others == []
    assert not re.search(r"@import|url\(|<script", text)
    assert len(page.rows) == len(data["tensors"])
    anchors = {f"#{row['id']}" for row in page.rows}
    inside = {x for x in page.links if x.startswith("#")}
    assert inside == anchors
    assert all(x.startswith("https://github.com/") for x in set(page.links) - inside)
    assert "a &lt; b &amp; c" in text and "a < b" not in text
    first = [row for row in page.rows if "first" in str(row["class"])]
    assert [row["id"] for row in first] == ["t-" + comparison.first.name]  # type: ignore[union-attr]


def test_a_verdict_says_how_much_it_rests_on() -> None:
    truth = score.truth("square")
    theirs = {f"port/{n}": truth.arrays["float32"][n] for n in ("image", "norm")}
    theirs["head"] = truth.arrays["float32"]["head"]
    theirs["layers.1.blocks.0.attn.q"] = truth.arrays["float32"]["layers.1.blocks.0.attn.q"]
    found = compare(truth, theirs)
    c = coverage(found)
    steps = [s for s in truth.steps.values() if s.op not in GIVEN]
    assert (c.of, c.by_name, c.by_value, c.seen) == (len(steps), 2, 1, 3)
    assert c.by_inputs + c.by_earlier + c.by_truth == 3
    missing = unseen_layers(found)
    assert "layers.0" in missing and "layers.1.blocks.1" in missing
    assert not any(name.startswith(("layers.1.blocks.0.attn", "layers.0.")) for name in missing)
    assert coverage(found, gradients=True).seen == 0
    short = compare(truth, {"head": truth.arrays["float32"]["head"][:, :2]})
    words = data_of(truth, short, None)["rests on"]["values"]["in words"]
    assert words == f"1 of {c.of} seen (1 by name, 0 by their values)"  # and nothing is judged
    both = compare(truth, truth.arrays["float32"])
    parameters = [s for s in truth.steps.values() if s.cotangent is not None]
    given = [s for s in parameters if s.op in GIVEN]
    assert coverage(both, gradients=True).by_name == len(given)
