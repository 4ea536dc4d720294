"""The second page: the gradient of Swin's loss for every weight, with nothing but NumPy.

Each function gives its value and an `undo`: from the gradient g of the value it makes that of the
input, and puts those of the weights into `grads`. Backward is the undos in reverse order. Here g is
always ∂loss/∂(the value), of the value's shape.
Run: python examples/one_page/backward.py        Then read: minswin/autograd.py
"""

from math import pi

import numpy as np
from forward import DEPTHS, HEADS, PATH, M, gelu, partition, read, ship, softmax

RATE = 1e-5


def linear(x, w, name, grads):  # reference/linear.py
    weight, bias = w[name + ".weight"], name + ".bias"

    def undo(g):
        rows = g.reshape(-1, g.shape[-1])
        grads[name + ".weight"] = rows.T @ x.reshape(-1, x.shape[-1])
        if bias in w:
            grads[bias] = rows.sum(0)
        return g @ weight

    return x @ weight.T + w.get(bias, 0), undo


def norm(x, w, name, grads):  # reference/normalize.py
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    unit = centred / deviation

    def undo(g):
        rows = tuple(range(x.ndim - 1))
        grads[name + ".weight"], grads[name + ".bias"] = (g * unit).sum(rows), g.sum(rows)
        g = g * w[name + ".weight"]
        through_variance = unit * (g * unit).mean(-1, keepdims=True)
        return (g - g.mean(-1, keepdims=True) - through_variance) / deviation

    return unit * w[name + ".weight"] + w[name + ".bias"], undo


