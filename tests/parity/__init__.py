"""Parity: minswin computes what PyTorch, transformers and timm compute. `python -m tests.parity`

Forward, gradients of everything, and training steps, on random weights. Nothing is downloaded.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: models come from configs
