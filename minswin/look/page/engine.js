"use strict";
// Swin Transformer and ViT, forward, in plain JavaScript: one image at a time, no library.
//
//   const model = load(file);                                   // settings, and weights by name
//   for (const { name, shape, data } of run(model, image)) ...  // every tensor; stop where you like
//
// A tensor is { shape, data }, data a Float32Array in row-major order; sums run in float64. Names of
// weights and steps are those of the Python package. A map is (H, W, C); windows are (windows, N, C).

// ── tensors ─────────────────────────────────────────────────────────────────────────────────────

const size = (shape) => shape.reduce((a, b) => a * b, 1);
const tensor = (shape, data) => ({ shape, data: data || new Float32Array(size(shape)) });
const reshaped = (x, ...shape) => tensor(shape, x.data);
const last = (shape) => shape[shape.length - 1];

// Hand out a step of the way, and go on with it.
function* show(name, x) {
  yield { name, shape: x.shape, data: x.data };
  return x;
}

function mapped(x, f) {
  return tensor(x.shape, x.data.map(f));
}

// x + y, where y may be shorter and is then repeated.
function add(x, y) {
  const sum = tensor(x.shape), n = y.data.length;
  for (let first = 0; first < x.data.length; first += n) {
    for (let i = 0; i < n; i++) sum.data[first + i] = x.data[first + i] + y.data[i];
  }
  return sum;
}

// Tokens, all of one length, one after the other: rows(x, [2, 0]) is row 2, then row 0. −1: zeros.
function rows(x, chosen, shape) {
  const C = last(x.shape), y = tensor([...shape, C]);
  chosen.forEach((from, to) => {
    if (from >= 0) y.data.set(x.data.subarray(from * C, from * C + C), to * C);
  });
  return y;
}

// The mean of all rows: (..., C) gives (C).
function mean(x) {
  const C = last(x.shape), count = x.data.length / C, sum = new Float64Array(C);
  x.data.forEach((value, i) => { sum[i % C] += value; });
  return tensor([C], Float32Array.from(sum, (value) => value / count));
}

// ── functions ───────────────────────────────────────────────────────────────────────────────────

function dot(a, i, b, j, count) {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t = 0; // four sums: a processor adds them side by side
  for (; t + 3 < count; t += 4) {
    s0 += a[i + t] * b[j + t];
    s1 += a[i + t + 1] * b[j + t + 1];
    s2 += a[i + t + 2] * b[j + t + 2];
    s3 += a[i + t + 3] * b[j + t + 3];
  }
  for (; t < count; t++) s0 += a[i + t] * b[j + t];
  return s0 + s1 + s2 + s3;
}

// x Wᵀ + b:   x (..., K)   weight (M, K)   bias (M), or none
// Two rows and four outputs at a time, so that a number that was read is used more than once; where
// rows or outputs end, the last one is computed again.
function linear(x, weights, name) {
  const { shape: [M], data: w } = weights[name + ".weight"], K = last(x.shape), R = x.data.length / K;
  const bias = weights[name + ".bias"], y = tensor([...x.shape.slice(0, -1), M]);
  const X = x.data, Y = y.data;
  for (let r = 0; r < R; r += 2) for (let m = 0; m < M; m += 4) {
    const r1 = Math.min(r + 1, R - 1), m1 = Math.min(m + 1, M - 1);
    const m2 = Math.min(m + 2, M - 1), m3 = Math.min(m + 3, M - 1);
    const xa = r * K, xb = r1 * K, i0 = m * K, i1 = m1 * K, i2 = m2 * K, i3 = m3 * K;
    let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
    for (let k = 0; k < K; k++) {
      const a = X[xa + k], b = X[xb + k];
      const w0 = w[i0 + k], w1 = w[i1 + k], w2 = w[i2 + k], w3 = w[i3 + k];
      a0 += a * w0; a1 += a * w1; a2 += a * w2; a3 += a * w3;
      b0 += b * w0; b1 += b * w1; b2 += b * w2; b3 += b * w3;
    }
    Y[r * M + m] = a0; Y[r * M + m1] = a1; Y[r * M + m2] = a2; Y[r * M + m3] = a3;
    Y[r1 * M + m] = b0; Y[r1 * M + m1] = b1; Y[r1 * M + m2] = b2; Y[r1 * M + m3] = b3;
  }
  return bias ? add(y, bias) : y;
}

