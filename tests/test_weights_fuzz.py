"""Damaged and hostile weight files are refused clearly or read right; none of them runs anything.

The quick version of fuzz_weights.py, and its judge judged: a reader that errs must not pass.
"""

from __future__ import annotations

import functools
import mmap
import struct
import sys
import tracemalloc
import zipfile
import zlib

import fuzz_weights as fuzz
import numpy as np
import pytest
import weight_damage as damage
import weight_files as build

from minswin.weights import read_weights
from minswin.weights.files import pickles
from minswin.weights.files.mapped import ALLOWANCE, EXPANSION

FEW_AND_MANY = (100, pytest.param(1_000, marks=pytest.mark.long))


@pytest.mark.parametrize("count", FEW_AND_MANY)
@pytest.mark.parametrize("form", build.FORMATS)
def test_mutated_files_are_refused_or_read_right(form, count, tmp_path) -> None:
    tally = fuzz.fuzz(form, count, tmp_path)
    assert not tally.faults, tally.faults[:5]
    assert tally.files == count == tally.refused + tally.read
    assert tally.refused > count / 4 and tally.read > 0
    assert tally.confirmed > 0 or form in ("pth", "legacy")


@pytest.mark.parametrize("module, what", damage.HOSTILE)
def test_no_opcode_calls_a_hostile_name(module, what, tmp_path) -> None:
    """In place of a tensor, beside the weights, and alone; in both formats of torch.save."""
    fuzz.start_watching()
    flag = tmp_path / "ran"
    for way, code in damage.attacks(module, what, f"touch {flag}").items():
        for legacy, form in ((False, build.pth_file), (True, build.legacy_file)):
            items = build.entries(legacy)
            inside = build.dictionary([*items, ("x", code)])
            beside = build.dictionary([("model", build.dictionary(items)), ("x", code)])
            for tree in (code, inside, beside):
                content = form(build.HEAD + tree + build.END)
                end, reason, *_ = fuzz.judge(tmp_path / "w.pth", content)
                assert end == "refused", (way, reason)
    assert not flag.exists()


@pytest.mark.parametrize("module, what", damage.INERT)
def test_a_foreign_name_is_never_imported_nor_called(module, what, tmp_path) -> None:
    fuzz.start_watching()
    for way, code in damage.attacks(module, what, "text").items():
        beside = build.dictionary([("model", build.dictionary(build.entries())), ("x", code)])
        content = build.pth_file(build.HEAD + beside + build.END)
        end, reason, *_ = fuzz.judge(tmp_path / "w.pth", content)
        assert end != "FAULT", (way, reason)
        if way in ("REDUCE", "NEWOBJ"):
            assert end == "read", (way, reason)


def test_an_attack_runs_where_python_reads_the_pickle(tmp_path) -> None:
    """The attacks are real: Python's own machine obeys this one."""
    import pickle

    flag = tmp_path / "ran"
    code = damage.attacks("os", "system", f"touch {flag}")["REDUCE"]
    pickle.loads(build.HEAD + code + build.END)
    assert flag.exists()


# ── memory and time ──────────────────────────────────────────────────────────────────────────────


