"""TNT: the words of a patch know their own patch only, and the sentences know everything.

One pixel is changed, and we look which words and which sentences change with it, block by block.
Run: python examples/10_words_in_patches.py        Then read: minswin/models/tnt.py
"""

import numpy as np

from minswin import create_model, no_grad

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "inner_dim": 6, "depth": 3}
SMALL |= {"num_heads": 3, "inner_num_heads": 2, "inner_stride": 4, "mlp_ratio": 2.0}
PIXEL = 10, 23  # row and column: in the patch (1, 2) of 4×4, in its last column


def forward(model, image):
    """Words (16 patches, 4 words, c) and sentences (1 + 16, D) before and after every block."""
    inner, outer = model.embed(image)
    found = [(inner.data, outer.data[0])]
    for block in model.blocks:
        inner, outer = block(inner, outer)
        found.append((inner.data, outer.data[0]))
    return found


def picture(changed):
    return [" ".join("#" if c else "·" for c in row) for row in changed.reshape(4, 4)]


image = np.random.default_rng(1).standard_normal((1, 3, 32, 32))
moved = image.copy()
moved[0, :, PIXEL[0], PIXEL[1]] += 1

for legacy in (False, True):
    rng = np.random.default_rng(0)
    model = create_model("tnt_cifar", **SMALL, legacy=legacy, rng=rng, dtype=np.float64).eval()
    with no_grad():
        before, after = forward(model, image), forward(model, moved)
    print("\ntimm's older variant: filters look across the border" if legacy else "TNT")
    words = [(a != b).any(axis=(1, 2)) for (a, _), (b, _) in zip(before, after, strict=True)]
    sentences = [(a != b).any(axis=1)[1:] for (_, a), (_, b) in zip(before, after, strict=True)]
    for name, changed in (("words", words), ("sentences", sentences)):
        print(f"  patches whose {name} change: embedded, then after each block")
        for lines in zip(*map(picture, changed), strict=True):
            print("    " + "      ".join(lines))
    own = np.arange(16) == PIXEL[0] // 8 * 4 + PIXEL[1] // 8
    if not legacy:
        assert all((changed == own).all() for changed in words)  # equal to the bit elsewhere
    else:
        assert all(changed.sum() > 1 for changed in words)
    assert (sentences[0].sum(), sentences[1].sum()) == (words[0].sum(), 16)
    if legacy:
        print("  two patches have the pixel in a filter before any block; from there on")
    print("  no block lets words look at another patch; the first lets every sentence see all")