// (x − μ) / √(σ² + ε) · γ + β over the last axis; σ² divides by C
function layerNorm(x, weights, name, eps) {
  const gain = weights[name + ".weight"].data, bias = weights[name + ".bias"].data;
  const C = gain.length, y = tensor(x.shape);
  for (let r = 0; r < x.data.length; r += C) {
    let mu = 0, variance = 0;
    for (let c = 0; c < C; c++) mu += x.data[r + c] / C;
    for (let c = 0; c < C; c++) variance += (x.data[r + c] - mu) ** 2 / C;
    const scale = 1 / Math.sqrt(variance + eps);
    for (let c = 0; c < C; c++) y.data[r + c] = (x.data[r + c] - mu) * scale * gain[c] + bias[c];
  }
  return y;
}

// erf(x) = 2/√π · exp(−x²) · (x + 2x³/3 + 4x⁵/15 + …): the terms have one sign, so no digit is lost
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 3; Math.abs(term) > 1e-12 * Math.abs(sum); n += 2) sum += term *= (2 * x * x) / n;
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const gelu = (x) => mapped(x, (value) => (value * (1 + erf(value * Math.SQRT1_2))) / 2);

// exp(z/τ) over its sum, along the last axis; the largest is taken off first
function softmax(z, temperature = 1) {
  const N = last(z.shape), p = tensor(z.shape), e = new Float64Array(N);
  for (let r = 0; r < z.data.length; r += N) {
    let largest = -Infinity, sum = 0;
    for (let i = 0; i < N; i++) largest = Math.max(largest, z.data[r + i]);
    for (let i = 0; i < N; i++) sum += e[i] = Math.exp((z.data[r + i] - largest) / temperature);
    for (let i = 0; i < N; i++) p.data[r + i] = e[i] / sum;
  }
  return p;
}

// image (C, H, W) to a map (H', W', D):   weight (D, C, kh, kw)   stride, padding: pairs
function conv2d(image, weights, name, stride, padding = [0, 0]) {
  const { shape: [D, C, kh, kw], data } = weights[name + ".weight"], [, H, W] = image.shape;
  const bias = weights[name + ".bias"].data;
  const h = Math.floor((H + 2 * padding[0] - kh) / stride[0]) + 1;
  const w = Math.floor((W + 2 * padding[1] - kw) / stride[1]) + 1;
  const piece = new Float32Array(C * kh * kw), y = tensor([h, w, D]);
  for (let r = 0, o = 0; r < h; r++) for (let s = 0; s < w; s++) {
    piece.fill(0);
    for (let c = 0, p = 0; c < C; c++) for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++, p++) {
      const row = r * stride[0] - padding[0] + i, column = s * stride[1] - padding[1] + j;
      const inside = row >= 0 && row < H && column >= 0 && column < W;
      if (inside) piece[p] = image.data[(c * H + row) * W + column];
    }
    const n = piece.length;
    for (let d = 0; d < D; d++) y.data[o++] = dot(piece, 0, data, d * n, n) + bias[d];
  }
  return y;
}

// A map (H, W, C) as an image (C, H, W) again.
function channelsFirst(x) {
  const [H, W, C] = x.shape, n = H * W, y = tensor([C, H, W]);
  for (let i = 0; i < n; i++) for (let c = 0; c < C; c++) y.data[c * n + i] = x.data[i * C + c];
  return y;
}

// ── windows ─────────────────────────────────────────────────────────────────────────────────────