@functools.lru_cache
def bombs() -> dict[str, bytes]:
    size = 3 * ALLOWANCE
    array = build.npy(np.zeros(0, np.uint8), f"{{'descr': '|u1', 'fortran_order': False, "
                     f"'shape': ({size},), }}")  # fmt: skip
    store = build.storage("Float", "0", 6)
    wide = build.dictionary([("a", build.tensor(store, 0, (1 << 20, 1 << 20), (0, 0)))])
    huge = build.dictionary(
        [("a", build.tensor(build.storage("Float", "0", 1 << 40), 0, (2,), (1,)))]
    )
    backward = build.dictionary([("a", build.tensor(store, 5, (3,), (-1,)))])
    sizes = build.name("torch._utils", "_rebuild_tensor_v2") + b"q\x00" + b"("
    slow = sizes + store + b"K\x00(" + b"K\x01" * 20_000 + b"tq\x01h\x01\x89" + build.ORDERED
    slow += b"tq\x02R" + b"h\x00h\x02R" * 20_000
    pair = b"K\x01K\x01\x86q\x02"
    pairs = build.name("collections", "OrderedDict") + b"q\x00](" + pair + b"h\x02" * 20_000
    pairs += b"e\x85q\x01"
    table = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    return {
        "zip bomb": build.zip_file({"a.npy": array + bytes(size)}, zipfile.ZIP_DEFLATED),
        "expanded": build.pth_file(build.HEAD + wide + build.END),
        "huge storage": build.pth_file(build.HEAD + huge + build.END),
        "negative stride": build.pth_file(build.HEAD + backward + build.END),
        "long shape, again and again": build.pth_file(build.HEAD + slow + build.END),
        "long list, again and again": build.pth_file(
            build.HEAD + pairs + b"h\x00h\x01R" * 1000 + b"."
        ),
        "huge tensor": build.safetensors_file(table),
        "long header": (1 << 62).to_bytes(8, "little") + b"{}",
        "deep header": build.safetensors_file(b'{"a":' * 100_000),
        "deep tuple": build.pth_file(build.HEAD + b")" + b"\x85" * 50_000 + build.END),
        "deep key": build.pth_file(build.HEAD + b"})" + b"\x85" * 50_000 + b"Ns" + build.END),
        "deep list": build.pth_file(build.HEAD + b"]" * 100_000 + b"a" * 99_999 + build.END),
        "entry without end": build.pth_file(build.HEAD + b"Nr" + b"\xff" * 4 + build.END),
        "open marks": build.pth_file(build.HEAD + b"(" * 200_000),
    }


WHY = {
    "zip bomb": "would expand to 50,331,",
    "expanded": "does not fit into its storage of 6 numbers",
    "huge storage": "expected 4,398,046,511,104 for",
    "negative stride": "impossible size for the strides",
    "long shape, again and again": "no shape of at most 64 sizes",
    "long list, again and again": "makes the reader work for too long",
    "huge tensor": "bytes of numbers, expected 4,398,046,511,104",
    "long header": "has a header of 4,611,686,018,427,387,904 bytes",
    "deep header": "nests too deep",
    "deep tuple": "holds a tuple",
    "deep key": "found: nothing",
    "deep list": "holds a list",
    "entry without end": "stores an entry 4,294,967,295",
    "open marks": "nests more than 1,000 deep",
}


@pytest.mark.parametrize("what", bombs())
def test_a_bomb_is_refused_with_memory_bounded_by_the_file(what, tmp_path) -> None:
    content = bombs()[what]
    path = tmp_path / "w"
    fuzz.judge(path, content)
    tracemalloc.start()
    end, reason, *_ = fuzz.judge(path, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert end == "refused" and WHY[what] in reason, reason
    assert peak < EXPANSION * len(content) + ALLOWANCE


def test_tensors_that_overlap_are_refused_in_safetensors(tmp_path) -> None:
    table = b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},'
    table += b'"b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]}}'
    (tmp_path / "w").write_bytes(build.safetensors_file(table, bytes(5)))
    with pytest.raises(ValueError, match="'b' at byte 2, which overlaps the tensor before it"):
        read_weights(tmp_path / "w")


def test_zip_members_that_overlap_are_refused(tmp_path) -> None:
    content = bytearray(build.whole()["npz"])
    first = content.find(b"PK\x01\x02")
    other = content.find(b"PK\x01\x02", first + 1)
    content[other + 42 : other + 46] = content[first + 42 : first + 46]
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ValueError, match=r"two names|on top of what follows|readable directory"):
        read_weights(tmp_path / "w")


def test_a_zip_member_that_claims_the_one_after_it_is_refused(tmp_path) -> None:
    """With sizes and a check sum that agree, an array would hold the bytes of another one."""
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (44,), }"
    first = build.npy(np.zeros(4, np.uint8), header)
    content = bytearray(build.zip_file({"a.npy": first, "b.npy": build.npy(build.STATE["scale"])}))
    start, size = 30 + len("a.npy"), len(first) + 40
    entry = content.find(b"PK\x01\x02")
    check_sum = zlib.crc32(content[start : start + size])
    content[entry + 16 : entry + 28] = struct.pack("<III", check_sum, size, size)
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ValueError, match=r"has 'a\.npy' on top of what follows it"):
        read_weights(tmp_path / "w")


