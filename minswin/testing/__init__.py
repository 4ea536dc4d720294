"""What minswin's own tests draw and compare with, for your windows, masks and attention.

    from hypothesis import given
    from minswin.testing import laws, usual_partition, windows

    @given(windows(square=True))
    def test_my_windows(cut):
        laws.partition(usual_partition(window_partition), cut)

`windows`, `shifts`, `maps`, `masks` are strategies of hypothesis; `laws` holds what is true of
every right implementation; `oracles` are slow loops typed from the paper, without roll and mask;
`claims` compares arrays and derivatives. `usual_partition` and `usual_reverse` take the signatures
that are usual in PyTorch. For a whole model there is `minswin conform`.
"""

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    raise ImportError(
        'minswin.testing: hypothesis is missing, which draws the sizes; pip install "minswin[test]"'
    )

from minswin.testing import claims, laws, oracles
from minswin.testing.strategies import Cut, maps, masks, seeds, shifts, uneven_maps, windows
from minswin.testing.usual import usual_partition, usual_reverse

__all__ = [
    "Cut",
    "claims",
    "laws",
    "maps",
    "masks",
    "oracles",
    "seeds",
    "shifts",
    "uneven_maps",
    "usual_partition",
    "usual_reverse",
    "windows",
]
