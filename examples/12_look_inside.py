"""What a trained Swin looks at: its windows and its attention, as two pictures.

Run: python examples/12_look_inside.py [FOLDER]        Then read: minswin/look/attention.py
All there is to see, with attention to point at:      minswin explain IMAGE -o report.html
"""

import sys
from pathlib import Path

from minswin import data
from minswin.look import attention, canvas, masks, windows
from minswin.training.checkpoints import DEFAULT, load_trained_model

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/look")
folder.mkdir(parents=True, exist_ok=True)

model, info = load_trained_model(DEFAULT)
pixels = data.load("shapes", split="test", count=16).images[15]  # (3, 32, 32): a heart
x = data.normalize(pixels, mean=info["data"]["mean"], std=info["data"]["std"])
seen = attention.attention_maps(model, x)  # one record for every block

# Stage 0: the image, its windows, shifted windows, and what the shift costs: a mask.
grid, window, shift = seen[1].grid, seen[1].window, seen[1].shift
figure, (top, below) = canvas.figure(4, 2, height=2.4)
windows.draw_patches(top[0], pixels, model.patch_size)
windows.draw_windows(top[1], pixels, grid, window, (0, 0))
windows.draw_windows(top[2], pixels, grid, window, shift)
windows.draw_rolled(top[3], pixels, grid, window, shift)
windows.draw_regions(below[0], grid, window, shift)
for axes, mask in zip(below[1:], masks.distinct_masks(grid, window, shift)[1:], strict=True):
    masks.draw_mask(axes, mask, window)
canvas.save(figure, folder / "windows.png", dpi=110)

# Every block: what a token of the heart looks at, and what the answer may draw on so far.
figure, rows = canvas.figure(len(seen), 3, width=1.6, height=1.75)
shares = attention.rollout(seen)
for column, record in enumerate(seen):
    token = record.grid[0] * 3 // 8, record.grid[1] // 4
    attention.draw_attention(rows[0, column], pixels, record, token, title=record.name)
    attention.draw_attention(rows[1, column], pixels, record, token, head=0, title="head 0")
    attention.draw_rollout(rows[2, column], pixels, shares[column], title=f"after {record.name}")
    likes = attention.looks_at(record, token).max()
    even = 1 / record.probabilities.shape[-1]
    told = f"{record.name}: token {token} gives {likes:.0%} of its attention to one token"
    print(f"{told}; to each {even:.0%} if to all alike")
for row, name in zip(rows[:, 0], ("mean of heads", "one head", "the answer"), strict=True):
    row.set_ylabel(name)  # the stronger the red, the more of the attention goes there
canvas.save(figure, folder / "attention.png", dpi=110)
print(
    f"{folder / 'windows.png'}: patches, windows, the roll, and which pairs the mask lets through"
)
print(f"{folder / 'attention.png'}: where the framed token looks in each block (deep red: most),")
print(
    "and, in the last row, what the answer may draw on if only attention moved anything (rollout)"
)