// A map larger than the window on both axes keeps it, and may be shifted.
function fitWindow([H, W], [Mh, Mw]) {
  if (H > Mh && W > Mw) return { window: [Mh, Mw], mayShift: true };
  const side = Math.min(H, W);
  return { window: Mh === Mw ? [side, side] : [Math.min(H, Mh), Math.min(W, Mw)], mayShift: false };
}

// A map of size (h, w) that takes each place from `from(row, column)`; outside of x there are zeros.
function moved(x, [h, w], from) {
  const [H, W] = x.shape, chosen = [];
  for (let r = 0; r < h; r++) for (let c = 0; c < w; c++) {
    const [row, column] = from(r, c);
    chosen.push(row < H && column < W ? row * W + column : -1);
  }
  return rows(x, chosen, [h, w]);
}

const multiple = (n, m) => Math.ceil(n / m) * m;
const crop = (x, grid) => moved(x, grid, (r, c) => [r, c]); // zeros, where the grid is larger
const pad = (x, [Mh, Mw]) => crop(x, [multiple(x.shape[0], Mh), multiple(x.shape[1], Mw)]);

// y[r + s₀, c + s₁] = x[r, c], around the edges
function roll(x, [s0, s1]) {
  const [H, W] = x.shape, around = (i, n) => ((i % n) + n) % n;
  return moved(x, [H, W], (r, c) => [around(r - s0, H), around(c - s1, W)]);
}

// The places of a map (H, W), window by window: place(window · N + token) = row · W + column.
function places([H, W], [Mh, Mw]) {
  const chosen = [];
  for (let top = 0; top < H; top += Mh) for (let left = 0; left < W; left += Mw)
    for (let r = 0; r < Mh; r++) for (let c = 0; c < Mw; c++) chosen.push((top + r) * W + left + c);
  return chosen;
}

function windowPartition(x, window) {
  const [H, W] = x.shape, N = window[0] * window[1];
  return rows(x, places([H, W], window), [(H * W) / N, N]);
}

function windowMerge(x, window, grid) {
  const chosen = [];
  places(grid, window).forEach((place, token) => { chosen[place] = token; });
  return rows(x, chosen, grid);
}

// Row of the bias table for query p and key q:
// (rₚ − r_q + Mh − 1) · (2 Mw − 1) + cₚ − c_q + Mw − 1
function relativePositionIndex(window, [Mh, Mw] = window) {
  const N = window[0] * window[1], index = tensor([N, N], new Int32Array(N * N));
  for (let p = 0; p < N; p++) for (let q = 0; q < N; q++) {
    const rowsApart = Math.floor(p / window[1]) - Math.floor(q / window[1]);
    const columnsApart = (p % window[1]) - (q % window[1]);
    index.data[p * N + q] = (rowsApart + Mh - 1) * (2 * Mw - 1) + columnsApart + Mw - 1;
  }
  return index;
}

// table (rows, h) and an index (N, N) of its rows: (h, N, N)
const looked = (table, index) => channelsFirst(rows(table, index.data, index.shape));

// The piece of the image that each place of the ROLLED map comes from: 0…8, (H, W).
function shiftRegions([H, W], [Mh, Mw], [sh, sw]) {
  const part = (i, n, M, s) => (s === 0 || i < n - M ? 0 : i < n - s ? 1 : 2);
  return tensor([H, W], Int32Array.from({ length: H * W },
    (_, i) => 3 * part(Math.floor(i / W), H, Mh, sh) + part(i % W, W, Mw, sw)));
}

// 0 for a query and a key from one region, −100 for others: (windows, N, N)
function attentionMask(grid, window, shift) {
  const N = window[0] * window[1], { data } = shiftRegions(grid, window, shift);
  const region = places(grid, window).map((place) => data[place]);
  const mask = tensor([region.length / N, N, N]);
  region.forEach((own, i) => {
    const first = i - (i % N);
    for (let q = 0; q < N; q++) mask.data[i * N + q] = own === region[first + q] ? 0 : -100;
  });
  return mask;
}