def attention(x, w, name, h, s, grads):  # layers/windows.py, reference/attention.py
    (H, W, C), N, table = x.shape, M * M, name + ".relative_position_bias_table"
    qkv, undo_qkv = linear(x, w, name + ".qkv", grads)
    heads = partition(np.roll(qkv, (-s, -s), (0, 1))).reshape(-1, N, 3, h, C // h)
    q, k, v = heads.transpose(2, 0, 3, 1, 4)  # (nW, h, N, d) each
    place = np.stack(np.divmod(np.arange(N), M))
    dy, dx = place[:, :, None] - place[:, None] + M - 1
    row = dy * (2 * M - 1) + dx  # (N, N): which row of the table
    rows, columns = (np.digitize(np.arange(n), (n - M, n - s)) * (s > 0) for n in (H, W))
    region = partition((3 * rows[:, None] + columns)[:, :, None])  # (nW, N, 1)
    mask = np.where(region == region.swapaxes(1, 2), 0, -100)[:, None]
    scale = (C // h) ** -0.5
    P = softmax(q @ k.swapaxes(-1, -2) * scale + w[table][row].transpose(2, 0, 1) + mask)
    y = (P @ v).swapaxes(1, 2).reshape(H // M, W // M, M, M, C).swapaxes(1, 2).reshape(H, W, C)
    y, undo_proj = linear(np.roll(y, (s, s), (0, 1)), w, name + ".proj", grads)

    def undo(g):
        g = partition(np.roll(undo_proj(g), (-s, -s), (0, 1)))  # undoes the roll back, the joining
        g = g.reshape(-1, N, h, C // h).swapaxes(1, 2)  # (nW, h, N, d)
        dP = g @ v.swapaxes(-1, -2)  # undoes Y = P v
        dS = P * (dP - (dP * P).sum(-1, keepdims=True))  # undoes the softmax of each row
        grads[table] = np.zeros_like(w[table])  # N² pairs share (2M − 1)² rows: they add up
        np.add.at(grads[table], row, dS.sum(0).transpose(1, 2, 0))
        g = np.stack([dS @ k * scale, dS.swapaxes(-1, -2) @ q * scale, P.swapaxes(-1, -2) @ g])
        g = g.transpose(1, 3, 0, 2, 4).reshape(H // M, W // M, M, M, 3 * C)  # undoes the cutting
        return undo_qkv(np.roll(g.swapaxes(1, 2).reshape(H, W, 3 * C), (s, s), (0, 1)))

    return y, undo


def block(x, w, name, h, s, grads):  # models/swin.py, eq. (3)
    y, undo_norm1 = norm(x, w, name + ".norm1", grads)
    y, undo_attention = attention(y, w, name + ".attn", h, s, grads)
    x = x + y
    y, undo_norm2 = norm(x, w, name + ".norm2", grads)
    z, undo_fc1 = linear(y, w, name + ".mlp.fc1", grads)
    y, undo_fc2 = linear(gelu(z), w, name + ".mlp.fc2", grads)

    def undo(g):
        slope = gelu(z) / np.where(z == 0, 1, z) + z * np.exp(-z * z / 2) / (2 * pi) ** 0.5
        slope = np.where(z == 0, 0.5, slope)  # of x Φ(x): Φ(x) + x φ(x)
        g = g + undo_norm2(undo_fc1(undo_fc2(g) * slope))  # the identity keeps g: x → x + f(x)
        return g + undo_norm1(undo_attention(g))

    return x + y, undo


def merge(x, w, name, grads):  # layers/embeddings.py
    corners = (0, 0), (1, 0), (0, 1), (1, 1)  # the row varies fastest
    y = np.concatenate([x[a::2, b::2] for a, b in corners], -1)
    y, undo_norm = norm(y, w, name + ".norm", grads)
    y, undo_linear = linear(y, w, name + ".reduction", grads)

    def undo(g):
        dx = np.empty_like(x)
        for (a, b), part in zip(corners, np.split(undo_norm(undo_linear(g)), 4, -1), strict=True):
            dx[a::2, b::2] = part
        return dx

    return y, undo


def loss(image, label, w):
    """Cross-entropy of one image (3, H, W), and its gradient for every weight by name."""
    grads, undos = {}, []
    kernel = w["patch_embed.proj.weight"]
    C, p = kernel.shape[0], kernel.shape[-1]
    H, W = image.shape[1] // p, image.shape[2] // p
    tokens = image.reshape(3, H, p, W, p).transpose(1, 3, 0, 2, 4).reshape(H, W, -1)
    flat = {"embed.weight": kernel.reshape(C, -1), "embed.bias": w["patch_embed.proj.bias"]}
    x, undo_embed = linear(tokens, flat, "embed", grads)
    x, undo = norm(x, w, "patch_embed.norm", grads)
    undos += [undo_embed, undo]
    for i, (depth, h) in enumerate(zip(DEPTHS, HEADS, strict=True)):
        if i:
            x, undo = merge(x, w, f"layers.{i - 1}.downsample", grads)
            undos.append(undo)
        for j in range(depth):
            s = M // 2 if j % 2 and len(x) > M else 0
            x, undo = block(x, w, f"layers.{i}.blocks.{j}", h, s, grads)
            undos.append(undo)
    x, undo_norm = norm(x, w, "norm", grads)
    y, undo_head = linear(x.mean((0, 1)), w, "head", grads)
    probabilities = softmax(y)
    g = undo_head(probabilities - np.eye(len(y))[label])  # of −log p[label]
    g = undo_norm(np.broadcast_to(g / x[..., 0].size, x.shape))  # undoes the mean over tokens
    for undo in reversed(undos):
        g = undo(g)
    grads["patch_embed.proj.weight"] = grads.pop("embed.weight").reshape(kernel.shape)
    grads["patch_embed.proj.bias"] = grads.pop("embed.bias")
    return -np.log(probabilities[label]), grads


if __name__ == "__main__":
    weights, classes, mean, std = read(PATH)
    image, label = (ship() - mean) / std, classes.index("ship")
    before, grads = loss(image, label, weights)
    print(f"loss {before:.12f}, gradients of {len(grads)} arrays")
    norm_of_all = np.sqrt(sum((g * g).sum() for g in grads.values()))
    after, _ = loss(image, label, {n: v - RATE * grads[n] for n, v in weights.items()})
    print(f"after one step of SGD with rate {RATE}: {after:.8f}")
    print(f"expected to first order: {before - RATE * norm_of_all**2:.8f}")
