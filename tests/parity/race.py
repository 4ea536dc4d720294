"""`minswin bench` where timm is installed without torchvision, which its models do not need.

    python -m tests.parity.race cifar tiny vit --race --compile

A child of the race imports this module too, so there timm gets a stand-in for torchvision; the
processes of the others stay free of both.
"""

from __future__ import annotations

import sys

from minswin.bench import peers

_load = peers.load


def load(peer: str) -> None:
    if peer.startswith("timm"):
        from tests.parity.peers import load_timm

        load_timm()
    _load(peer)


peers.load = load

if __name__ == "__main__":
    from minswin.cli import main

    sys.exit(main(["bench", *sys.argv[1:]]))