// (H/2, W/2, 4C): the neighbours (row, column) = (0,0), (1,0), (0,1), (1,1) side by side
const NEIGHBOURS = [[0, 0], [1, 0], [0, 1], [1, 1]];
function patchMerge(x) {
  const [H, W, C] = x.shape, chosen = [];
  for (let r = 0; r < H; r += 2) for (let c = 0; c < W; c += 2)
    for (const [i, j] of NEIGHBOURS) chosen.push((r + i) * W + c + j);
  return reshaped(rows(x, chosen, [H / 2, W / 2, 4]), H / 2, W / 2, 4 * C);
}

// ── attention ───────────────────────────────────────────────────────────────────────────────────

// q, k or v (which = 0, 1, 2) of each head: qkv (windows, N, 3C) gives (windows, h, N, d)
function ofHeads(qkv, which, heads) {
  const [windows, N, width] = qkv.shape, C = width / 3, d = C / heads;
  const y = tensor([windows, heads, N, d]);
  for (let w = 0, o = 0; w < windows; w++) for (let h = 0; h < heads; h++)
    for (let t = 0; t < N; t++, o += d) {
      const from = (w * N + t) * width + which * C + h * d;
      y.data.set(qkv.data.subarray(from, from + d), o);
    }
  return y;
}

// softmax(q kᵀ / √d + B + mask) v
// q, k, v (windows, h, N, d)   bias (h, N, N), or null   mask (windows, N, N), or null
function* attend(q, k, v, bias, mask, at, options) {
  const [windows, heads, N, d] = q.shape, off = (options.off && options.off[at]) || [];
  let scores = tensor([windows, heads, N, N]), y = tensor(q.shape);
  for (let i = 0, o = 0; i < windows * heads * N; i++) {
    const first = i - (i % N); // of the keys of this window and head
    for (let j = 0; j < N; j++)
      scores.data[o++] = dot(q.data, i * d, k.data, (first + j) * d, d) / Math.sqrt(d);
  }
  scores = yield* show(at + "scores", scores);
  let logits = bias ? add(scores, bias) : scores;
  const ofMask = (i) => Math.floor(i / (heads * N * N)) * N * N + (i % (N * N)); // one for all heads
  if (mask) logits = mapped(logits, (z, i) => z + mask.data[ofMask(i)]);
  logits = yield* show(at + "logits", logits);
  const p = yield* show(at + "probabilities", softmax(logits, options.temperature));
  for (let i = 0; i < windows * heads * N; i++) {
    if (off.includes(Math.floor(i / N) % heads)) continue;
    const first = i - (i % N);
    for (let c = 0; c < d; c++) {
      let sum = 0;
      for (let j = 0; j < N; j++) sum += p.data[i * N + j] * v.data[(first + j) * d + c];
      y.data[i * d + c] = sum;
    }
  }
  y = yield* show(at + "heads", y);
  const sideBySide = []; // the heads of a token, one after the other
  for (let w = 0; w < windows; w++) for (let t = 0; t < N; t++)
    for (let h = 0; h < heads; h++) sideBySide.push((w * heads + h) * N + t);
  const merged = reshaped(rows(y, sideBySide, [sideBySide.length]), windows, N, heads * d);
  return yield* show(at + "merged", merged);
}

function* split(qkv, heads, at) {
  return [
    yield* show(at + "q", ofHeads(qkv, 0, heads)),
    yield* show(at + "k", ofHeads(qkv, 1, heads)),
    yield* show(at + "v", ofHeads(qkv, 2, heads)),
  ];
}

