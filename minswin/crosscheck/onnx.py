"""What every node of an ONNX model gives on the images of a trace, for `minswin compare`.

ONNX Runtime runs the graph as it is written, without fusing nodes, and every node's output is made
an output of the model. Where PyTorch wrote the model, the last output of a module gets its path.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minswin import opening

Array = np.ndarray
FLOATS = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


def tensors_of(file: Path | str, image: Array) -> dict[str, Array]:
    """The image, all weights, and the outputs of all nodes, by name.

    image: (B, 3, H, W), for the only floating-point input of the model
    Raises ImportError without ONNX Runtime, ValueError where the model cannot run on these images.
    """
    try:
        import onnx
        import onnxruntime as runtime
    except ImportError as error:
        raise ImportError(
            f'compare: an ONNX model needs ONNX Runtime ({error}): pip install "minswin[onnx]"'
        ) from None
    try:
        model = onnx.load(str(opening.require_file(file, who="compare")))
    except OSError:
        raise
    except Exception as error:  # of protobuf
        raise ValueError(f"compare: {file} is no ONNX model: {error}") from None
    graph = model.graph
    weights = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}
    given = {output.name for output in graph.output}
    computed = [node for node in graph.node if node.op_type != "Constant"]
    nodes = [name for node in computed for name in node.output if name and name not in given]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in nodes)
    session = _session(runtime, model, file)
    name, x = _as_input(session, weights, image, file)
    names = [output.name for output in session.get_outputs()]
    try:
        values = session.run(names, {name: x})
    except Exception as error:  # of ONNX Runtime: many classes without a common name
        raise ValueError(
            f"compare: {file} does not run on the trace's images of shape {image.shape}: "
            f"{' '.join(str(error).split())[:300]}; trace with such images (--batch, --set "
            "img_size=…)"
        ) from None
    found = {n: v for n, v in zip(names, values, strict=True) if _is_floating(v)}
    paths = _module_paths(graph.node, found)
    found = {paths.get(n, n): v for n, v in found.items()}
    return {"image": x, **{n: w for n, w in weights.items() if _is_floating(w)}, **found}


def _session(runtime: Any, model: Any, file: Path | str) -> Any:
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    if getattr(model, "ByteSize", lambda: 0)() > 2**31 - 1:
        raise ValueError(f"compare: {file} is larger than 2 GB; compare a smaller model")
    text, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    try:
        return runtime.InferenceSession(text, options, providers=providers)
    except Exception as error:
        raise ValueError(
            f"compare: {file} cannot be run: {' '.join(str(error).split())[:300]}"
        ) from None


def _as_input(
    session: Any, weights: Mapping[str, Array], image: Array, file: Path | str
) -> tuple[str, Array]:
    """The name of the model's input, and the images as it wants them."""
    inputs = [x for x in session.get_inputs() if x.name not in weights]
    images = [x for x in inputs if x.type in FLOATS]
    if len(images) != 1 or len(inputs) != 1:
        came = ", ".join(f"{x.name} {x.type}" for x in inputs)
        raise ValueError(
            f"compare: {file} must have one floating-point input, got {came or 'none'}"
        )
    (wanted,) = images
    pairs = zip(wanted.shape, image.shape, strict=False)  # a side may have a name, or none
    fits = all(side == length for side, length in pairs if isinstance(side, int))
    if len(wanted.shape) != image.ndim or not fits:
        raise ValueError(
            f"compare: {file} takes images of shape {tuple(wanted.shape)}, and the trace has "
            f"{image.shape}; trace with such images (--batch, --set img_size=…)"
        )
    return wanted.name, np.ascontiguousarray(image, FLOATS[wanted.type])


def _is_floating(x: Any) -> bool:
    """Whole numbers are the arithmetic of shapes."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.size > 0


def _module_paths(nodes: Iterable[Any], found: Mapping[str, Array]) -> dict[str, str]:
    """The paths of PyTorch's modules, by the names of what they gave last."""
    last: dict[str, str] = {}
    for node in nodes:
        for name in node.output:
            if name in found:
                last.update(dict.fromkeys(_scopes(node, name), name))
    return {last[path]: path for path in sorted(last, key=len)}  # the innermost, whose last it is


def _scopes(node: Any, name: str) -> list[str]:
    """The modules in which a node stands: layers, layers.0, layers.0.norm.

    torch.onnx writes them beside the node, its older exporter into the names:
    /layers/layers.0/norm/Add_output_0
    """
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes: list[str] = ast.literal_eval(entry.value)
            return [scope for scope in scopes[:-1] if scope]
    found: list[str] = []
    parts: list[str] = []
    for word in name.split("/")[1:-1]:
        if parts and word.startswith(parts[-1] + "."):
            parts.pop()
        parts.append(word)
        found.append(".".join(parts))
    return found
