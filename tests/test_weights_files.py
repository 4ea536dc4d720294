"""Weights come out of every format bit for bit, and a wrong file says what it is."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import weight_files as build

from minswin.weights import read_file, read_weights, save_weights

STATE = build.STATE


def written(folder: Path, content: bytes, name: str = "weights.bin") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def pth(folder: Path, tree: bytes, **numbers) -> Path:
    return written(folder, build.pth_file(build.HEAD + tree + build.END, **numbers), "w.pth")


def state() -> bytes:
    return build.dictionary(build.entries())


# ── right files ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", build.FORMATS)
def test_a_file_built_byte_by_byte_gives_its_arrays_whatever_its_name(form, tmp_path) -> None:
    found = read_weights(written(tmp_path, build.whole()[form]))
    assert build.same(found, STATE)
    assert list(found) == list(STATE)
    assert not any(array.flags.writeable for array in found.values())
    assert all(array.flags.aligned for array in found.values())


def test_bfloat16_is_widened_to_float32_exactly(tmp_path) -> None:
    bits = np.array([0x3F80, 0xC049, 0x7F80, 0x0001, 0x8000, 0x4248], np.uint16)
    exact = [1.0, -3.140625, np.inf, 2.0**-133, -0.0, 50.0]
    table = {"a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
    path = written(tmp_path, build.safetensors_file(json.dumps(table).encode(), bits.tobytes()))
    tree = build.dictionary(
        [("a", build.tensor(build.storage("BFloat16", "0", 6), 0, (2, 3), (3, 1)))]
    )
    for file in (path, pth(tmp_path, tree, numbers=[bits.tobytes()])):
        found = read_file(file)
        assert found.arrays["a"].dtype == np.float32 and found.stored == {"a": "bfloat16"}
        assert found.arrays["a"].tobytes() == np.array(exact, np.float32).tobytes()


def test_views_of_one_storage_keep_their_offset_and_strides_and_share_memory(tmp_path) -> None:
    whole = np.arange(24, dtype=np.float32)
    store = build.storage("Float", "0", 24)
    items = [
        ("turned", build.tensor(store, 4, (3, 4), (1, 5))),
        ("row", build.tensor(store, 20, (4,), (1,))),
        ("one", build.tensor(store, 23, (1, 1), (10**12, 7))),
    ]
    found = read_weights(pth(tmp_path, build.dictionary(items), numbers=[whole.tobytes()]))
    rows, columns = np.indices((3, 4))
    np.testing.assert_array_equal(found["turned"], 4 + rows + 5 * columns)
    np.testing.assert_array_equal(found["row"], [20, 21, 22, 23])
    np.testing.assert_array_equal(found["one"], [[23]])
    assert np.shares_memory(found["turned"], found["row"])


# ── wrappers and foreign objects ─────────────────────────────────────────────────────────────────


def test_wrappers_and_shared_prefixes_are_taken_off(tmp_path) -> None:
    items = [(f"module.model.{name}", value) for name, value in build.entries()]
    tree = build.dictionary([("epoch", b"K\x07"), ("model", build.dictionary(items))])
    found = read_file(pth(tmp_path, tree))
    assert build.same(found.arrays, STATE)
    assert (found.wrapper, found.prefix) == ("model", "module.model.")
    kept = read_weights(pth(tmp_path, tree), prefixes=())
    assert list(kept) == [name for name, _ in items]


def test_a_prefix_that_one_name_lacks_stays(tmp_path) -> None:
    arrays = {"module.a": np.ones(2), "b": np.zeros(3)}
    save_weights(tmp_path / "w.npz", arrays)
    assert read_weights(tmp_path / "w.npz").keys() == arrays.keys()


def test_key_chooses_among_the_entries(tmp_path) -> None:
    other = build.dictionary(build.entries()[:2])
    path = pth(tmp_path, build.dictionary([("model", state()), ("model_ema", other)]))
    assert list(read_weights(path, key="model_ema")) == list(STATE)[:2]
    with pytest.raises(ValueError, match=r"w\.pth has no entry 'ema'; found: 'model', 'model_ema'"):
        read_weights(path, key="ema")


def test_foreign_objects_beside_the_weights_are_inert_and_named(tmp_path) -> None:
    """argparse.Namespace and a dict of yacs as torch.save writes them, and a numpy scalar."""
    space = build.name("argparse", "Namespace") + b")\x81}" + build.text("lr") + b"K\x01sb"
    config = build.name("yacs.config", "CfgNode") + b")\x81" + build.text("A") + b"K\x02s}b"
    scalar = build.name("numpy.core.multiarray", "scalar") + build.several(
        build.name("numpy", "dtype") + build.several(build.text("f8"), b"K\x00", b"K\x01") + b"R",
        build.name("_codecs", "encode") + build.several(build.text("x")) + b"R",
    )
    parts = [("args", space), ("config", config), ("best", scalar + b"R"), ("model", state())]
    found = read_file(pth(tmp_path, build.dictionary(parts)))
    assert build.same(found.arrays, STATE)
    assert found.foreign[:2] == ("argparse.Namespace", "yacs.config.CfgNode")
    assert "yacs" not in sys.modules


def test_a_foreign_object_in_place_of_the_weights_is_refused_by_name(tmp_path) -> None:
    model = build.name("models.swin", "SwinTransformer") + b")\x81}b"
    with pytest.raises(ValueError, match=r"w\.pth holds a whole object .*'models.swin.SwinTr"):
        read_weights(pth(tmp_path, model))
    with pytest.raises(ValueError, match=r"has 'b' as an object of the class 'x\.Quantized'"):
        tree = build.dictionary([*build.entries(), ("b", build.name("x", "Quantized"))])
        read_weights(pth(tmp_path, tree))


def recursive() -> tuple:
    inside: list = []
    inside.append((inside,))
    return inside[0]


PLAIN = {
    "bytes": b"ab",
    "many bytes": bytes(300),
    "a bytearray": bytearray(b"ab"),
    "a set": {1, "two", (3, 4)},
    "an empty set": set(),
    "a frozen set": frozenset({b"x", 1.5}),
    "an empty frozen set": frozenset(),
    "a set in a set": {frozenset({frozenset()})},
    "a long number": -(2**3000),
    "a tuple in itself": recursive(),
    "the same twice": [b"long enough to be remembered"] * 2,
    "a complex number": 1 + 2j,
    "a range and a slice": [range(3), slice(1, 2)],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("what", PLAIN)
def test_plain_data_beside_the_weights_is_read_over_by_every_protocol(what, protocol, tmp_path):
    value = build.pickled(PLAIN[what], protocol)
    for parts in ([("aside", value), ("model", state())], [("model", state()), ("aside", value)]):
        assert build.same(read_weights(pth(tmp_path, build.dictionary(parts))), STATE)
    inside = build.dictionary([("aside", value), *build.entries()])
    assert build.same(read_weights(pth(tmp_path, inside)), STATE)


@pytest.mark.parametrize("protocol", [4, 5])
def test_an_object_that_is_made_with_names_of_arguments_is_a_label(protocol, tmp_path) -> None:
    value = build.pickled(build.Keywords(), protocol)
    found = read_file(pth(tmp_path, build.dictionary([("aside", value), ("model", state())])))
    assert build.same(found.arrays, STATE) and found.foreign == ("weight_files.Keywords",)


@pytest.mark.parametrize("code", [b"]K\x01(K\x02\x90", b")K\x01\x90", b"\x90", b"(0", b"1"])
def test_opcodes_of_sets_on_what_is_none_are_refused(code, tmp_path):
    with pytest.raises(ValueError, match="damaged"):
        read_weights(pth(tmp_path, build.dictionary([("a", code), ("model", state())])))


# ── a checkpoint of torch ────────────────────────────────────────────────────────────────────────


@pytest.mark.parity
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("as_zip", [True, False])
def test_a_training_checkpoint_of_torch_gives_its_weights(tmp_path, protocol, as_zip) -> None:
    torch = pytest.importorskip("torch")
    import argparse
    from collections import Counter, defaultdict

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    whole = {
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(path=tmp_path),
        "best": np.float64(0.5),
        "curve": np.arange(3),
        "counts": Counter("aab"),
        "more": defaultdict(list),
        "set": {1, 2},
        "frozen": frozenset({"a", b"b"}),
        "bytes": [b"ab", bytearray(b"cd"), bytes(1000)],
        "state_dict": model.state_dict(),
    }
    how = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": as_zip}
    torch.save(whole, tmp_path / "w.pth", **how)
    found = read_weights(tmp_path / "w.pth")
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert build.same(found, expected)


# ── memory ───────────────────────────────────────────────────────────────────────────────────────

MEASURE = """
import sys
from minswin.weights import read_weights
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
read_weights(sys.argv[1])
before = peak()
found = read_weights(sys.argv[2])
for array in found.values(): array.sum()
print((peak() - before) / sum(array.nbytes for array in found.values()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory as Linux does")
@pytest.mark.parametrize("form", ["safetensors", "npz", "pth", "legacy", "bfloat16"])
def test_peak_memory_is_below_1_2_times_the_parameters(form, tmp_path) -> None:
    count = 16 << 20  # 64 MiB: the block that is converted at a time, about 5 MiB, is little of it
    arrays = {name: np.full(count // 2, 1.5, np.float32) for name in ("a", "b")}
    if form in ("safetensors", "npz", "pth"):
        path = tmp_path / f"large.{form}"
        save_weights(path, arrays)
    else:
        kind, width = ("Float", 4) if form == "legacy" else ("BFloat16", 2)
        extra = (b"N",) if form == "legacy" else ()
        half = count // 2
        items = [
            (name, build.tensor(build.storage(kind, str(i), half, *extra), 0, (half,), (1,)))
            for i, name in enumerate(arrays)
        ]
        program, numbers = build.HEAD + build.dictionary(items) + b".", [bytes(half * width)] * 2
        if form == "legacy":
            path = written(tmp_path, build.legacy_file(program, numbers, [half, half]))
        else:
            path = written(tmp_path, build.pth_file(program, numbers))
    small = tmp_path / f"small{path.suffix if path.suffix != '.bin' else '.pth'}"
    save_weights(small, STATE)
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert 0.8 < float(output.stdout) < 1.2


# ── wrong files ──────────────────────────────────────────────────────────────────────────────────

OTHERS = {
    "empty": (b"", "is empty"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "web page": (b"<!DOCTYPE html><html>", "is a web page"),
    "keras": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "pickle": (pickle.dumps({"a": 1}, 4), "is a plain pickle"),
    "tar": (bytes(257) + b"ustar" + bytes(300), "is a tar file"),
    "noise": (bytes(range(100, 200)), "begins with b'defghijk'"),
    "zip": (build.zip_file({"a.txt": b"x"}), "is a zip file of 'a.txt'"),
    "script": (
        build.zip_file({"x/data.pkl": b"", "x/constants.pkl": b""}),
        "is a TorchScript program",
    ),
    "object array": (
        build.zip_file({"a.npy": build.npy(np.zeros(2), "{'descr': '|O', 'fortran_order': False, "
                                                        "'shape': (2,), }")}),
        "which is a pickle",
    ),
    "big-endian": (
        build.zip_file({"x/data.pkl": b"\x80\x02}.", "x/byteorder": b"big"}),
        "written on a big-endian machine",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_a_file_that_is_something_else_says_what_it_is(what, tmp_path) -> None:
    content, why = OTHERS[what]
    with pytest.raises(ValueError, match=r"read_weights: .*weights\.bin ") as caught:
        read_weights(written(tmp_path, content))
    assert why in str(caught.value)


def test_a_path_that_is_no_file_says_so(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"read_weights: .* is a folder; expected a"):
        read_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_weights(tmp_path / "w.pth")


def test_one_flipped_bit_under_a_check_sum_is_found(tmp_path) -> None:
    for form in ("npz", "pth"):
        content = bytearray(build.whole()[form])
        at = content.find(STATE["layers.0.weight"].tobytes())
        content[at + 5] ^= 4
        with pytest.raises(ValueError, match="is damaged: the check sum of"):
            read_weights(written(tmp_path, bytes(content)))


def test_check_sums_may_be_left_out_in_all_members_but_not_in_one(tmp_path) -> None:
    content = bytearray(build.whole()["pth"])
    content[content.find(STATE["layers.0.weight"].tobytes()) + 5] ^= 4
    found, at = [], -1
    while (at := content.find(b"PK\x01\x02", at + 1)) >= 0:
        found.append(at)
    for at in found:
        with pytest.raises(ValueError, match="is damaged: the check sum of"):
            read_weights(written(tmp_path, bytes(content)))
        content[at + 16 : at + 20] = bytes(4)
    assert list(read_weights(written(tmp_path, bytes(content)))) == list(STATE)


@pytest.mark.parametrize(
    "offset, shape, strides",
    [(1, (6,), (1,)), (0, (4,), (2,)), (2, (2, 3), (3, 1)), (0, (7,), (0,))],
)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(
    offset, shape, strides, tmp_path
) -> None:
    """All end one number after the sixth, but for the last, which repeats one number."""
    made = build.tensor(build.storage("Float", "0", 6), offset, shape, strides)
    with pytest.raises(ValueError, match=r"does not fit into its storage of 6 numbers"):
        read_weights(pth(tmp_path, build.dictionary([("a", made)]), numbers=[bytes(24)]))


def test_a_legacy_file_with_numbers_that_belong_to_nothing_is_refused(tmp_path) -> None:
    content = build.whole()["legacy"]
    with pytest.raises(ValueError, match="has 1 bytes after its last number"):
        read_weights(written(tmp_path, content + b"x"))
    other = build.legacy_file(build.HEAD + build.dictionary(build.entries(True)[:-1]) + build.END)
    with pytest.raises(ValueError, match="has numbers under '5', which no tensor uses"):
        read_weights(written(tmp_path, other))


def test_a_tensor_that_torch_would_conjugate_is_refused(tmp_path) -> None:
    """torch saves x.conj() as the numbers of x and a remark: as they lie, they are wrong."""
    plain = build.tensor(build.storage("ComplexFloat", "0", 2), 0, (2,), (1,))
    marked = plain.removesuffix(b"tR") + b"}" + build.text("conj") + b"\x88stR"
    values = np.array([1 + 2j, 3 - 4j], np.complex64)
    path = pth(tmp_path, build.dictionary([("a", plain)]), numbers=[values.tobytes()])
    np.testing.assert_array_equal(read_weights(path)["a"], values)
    pth(tmp_path, build.dictionary([("a", marked)]), numbers=[values.tobytes()])
    with pytest.raises(ValueError, match=r"has a tensor marked as 'conj'; save tensor\.resolve_c"):
        read_weights(path)


def test_a_file_without_arrays_is_refused(tmp_path) -> None:
    for content in (build.safetensors_file(b"{}", b""), build.pth_file(b"\x80\x02}.")):
        with pytest.raises(ValueError, match=r"holds no arrays|has no tensors"):
            read_weights(written(tmp_path, content))


def test_importing_minswin_does_not_load_the_readers() -> None:
    program = "import sys, minswin; print('minswin.weights.files' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert output.stdout.strip() == b"False"