// Pad, roll, cut into windows, attend in each, put them together, roll back, crop.
// geometry: { window, shift, heads, tableWindow }   x (H, W, C)
function* windowAttention(x, weights, at, geometry, options = {}) {
  const { window, shift, heads, tableWindow = window } = geometry, shifted = shift.some(Boolean);
  const grid = x.shape.slice(0, 2), covered = grid.map((n, i) => multiple(n, window[i]));
  const padded = covered.some((n, i) => n !== grid[i]);
  if (padded) x = yield* show(at + "padded", pad(x, window));
  let qkv = yield* show(at + "qkv", linear(x, weights, at + "qkv"));
  if (shifted) qkv = yield* show(at + "shifted", roll(qkv, shift.map((s) => -s)));
  qkv = yield* show(at + "windows", windowPartition(qkv, window));
  const [q, k, v] = yield* split(qkv, heads, at);
  const table = weights[at + "relative_position_bias_table"];
  const index = relativePositionIndex(window, tableWindow);
  const bias = options.bias === false ? null : yield* show(at + "bias", looked(table, index));
  const masked = shifted && options.mask !== false;
  const mask = masked ? yield* show(at + "mask", attentionMask(covered, window, shift)) : null;
  const merged = yield* attend(q, k, v, bias, mask, at, options);
  let y = yield* show(at + (shifted ? "rolled" : "map"), windowMerge(merged, window, covered));
  if (shifted) y = yield* show(at + "map", roll(y, shift));
  if (padded) y = yield* show(at + "cropped", crop(y, grid));
  return yield* show(at + "proj", linear(y, weights, at + "proj"));
}

// ── layers ──────────────────────────────────────────────────────────────────────────────────────

function* mlp(x, weights, at) {
  x = yield* show(at + "fc1", linear(x, weights, at + "fc1"));
  x = yield* show(at + "gelu", gelu(x));
  return yield* show(at + "fc2", linear(x, weights, at + "fc2"));
}

// x + attention(norm(x)), then x + mlp(norm(x)); attention: a generator of a map, or of tokens
function* block(x, weights, at, eps, attention) {
  const normed = yield* show(at + "norm1", layerNorm(x, weights, at + "norm1", eps));
  x = yield* show(at + "residual", add(x, yield* attention(normed)));
  const again = yield* show(at + "norm2", layerNorm(x, weights, at + "norm2", eps));
  return yield* show(at + "output", add(x, yield* mlp(again, weights, at + "mlp.")));
}

// The window and the shift on a map: by half the window, or options.shift, where the map allows it.
function geometryOn(grid, { window: tableWindow, shifted, heads }, options = {}) {
  const { window, mayShift } = fitWindow(grid, tableWindow);
  const by = window.map((M) => (options.shift == null ? M >> 1 : Math.min(options.shift, M - 1)));
  return { window, heads, tableWindow, shift: shifted && mayShift ? by : [0, 0] };
}

// A block of Swin; shifted: whether its windows are.
function* swinBlock(x, weights, at, built, options = {}) {
  const geometry = geometryOn(x.shape, built, options);
  const attention = (y) => windowAttention(y, weights, at + "attn.", geometry, options);
  return yield* block(x, weights, at, 1e-5, attention);
}

function* patchMerging(x, weights, at) {
  if (x.shape[0] % 2 || x.shape[1] % 2) x = yield* show(at + "padded", pad(x, [2, 2]));
  x = yield* show(at + "neighbours", patchMerge(x));
  x = yield* show(at + "norm", layerNorm(x, weights, at + "norm", 1e-5));
  return yield* show(at + "reduction", linear(x, weights, at + "reduction"));
}

function* patchEmbed(image, weights, at, stride) {
  const { padding } = convolution(weights, at + "proj", stride);
  const x = yield* show(at + "patches", conv2d(image, weights, at + "proj", stride, padding));
  if (!weights[at + "norm.weight"]) return x;
  return yield* show(at + "norm", layerNorm(x, weights, at + "norm", 1e-5));
}

// ── models ──────────────────────────────────────────────────────────────────────────────────────

const pair = (n) => (Array.isArray(n) ? n : [n, n]);