def test_every_opcode_that_torch_does_not_write_is_refused() -> None:
    known = b"\x80\x95N\x88\x89)\x8fJKMGIL\x8aX\x8cU(qrhj\x94]}t\x85\x86\x87aesuc\x93R\x81bQ"
    known += b"\x8b\x8dTCB\x8e\x9601\x90\x91\x92"  # bytes, sets and more of protocols 3 to 5
    assert set(pickles._HANDLERS) == set(known)


# ── the judge itself ─────────────────────────────────────────────────────────────────────────────


def faulty(monkeypatch, reader) -> None:
    monkeypatch.setattr(fuzz, "read_weights", reader)


def test_the_judge_sees_code_that_runs(monkeypatch, tmp_path) -> None:
    fuzz.start_watching()
    faulty(monkeypatch, lambda path, prefixes: eval("{}"))
    assert fuzz.judge(tmp_path / "w", b"x")[0] == "FAULT"


def test_the_judge_sees_an_error_that_is_not_clear(monkeypatch, tmp_path) -> None:
    def other(path, prefixes) -> None:
        raise KeyError("a")

    def nameless(path, prefixes) -> None:
        raise ValueError("bad")

    for reader in (other, nameless):
        faulty(monkeypatch, reader)
        assert fuzz.judge(tmp_path / "w", b"x")[0] == "FAULT"


def test_the_judge_sees_a_wrong_number(monkeypatch, tmp_path) -> None:
    wrong = {**build.STATE, "scale": build.STATE["scale"] + 1}
    faulty(monkeypatch, lambda path, prefixes: wrong)
    verdict = fuzz.judge(tmp_path / "w", b"x", True)
    assert verdict[:2] == ("FAULT", "other numbers than were saved, under a check sum")


def test_the_judge_sees_a_reader_that_does_not_end(monkeypatch, tmp_path) -> None:
    def endless(path, prefixes) -> None:
        while True:
            try:
                path.exists()
            except Exception:
                continue

    fuzz.start_watching()
    faulty(monkeypatch, endless)
    verdict = fuzz.judge(tmp_path / "w", b"x", seconds=0.1)
    assert verdict[:2] == ("FAULT", "took more than 0.1 seconds")


def test_the_judge_sees_another_file_that_is_opened(monkeypatch, tmp_path) -> None:
    (tmp_path / "other").write_bytes(b"")
    fuzz.start_watching()
    faulty(monkeypatch, lambda path, prefixes: {"a": np.fromfile(tmp_path / "other")})
    assert "touched something: open" in fuzz.judge(tmp_path / "w", b"x").reason


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory as Linux does")
def test_the_judge_sees_memory_that_a_refusal_took(monkeypatch, tmp_path) -> None:
    def greedy(path, prefixes) -> None:
        fresh = mmap.mmap(-1, 10 * ALLOWANCE)  # not memory that earlier tests have left behind
        np.frombuffer(fresh, np.uint8)[:] = 1
        raise ValueError(f"read_weights: {path} is damaged")

    faulty(monkeypatch, greedy)
    verdict = fuzz.judge(tmp_path / "w", b"x")
    assert verdict.end == "FAULT" and verdict.memory > 9 * ALLOWANCE


def test_a_second_opinion_sees_another_name_and_another_number() -> None:
    for other in (build.STATE["scale"] + 1, build.STATE["scale"].reshape(1)):
        assert "['scale']" in fuzz.differ(build.STATE, {**build.STATE, "scale": other})
    assert "['more']" in fuzz.differ(build.STATE, {**build.STATE, "more": np.ones(2)})
    assert fuzz.differ(build.STATE, dict(build.STATE)) == ""


def test_the_judge_sees_too_many_numbers(monkeypatch, tmp_path) -> None:
    faulty(monkeypatch, lambda path, prefixes: {"a": np.broadcast_to(np.float32(1), (1 << 28,))})
    assert fuzz.judge(tmp_path / "w", b"x")[0] == "FAULT"
