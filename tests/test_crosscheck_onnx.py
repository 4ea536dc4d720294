"""A model in ONNX is run on the images of a trace, and every node's output is compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import score

from minswin.cli import main
from minswin.crosscheck import folder
from minswin.crosscheck.onnx import tensors_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CASE = score.CASES["square"]


def embedding(file: Path, *, eps: float = 1e-5, newer: bool = False, **more: Any) -> Path:
    """The patch embedding of the truth; newer: with the names of torch's new exporter."""
    from onnx import TensorProto, helper, numpy_helper

    weights = score.truth("square").arrays["float32"]
    names = [
        f"patch_embed.{part}.{leaf}" for part in ("proj", "norm") for leaf in ("weight", "bias")
    ]
    shape = more.get("shape", ("n", 3, *CASE["img_size"]))
    image = helper.make_tensor_value_info("input", more.get("kind", TensorProto.FLOAT), shape)
    steps = ["conv2d", "permute"] if newer else ["/embed/embed.proj/Conv_output_0", "/embed/T_0"]
    patch = CASE["patch_size"]
    nodes = [
        helper.make_node("Conv", ["input", *names[:2]], steps[:1], strides=[patch, patch]),
        helper.make_node("Transpose", steps[:1], steps[1:], perm=[0, 2, 3, 1]),
        helper.make_node("LayerNormalization", [steps[1], *names[2:]], ["out"], epsilon=eps),
    ]
    if newer:
        key = "pkg.torch.onnx.name_scopes"
        scopes = "['', 'patch_embed', 'patch_embed.proj', 'conv2d']"
        nodes[0].metadata_props.append(onnx.StringStringEntryProto(key=key, value=scopes))
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(np.ascontiguousarray(weights[n]), n) for n in names]
    graph = helper.make_graph(nodes, "embedding", [image, *more.get("inputs", [])], [out], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(file))
    return file


def image() -> np.ndarray:
    return np.asarray(score.truth("square").steps["image"].value)


def test_every_node_and_weight_has_a_name_and_modules_their_path(tmp_path: Path) -> None:
    found = tensors_of(embedding(tmp_path / "a.onnx"), image())
    right = score.truth("square").arrays["float32"]
    assert {"image", "embed.proj", "embed", "out", "patch_embed.norm.bias"} == found.keys() - {
        f"patch_embed.{n}" for n in ("proj.weight", "proj.bias", "norm.weight")
    }
    np.testing.assert_allclose(found["embed.proj"], right["patch_embed.proj"], atol=1e-5)
    np.testing.assert_array_equal(found["embed"], found["embed.proj"].transpose(0, 2, 3, 1))
    newer = tensors_of(embedding(tmp_path / "b.onnx", newer=True), image())
    assert "patch_embed.proj" in newer and "permute" in newer and "conv2d" not in newer


def test_compare_takes_the_model_itself(tmp_path: Path, capsys: Any) -> None:
    folder.write(score.truth("square"), tmp_path / "truth")
    (tmp_path / "map").write_text("patch_embed.norm = out\n")
    command = ["compare", str(tmp_path / "truth"), str(tmp_path / "a.onnx"), "--quick"]
    command += ["--names", str(tmp_path / "map")]
    embedding(tmp_path / "a.onnx")
    assert main(command) == 0
    assert "No divergence" in capsys.readouterr().out
    embedding(tmp_path / "a.onnx", eps=1e-3)
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "First divergence: patch embedding" in printed and "[patch_embed.norm]" in printed


def test_a_model_that_cannot_be_asked_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    from onnx import TensorProto, helper

    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"x\.onnx is no ONNX model"):
        tensors_of(tmp_path / "x.onnx", image())
    file = embedding(tmp_path / "a.onnx", shape=(1, 3, *CASE["img_size"]))
    with pytest.raises(ValueError, match=r"takes images of shape \(1, 3, .*--batch"):
        tensors_of(file, image())
    other = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [3])
    with pytest.raises(ValueError, match=r"one floating-point input, got input .*, mask"):
        tensors_of(embedding(file, inputs=[other]), image())
    with pytest.raises(ValueError, match="does not run on the trace's images"):
        tensors_of(embedding(file, shape=("n", "c", "h", "w")), image()[:, :2])
    with pytest.raises(FileNotFoundError):
        tensors_of(tmp_path / "none.onnx", image())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'pip install "minswin\[onnx\]"'):
        tensors_of(file, image())
