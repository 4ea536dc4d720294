"""What a shifted window sees: the roll, the nine regions and the mask, on an 8×8 map.

Run: python examples/03_windows_shift_and_mask.py        Then read: minswin/layers/windows.py
"""

import numpy as np

from minswin.reference.windows import attention_mask, shift_regions, window_partition

grid, window, shift = (8, 8), (4, 4), (2, 2)
tokens = np.arange(64).reshape(1, 8, 8, 1)  # every token is its own number

rolled = np.roll(tokens, (-2, -2), axis=(1, 2))
print("the map, rolled two places up and left:")
print(rolled[0, :, :, 0])

print("\nwhere each token of the rolled map comes from (nine regions):")
print(shift_regions(grid, window, shift))

windows, _ = window_partition(rolled, window=window)  # (1, 4, 16, 1)
print("\nthe tokens of the last window, corners of the image that the roll brought together:")
print(windows[0, 3, :, 0].reshape(4, 4))

mask = attention_mask(grid, window, shift)  # (4 windows, 16, 16)
print("\nwhom its first token may see (1) and not see (·), as a 4×4 window:")
for row in mask[3, 0].reshape(4, 4):
    print("  ", *("1" if value == 0 else "·" for value in row))
allowed = [(m == 0).sum() for m in mask]
print("\nallowed pairs in the four windows:", *allowed, "of 256")
assert allowed == [256, 128, 128, 64]
