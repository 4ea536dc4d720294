// ── where the numbers come from: the engine, or what was recorded when the page was written ─────

const page = JSON.parse(find("#data").textContent);
const { settings = {}, size: [imageHeight, imageWidth] } = page;
const live = Boolean(page.weights);
const model = live ? load(page.weights) : null;
const MAIN_THREAD = 40e6; // multiply-adds: larger models run in a worker
const inWorker = live && page.macs > MAIN_THREAD;

// ── blocks, and where their tokens are ──────────────────────────────────────────────────────────

// Every attention of the model, with its windows as the switches leave them.
function blocksOf(options) {
  if (!live) return page.blocks.map(recordedBlock);
  const patch = pair(settings.patch_size), grid = [imageHeight / patch[0], imageWidth / patch[1]];
  return settings.family === "vit" ? blocksOfVit(grid) : blocksOfSwin(grid, options);
}

function blocksOfSwin(grid, options) {
  const blocks = [];
  let built = pair(settings.img_size).map((n, i) => n / pair(settings.patch_size)[i]);
  settings.depths.forEach((depth, i) => {
    const { window: tableWindow } = fitWindow(built, pair(settings.window_size));
    for (let j = 0; j < depth; j++) {
      const geometry = geometryOn(grid, { window: tableWindow, shifted: j % 2 === 1, heads: settings.num_heads[i] }, options);
      blocks.push(placed({ stage: i, block: j, at: `layers.${i}.blocks.${j}.`, front: 0, grid, shifts: j % 2 === 1, ...geometry }));
    }
    [grid, built] = [grid, built].map((sides) => sides.map((n) => Math.ceil(n / 2)));
  });
  return blocks;
}

function blocksOfVit(grid) {
  const front = ["cls_token", "dist_token"].filter((name) => model.weights[name]).length;
  return Array.from({ length: settings.depth }, (_, j) => placed({
    stage: 0, block: j, at: `blocks.${j}.`, front, grid, window: grid, shift: [0, 0], heads: settings.num_heads, whole: true,
  }));
}

function recordedBlock({ stage, block, grid, window, shift, front, shape, probabilities }) {
  const bytes = Uint8Array.from(atob(probabilities), (letter) => letter.charCodeAt(0));
  const at = page.family === "swin" ? `layers.${stage}.blocks.${block}.` : `blocks.${block}.`;
  const whole = !page.windows;
  return placed({ stage, block, at, grid, window, shift, front, heads: shape[1], recorded: bytes, whole, shifts: shift.some(Boolean) });
}

// For every token its window and its number in there, and back: −1 is padding. The map of numbers
// goes the way that the model's maps go.
function placed(block) {
  const { grid: [H, W], window, shift, front } = block, N = front + window[0] * window[1];
  if (block.whole) {
    const keys = Int32Array.from({ length: N }, (_, i) => i - front);
    return { ...block, N, name: nameOf(block), windows: 1, keys, slots: Int32Array.from({ length: H * W }, (_, i) => i + front) };
  }
  const numbers = tensor([H, W, 1], Float32Array.from({ length: H * W }, (_, i) => i + 1));
  const rolled = roll(pad(numbers, window), shift.map((s) => -s));
  const keys = Int32Array.from(windowPartition(rolled, window).data, (number) => number - 1);
  const slots = new Int32Array(H * W);
  keys.forEach((token, slot) => { if (token >= 0) slots[token] = slot; });
  return { ...block, N, name: nameOf(block), windows: keys.length / N, keys, slots, covered: rolled.shape.slice(0, 2) };
}

// Stages count from 1, as in the paper; the code counts from 0.
function nameOf({ stage, block, whole }) {
  return whole ? `Block ${block + 1}` : `Stage ${stage + 1}, block ${block + 1}`;
}

// The token of a block that a pin lies on: pins are places of the picture, or a token without one.
function tokenAt(block, pin) {
  if (pin.front !== undefined) return block.front ? pin.front - block.front : centre(block);
  const [H, W] = block.grid, clamp = (x, n) => Math.min(n - 1, Math.max(0, Math.floor(x * n)));
  return clamp(pin.y, H) * W + clamp(pin.x, W);
}

const centre = ({ grid: [H, W] }) => Math.floor(H / 2) * W + Math.floor(W / 2);
const pinOn = ({ grid: [H, W], front }, token) => (token < 0 ? { front: token + front }
  : { y: (Math.floor(token / W) + 0.5) / H, x: ((token % W) + 0.5) / W });

// Window w, number q in it, and the tokens of the window in order.
function neighbourhood(block, token) {
  const slot = token < 0 ? token + block.front : block.slots[token];
  const w = Math.floor(slot / block.N);
  return { w, q: slot % block.N, tokens: block.keys.subarray(w * block.N, (w + 1) * block.N) };
}

// What a token gives to each key of its window, in their order; head −1: the mean of all heads.
function sharesOf(block, head, token) {
  const { w, q } = neighbourhood(block, token), { heads, N } = block, shares = new Float64Array(N);
  const chosen = head < 0 ? [...Array(heads).keys()] : [head];
  const p = block.recorded ? block.recorded : steps.get(block.at + "attn.probabilities").data;
  for (const h of chosen) for (let k = 0, i = ((w * heads + h) * N + q) * N; k < N; k++, i++)
    shares[k] += (block.recorded ? (p[i] / 255) ** 2 : p[i]) / chosen.length;
  return shares;
}

// ── running ─────────────────────────────────────────────────────────────────────────────────────

let steps = new Map(); // of the last run, by name
let logits = live ? null : page.logits;

function asInput(pixels) {
  const n = imageHeight * imageWidth, data = new Float32Array(3 * n);
  for (let c = 0; c < 3; c++) for (let i = 0; i < n; i++) data[c * n + i] = (pixels[4 * i + c] / 255 - page.mean[c]) / page.std[c];
  return tensor([3, imageHeight, imageWidth], data);
}

function keep(entries) {
  steps = new Map(entries.map((step) => [step.name, step]));
  logits = steps.get("head").data;
}

// Runs the model, and then calls `done(milliseconds)`. While a worker is at it, only the newest
// request is kept.
const runner = { worker: null, waiting: null, busy: false };

function request(pixels, options, done, progress) {
  if (!live) return done(null);
  if (!inWorker) {
    const start = performance.now();
    keep([...run(model, asInput(pixels), options)]);
    return done(performance.now() - start);
  }
  runner.waiting = { image: asInput(pixels), options, done, progress };
  return next();
}

function next() {
  if (runner.busy || !runner.waiting) return;
  const { image, options, done, progress } = runner.waiting;
  [runner.waiting, runner.busy] = [null, true];
  const worker = started(), start = performance.now();
  worker.onmessage = ({ data }) => {
    if (data.count) return progress(data.count / Math.max(steps.size, 20 * page.depth));
    keep(data.steps);
    runner.busy = false;
    done(performance.now() - start);
    return next();
  };
  worker.postMessage({ image, options });
}

function started() {
  if (runner.worker) return runner.worker;
  const source = `${find("#engine").textContent}
    let model;
    onmessage = ({ data }) => {
      if (data.weights) { model = load(data.weights); return; }
      const steps = [];
      for (const step of run(model, data.image, data.options)) if (steps.push(step) % 8 === 0) postMessage({ count: steps.length });
      postMessage({ steps }, [...new Set(steps.map((step) => step.data.buffer))]);
    };`;
  runner.worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  runner.worker.postMessage({ weights: page.weights });
  return runner.worker;
}

function probabilities() {
  return [...softmax(tensor([1, logits.length], Float32Array.from(logits))).data];
}