function* swin({ settings, weights }, image, options = {}) {
  const patch = pair(settings.patch_size);
  let grid = pair(settings.img_size).map((n, i) => n / patch[i]); // of the images it was built for
  let x = yield* stem(image, weights, patch);
  const positions = weights.absolute_pos_embed;
  if (positions) x = yield* show("add", add(x, positions));
  for (let i = 0; i < settings.depths.length; i++) {
    const { window } = fitWindow(grid, pair(settings.window_size)), heads = settings.num_heads[i];
    for (let j = 0; j < settings.depths[i]; j++) {
      const built = { window, heads, shifted: settings.shift !== false && j % 2 === 1 };
      x = yield* swinBlock(x, weights, `layers.${i}.blocks.${j}.`, built, options);
    }
    const more = i + 1 < settings.depths.length;
    if (more) x = yield* patchMerging(x, weights, `layers.${i}.downsample.`);
    grid = grid.map((n) => Math.ceil(n / 2));
  }
  x = yield* show("norm", layerNorm(x, weights, "norm", 1e-5)); // every token, THEN the mean
  x = yield* show("pooled", mean(x));
  return yield* show("head", linear(x, weights, "head"));
}

function* vit({ settings, weights }, image, options = {}) {
  const patch = pair(settings.patch_size), grid = [0, 1].map((i) => image.shape[i + 1] / patch[i]);
  let x = yield* stem(image, weights, patch);
  const C = last(x.shape), row = weights["pos_embed.row"], column = weights["pos_embed.column"];
  if (settings.positions === "sinusoidal") x = add(x, waves(grid, C));
  const ofRow = (i) => Math.floor(i / (grid[1] * C)) * C + (i % C);
  if (row) x = add(mapped(x, (value, i) => value + row.data[ofRow(i)]), column);
  const front = [weights.cls_token, weights.dist_token].filter(Boolean);
  const tokens = [...front, x].flatMap(({ data }) => [...data]);
  x = tensor([front.length + grid[0] * grid[1], C], Float32Array.from(tokens));
  if (weights.pos_embed) x = add(x, weights.pos_embed);
  x = yield* show("tokens", x);
  for (let i = 0; i < settings.depth; i++)
    x = yield* block(x, weights, `blocks.${i}.`, 1e-6, (y) => attentionOfAll(y, i));
  x = yield* show("norm", layerNorm(x, weights, "norm", 1e-6));
  const token = (i) => rows(x, [i], []);
  let pooled = yield* show("pooled", settings.global_pool === "avg" ? mean(x) : token(0));
  const hidden = "pre_logits.fc";
  if (weights[hidden + ".weight"]) pooled = mapped(linear(pooled, weights, hidden), Math.tanh);
  const logits = linear(pooled, weights, "head");
  if (!weights["head_dist.weight"]) return yield* show("head", logits);
  const ofTeacher = linear(token(1), weights, "head_dist");
  return yield* show("head", mapped(add(logits, ofTeacher), (z) => z / 2));

  function* attentionOfAll(y, i) {
    const N = y.shape[0], at = `blocks.${i}.attn.`, heads = settings.num_heads;
    const qkv = yield* show(at + "qkv", linear(y, weights, at + "qkv"));
    const [q, k, v] = yield* split(reshaped(qkv, 1, N, 3 * C), heads, at);
    const table = weights[`blocks.${i}.rel_pos.relative_position_bias_table`];
    const built = pair(settings.img_size).map((n, j) => n / patch[j]);
    let bias = null;
    if (table && options.bias !== false)
      bias = yield* show(at + "bias", looked(table, indexWithFront(grid, built, front.length)));
    const merged = yield* attend(q, k, v, bias, null, at, options);
    return yield* show(at + "proj", linear(reshaped(merged, N, C), weights, at + "proj"));
  }
}

// Patches, overlapping ones, or 3×3 convolutions, each with a norm and GELU, and a linear map.
function* stem(image, weights, patch) {
  const at = "patch_embed.", layers = convolutionsOf(weights, patch);
  if (!weights[at + "convs.0.weight"]) return yield* patchEmbed(image, weights, at, patch);
  for (let i = 0; i + 1 < layers.length; i++) {
    const x = conv2d(image, weights, layers[i].name, layers[i].stride, layers[i].padding);
    yield* show(layers[i].name, channelsFirst(x));
    const y = yield* show(`${at}norms.${i}`, layerNorm(x, weights, `${at}norms.${i}`, 1e-6));
    image = channelsFirst(yield* show(at + (i ? `gelu_${i}` : "gelu"), gelu(y)));
  }
  const x = conv2d(image, weights, at + "proj", [1, 1]);
  yield* show(at + "proj", channelsFirst(x));
  return yield* show(at + "patches", x);
}

