"use strict";
// Runs the engine of the page in Node: node page_engine.js ENGINE < jobs.json > results.json
//
// A job is {call, arguments, arrays}: arrays by name as [shape, base64 of float32], in the arguments
// as "$name". What it gives is the same of its result, or of all steps of a generator by name.

const { readFileSync } = require("fs");
const engine = {};
new Function("module", readFileSync(process.argv[2], "utf-8"))({ set exports(all) { Object.assign(engine, all); } });
const { tensor } = engine;

function decoded([shape, text]) {
  const bytes = Uint8Array.from(Buffer.from(text, "base64"));
  return tensor(shape, new Float32Array(bytes.buffer));
}

function encoded({ shape, data }) {
  return [shape, Buffer.from(Float32Array.from(data).buffer).toString("base64")];
}

// The images of a batch, one by one: the engine knows no batch.
function images(x) {
  const shape = x.shape.slice(1), n = shape.reduce((a, b) => a * b, 1);
  return Array.from({ length: x.shape[0] }, (_, i) => tensor(shape, x.data.subarray(i * n, i * n + n)));
}

function stacked(results) {
  const n = results[0].data.length, y = tensor([results.length, ...results[0].shape]);
  results.forEach((result, i) => y.data.set(result.data, i * n));
  return y;
}

const batched = (f) => (x, ...rest) => stacked(images(x).map((image) => f(image, ...rest)));
const result = (steps) => { let step; do step = steps.next(); while (!step.done); return step.value; };
const flat = (x) => tensor([x.data.length / x.shape[x.shape.length - 1], x.shape[x.shape.length - 1]], x.data);
const shaped = (f) => (x, ...rest) => tensor(x.shape, f(flat(x), ...rest).data);
const named = (weights, at) => Object.fromEntries(Object.entries(weights).map(([name, w]) => [at + name, w]));

// The questions of `minswin conform`, by the names of its protocol.
const CALLS = {
  window_partition: batched((x, window) => engine.windowPartition(x, window)),
  window_merge: batched((x, window, grid) => engine.windowMerge(flat(x), window, grid)),
  roll: batched((x, shift) => engine.roll(x, shift)),
  relative_position_index: (window) => engine.relativePositionIndex(window),
  relative_position_bias: (table, window) => engine.looked(table, engine.relativePositionIndex(window)),
  attention_mask: (grid, window, shift) => engine.attentionMask(grid, window, shift),
  patch_merge: batched((x) => engine.patchMerge(x)),
  layer_norm: shaped((x, weight, bias, eps) => engine.layerNorm(x, { "n.weight": weight, "n.bias": bias }, "n", eps)),
  gelu: (x) => engine.gelu(x),
  softmax: (x) => engine.softmax(x),
  mlp: batched((x, params) => result(engine.mlp(x, params, ""))),
  patch_embed: batched((x, params) => result(engine.patchEmbed(x, params, "", params["proj.weight"].shape.slice(2)))),
  patch_merging: batched((x, params) => result(engine.patchMerging(x, params, ""))),
  window_attention: batched((x, params, window, shift, heads) =>
    result(engine.windowAttention(x, params, "", { window, shift, heads }))),
  block: batched((x, params, window, shifted, heads) =>
    result(engine.swinBlock(x, params, "", { window, shifted, heads }))),
  model: batchedModel((settings, weights, image) => result(engine.run({ settings, weights }, image))),
  // not of the protocol: all steps of a model by name, the last one alone, and the loading of weights
  steps: (settings, weights, batch, options) => {
    const all = images(batch).map((image) => [...engine.run({ settings, weights }, image, options)]);
    return Object.fromEntries(all[0].map(({ name }, i) => [name, stacked(all.map((steps) => steps[i]))]));
  },
  logits: (settings, weights, batch, options) =>
    stacked(images(batch).map((image) => result(engine.run({ settings, weights }, image, options)))),
  load: (file) => engine.load(file).weights,
};
CALLS.build_model = (settings, weights, batches) => batches.map((x) => CALLS.model(settings, weights, x));

function batchedModel(f) {
  return (settings, weights, batch) => stacked(images(batch).map((image) => f(settings, weights, image)));
}

function put(value, arrays) {
  if (typeof value === "string" && value.startsWith("$")) return arrays[value.slice(1)];
  if (Array.isArray(value)) return value.map((item) => put(item, arrays));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, put(item, arrays)]));
}

function taken(value) {
  if (value.shape) return encoded(value);
  return Object.fromEntries(Object.entries(value).map(([name, x]) => [name, encoded(x)]));
}

const answers = JSON.parse(readFileSync(0, "utf-8")).map(({ call, arguments: given, arrays }) => {
  const tensors = Object.fromEntries(Object.entries(arrays).map(([name, x]) => [name, decoded(x)]));
  return taken(CALLS[call](...put(given, tensors)));
});
process.stdout.write(JSON.stringify(answers));
