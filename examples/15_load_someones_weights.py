"""Weights of another implementation: its names, its file, and the model that comes out.

Somebody trained a Swin with timm and gives us the file. Here we make that file ourselves, so that
nothing needs to be fetched; a real one is loaded by the very same lines.
Run: python examples/15_load_someones_weights.py        Then read: minswin/weights/families/swin.py
"""

import tempfile
from pathlib import Path

import numpy as np

from minswin import create_model, no_grad
from minswin.cli import main
from minswin.weights import dialect, read_weights, rename, save_weights

images = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)


def logits(model):
    with no_grad():
        return model.eval()(images).data


theirs = create_model("swin_shapes", rng=np.random.default_rng(7))
place = tempfile.TemporaryDirectory()
folder = Path(place.name)
file = folder / "somebody.pth"  # PyTorch's format, written and read without PyTorch
save_weights(file, rename(theirs.state_dict(), "minswin", "timm", model=theirs))

print("names in the file, which are not ours:")
for name in [name for name in read_weights(file) if "downsample" in name]:
    print(f"  {name}")
print(f"whose names they are: {dialect(read_weights(file))}")

print("\n$ minswin info somebody.pth")
main(["info", str(file)])

model = create_model("swin_shapes", weights=file)
print(f"\nequal logits: {(logits(model) == logits(theirs)).all()}")
assert (logits(model) == logits(theirs)).all()

print("\n$ minswin convert somebody.pth ours.safetensors --to transformers")
main(["convert", str(file), str(folder / "ours.safetensors"), "--to", "transformers"])
again = create_model("swin_shapes", weights=folder / "ours.safetensors")
assert (logits(again) == logits(theirs)).all()

# For three classes instead of ten, the head is new and all else is theirs.
three = create_model("swin_shapes", weights=file, head="fresh", num_classes=3, tell=print)
ours, same = (m.layers[0].blocks[1].attn.qkv.weight.data for m in (three, theirs))
assert (ours == same).all()

print("\nand a model that the file does not fit:")
try:
    create_model("swin_shapes", weights=file, embed_dim=24)
except ValueError as error:
    print(f"  {str(error)[:170]} …")
place.cleanup()