// The convolutions that make tokens of an image, in order; 3×3 ones that change the channels halve.
function convolutionsOf(weights, patch) {
  const at = "patch_embed.", found = [];
  for (let i = 0; weights[`${at}convs.${i}.weight`]; i++) {
    const [to, from] = weights[`${at}convs.${i}.weight`].shape, stride = i && to === from ? 1 : 2;
    found.push({ ...convolution(weights, `${at}convs.${i}`, [stride, stride]), padding: [1, 1] });
  }
  return [...found, convolution(weights, at + "proj", found.length ? [1, 1] : patch)];
}

// Patches that are larger than the stride overlap, and end where others would.
function convolution(weights, name, stride) {
  const kernel = weights[name + ".weight"].shape.slice(2);
  return { name, kernel, stride, padding: kernel.map((k, i) => (k > stride[i] ? stride[i] - 1 : 0)) };
}

// Tokens without a place come first; the last three rows of the table are theirs.
function indexWithFront(grid, tableGrid, front) {
  const inner = relativePositionIndex(grid, tableGrid), n = inner.shape[0], N = n + front;
  const rest = (2 * tableGrid[0] - 1) * (2 * tableGrid[1] - 1);
  return tensor([N, N], Int32Array.from({ length: N * N }, (_, i) => {
    const p = Math.floor(i / N) - front, q = (i % N) - front;
    return p >= 0 && q >= 0 ? inner.data[p * n + q] : rest + (p >= 0 ? 1 : q >= 0 ? 0 : 2);
  }));
}

// Waves of the row in the first half of the channels, of the column in the second: (H, W, C).
function waves([H, W], C) {
  const half = C / 2, wave = (t, c) => (c % 2 ? Math.cos : Math.sin)(t / 10000 ** ((c - (c % 2)) / half));
  return tensor([H, W, C], Float32Array.from({ length: H * W * C }, (_, i) => {
    const c = i % C, place = Math.floor(i / C);
    return c < half ? wave(Math.floor(place / W), c) : wave(place % W, c - half);
  }));
}

// All steps of one image (3, H, W), normalised; the last is "head", the logits.
// options: shift (a number for M/2), mask and bias (false: none), temperature,
//          off: { "layers.0.blocks.1.attn.": [heads whose answer is 0] }
function run(model, image, options = {}) {
  return (model.settings.family === "vit" ? vit : swin)(model, image, options);
}

// ── weights ─────────────────────────────────────────────────────────────────────────────────────

// file: { settings, index: { name: [shape, first] }, data: float16 numbers as base64 }
function load(file) {
  const bytes = Uint8Array.from(atob(file.data), (letter) => letter.charCodeAt(0));
  const half = new Uint16Array(bytes.buffer), weights = {};
  for (const [name, [shape, first]] of Object.entries(file.index)) {
    const numbers = half.subarray(first, first + size(shape));
    weights[name] = tensor(shape, Float32Array.from(numbers, fromHalf));
  }
  return { settings: file.settings, weights };
}

const POWERS = Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));
function fromHalf(bits) {
  const exponent = (bits >> 10) & 31, fraction = (bits & 1023) + (exponent ? 1024 : 0);
  return (bits & 0x8000 ? -1 : 1) * fraction * POWERS[exponent];
}

if (typeof module !== "undefined") {
  module.exports = {
    add, attentionMask, block, conv2d, fitWindow, gelu, layerNorm, load, linear, looked, mlp, patchEmbed, patchMerge,
    patchMerging, relativePositionIndex, roll, run, shiftRegions, softmax, swinBlock, tensor, windowAttention,
    windowMerge, windowPartition,
  };
}
