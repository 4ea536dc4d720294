"""Trees of arrays, as JAX and others have them, become names that `minswin compare` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from minswin.crosscheck.align import read_theirs
from minswin.crosscheck.saving import flattened, save


class Pair(NamedTuple):
    q: np.ndarray
    k: np.ndarray


@dataclass
class Block:
    norm: np.ndarray
    attn: Pair


def tree() -> dict[str, Any]:
    pair = Pair(np.ones((2, 3), "f4"), np.zeros(2))
    return {
        "head": {"__call__": (np.arange(3.0),)},
        "blocks": [Block(np.ones(4), pair), Block(np.full(4, 2.0), pair)],
        "stage": ({"y": np.ones(1)}, {"y": np.ones(2)}),
        "nothing": None,
        "act": np.tanh,
    }


def test_paths_are_the_names() -> None:
    names = {name: x.shape for name, x in flattened(tree())}
    assert names == {
        "head": (3,),
        **{f"blocks.{i}.{n}": s for i in (0, 1)
           for n, s in (("norm", (4,)), ("attn.q", (2, 3)), ("attn.k", (2,)))},
        "stage.0.y": (1,), "stage.1.y": (2,),
    }  # fmt: skip
    assert dict(flattened(np.ones(2))).keys() == {"output"}


def test_values_gradients_weights_and_losses_are_read_by_compare(tmp_path: Path) -> None:
    grads = {"head": {"kernel": np.ones((3, 2))}}
    names = save(
        tmp_path / "a.npz", tree(), cotangent=grads, after=grads, losses=[1.5, np.array(1)]
    )
    found = read_theirs(tmp_path / "a.npz")
    assert list(found) == names
    assert {"head", "cotangent/head.kernel", "after/head.kernel", "losses"} <= found.keys()
    np.testing.assert_array_equal(found["losses"], [1.5, 1.0])


def test_weights_lie_beside_what_their_layers_gave(tmp_path: Path) -> None:
    given, weights = (
        {"head": {"__call__": (np.arange(3.0),)}},
        {"head": {"kernel": np.ones((2, 3))}},
    )
    assert save(tmp_path / "a.npz", given, weights=weights) == ["head", "head.kernel"]
    with pytest.raises(ValueError, match="save: head is a value and a weight; name one otherwise"):
        save(tmp_path / "a.npz", given, weights={"head": np.ones(2)})


def test_what_is_no_tree_of_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end with \.npz"):
        save(tmp_path / "a.npy", tree())
    with pytest.raises(ValueError, match="no array"):
        save(tmp_path / "a.npz", {})
    with pytest.raises(TypeError, match=r"head\.x is ndarray, expected numbers"):
        save(tmp_path / "a.npz", {"head": {"x": np.array(["a", "b"])}})
    assert not list(tmp_path.iterdir())


def test_arrays_of_jax_and_what_flax_captures(tmp_path: Path) -> None:
    pytest.importorskip("flax")
    import jax
    import jax.numpy as jnp
    from flax import linen

    class Mlp(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.Dense(2, name="fc2")(linen.gelu(linen.Dense(4, name="fc1")(x)))

    x = jnp.ones((1, 3), jnp.bfloat16)
    params = Mlp().init(jax.random.key(0), x)
    _, seen = Mlp().apply(params, x, capture_intermediates=True)
    save(tmp_path / "a.npz", seen["intermediates"], cotangent=params["params"])
    found = read_theirs(tmp_path / "a.npz")
    assert {"fc1", "fc2", "output", "cotangent/fc1.kernel"} <= found.keys()
    assert found["fc1"].shape == (1, 4) and found["fc1"].dtype.kind == "f"
    half = dict(flattened({"x": x}))["x"]
    assert half.dtype == np.float32 and (half == 1).all()
