// ── one token, one head, step by step ───────────────────────────────────────────────────────────

const chosen = { step: 3, key: null, channel: 0, part: 0 }; // key null: that with the largest share; part: a channel of q, k, v

// Where the numbers of the pinned token are: names of steps, and places in their arrays.
function context() {
  const block = current(), pin = (state.pins[0] || {}), token = tokenAt(block, state.pins[0] ? pin : { x: 0.5, y: 0.5 });
  const { w, q, tokens } = neighbourhood(block, token), head = Math.max(0, state.head), at = block.at;
  const C = last(steps.get(at + "norm1").shape), d = C / block.heads, row = token + block.front;
  const query = (w * block.heads + head) * block.N + q, keyOf = (k) => (w * block.heads + head) * block.N + k;
  const names = [...steps.keys()], x = names[names.indexOf(at + "norm1") - 1];
  const value = (name, index) => steps.get(name).data[index];
  const m = (name, index) => mn(value(name, index), name, index);
  const shares = sharesOf(block, head, token), best = shares.indexOf(largestOf(shares));
  const key = chosen.key === null ? best : Math.min(chosen.key, block.N - 1), c = Math.min(chosen.channel, C - 1), t = Math.min(chosen.part, d - 1);
  return { block, token, w, q, tokens, head, at, attn: at + "attn.", C, d, row, query, keyOf, x, value, m, key, c, t };
}

const weight = (name) => model.weights[name];
const whole = (n) => `<mn>${n}</mn>`;
const sub = (name, index) => msub(vector(name), index);

const STEPS = [
  { name: "x", symbol: sub("x", mi("p")), title: "The token",
    text: ({ C }) => `The token comes in as ${C} numbers. Choose one of them to follow it.`,
    formula: ({ C }) => [sub("x", mi("p")), mo("∈"), msup(mi("ℝ"), whole(C))],
    worked: ({ x, row, C, c, m }) => [msub(mi("x"), whole(c + 1)), mo("="), m(x, row * C + c)],
    vectors: (z) => [channels(z, "x", z.x, z.row * z.C, z.C)] },
  { name: "norm", symbol: mi("norm"), title: "Layer norm",
    text: () => "Its mean is taken off, its spread made 1; then each channel has a learnt gain and offset.",
    formula: () => [mi("y"), mo("="), mfrac(mrow(mi("x"), mo("−"), mi("μ")), msqrt(mrow(msup(mi("σ"), whole(2)), mo("+"), mi("ε")))), mi("γ"), mo("+"), mi("β")],
    worked: workedNorm,
    vectors: (z) => [channels(z, "y", z.at + "norm1", z.row * z.C, z.C)] },
  { name: "qkv", symbol: mrow(mi("q"), mo(","), mi("k"), mo(","), mi("v")), title: "Query, key, value",
    text: ({ d, head }) => `Three linear maps. Head ${head + 1} has ${d} channels of each: what the token looks for, how a key is found, what it gives.`,
    formula: () => ["q", "k", "v"].flatMap((name, i) => [...(i ? [mo(","), "<mspace width='.8em'/>"] : []), vector(name), mo("="), sub("W", mi(name)), vector("y"), mo("+"), sub("b", mi(name))]),
    worked: workedQuery,
    vectors: (z) => [parts(z, "q of this token", "q", z.query), parts(z, `k of key ${keyName(z)}`, "k", z.keyOf(z.key)), parts(z, `v of key ${keyName(z)}`, "v", z.keyOf(z.key))] },
  { name: "scores", symbol: mfrac(mrow(mi("q"), mo("·"), mi("k")), msqrt(mi("d"))), title: "How well they match",
    text: ({ block }) => `The query of this token meets the key of each of the ${block.N} tokens ${block.whole ? "there are" : "of its window"}, itself among them.`,
    formula: () => [mi("s"), mo("="), mfrac(mrow(vector("q"), mo("·"), vector("k")), msqrt(mi("d")))],
    worked: workedScore,
    keys: (z) => [keyGrid(z, "q · k / √d", z.attn + "scores", z.query * z.block.N)] },
  { name: "bias", symbol: mrow(mo("+"), mi("B")), title: "Where the key is",
    text: () => "Each head has a table of learnt numbers, one for every displacement between two tokens. This is all that it knows of places.",
    formula: () => [mi("z"), mo("="), mi("s"), mo("+"), mi("B"), mo("["), mi("p"), mo("−"), mi("q"), mo("]")],
    worked: workedBias,
    keys: (z) => (steps.has(z.attn + "bias") ? [keyGrid(z, "B", z.attn + "bias", (z.head * z.block.N + z.q) * z.block.N)] : []) },
  { name: "mask", symbol: mrow(mo("+"), mi("mask")), title: "Who is a stranger",
    text: ({ block, attn }) => (steps.has(attn + "mask") ? "A shifted window at the border holds pieces from opposite ends of the picture. Between pieces, 100 is taken off."
      : block.whole ? "All tokens are neighbours here: nothing is masked." : block.shift.some(Boolean) ? "The mask is switched off: tokens from opposite ends of the picture meet." : "These windows are not shifted: nothing is masked. Choose a shifted block to see a mask."),
    formula: () => [mi("z"), mo("="), mi("s"), mo("+"), mi("B"), mo("+"), mi("mask")],
    worked: ({ attn, query, block, key, w, q, m }) => [sum([m(attn + "scores", query * block.N + key), ...(steps.has(attn + "bias") ? [biasOf(attn, block, q, key)] : []),
      ...(steps.has(attn + "mask") ? [signedAt(attn + "mask", (w * block.N + q) * block.N + key)] : [])]), mo("="), m(attn + "logits", query * block.N + key)],
    keys: (z) => [...(steps.has(z.attn + "mask") ? [keyGrid(z, "mask", z.attn + "mask", (z.w * z.block.N + z.q) * z.block.N)] : []), keyGrid(z, "z, the logits", z.attn + "logits", z.query * z.block.N)] },
  { name: "softmax", symbol: mi("softmax"), title: "Shares",
    text: () => "The logits become shares that sum to 1: how much of each key this token takes.",
    formula: () => [mi("p"), mo("="), mfrac(msup(mi("e"), temperate(mi("z"))), mrow(mo("∑"), msup(mi("e"), temperate(mi("z")))))],
    worked: workedShare,
    keys: (z) => [keyGrid(z, "p, the shares", z.attn + "probabilities", z.query * z.block.N, true)] },
  { name: "heads", symbol: mrow(mo("∑"), mi("p"), mi("v")), title: "What it takes",
    text: ({ attn, head }) => ((state.options.off[attn] || []).includes(head) ? "This head is switched off: what it takes is set to 0." : "The values of the keys are added up by their shares."),
    formula: () => [vector("o"), mo("="), "<munder><mo>∑</mo><mi>q</mi></munder>", msub(mi("p"), mi("q")), sub("v", mi("q"))],
    worked: workedValue,
    vectors: (z) => [parts(z, "o, the answer of this head", "heads", z.query)] },
  { name: "proj", symbol: mrow(mi("W"), mi("o")), title: "Projection",
    text: ({ block }) => `What all ${block.heads} heads took stands side by side, and a linear map mixes it.`,
    formula: () => [vector("a"), mo("="), sub("W", mi("o")), mo("["), msup(vector("o"), whole(1)), mo("…"), msup(vector("o"), mi("h")), mo("]"), mo("+"), sub("b", mi("o"))],
    worked: ({ attn, row, C, c, m, value }) => {
      const bias = weight(attn + "proj.bias").data[c];
      return [msub(mi("a"), whole(c + 1)), mo("="), mn(value(attn + "proj", row * C + c) - bias), mo("+"), signed(bias, attn + "proj.bias", c), mo("="), m(attn + "proj", row * C + c)];
    },
    vectors: (z) => [channels(z, "a", z.attn + "proj", z.row * z.C, z.C)] },
  { name: "residual", symbol: mrow(mo("+"), mi("x")), title: "Added to the token",
    text: () => "The token keeps what it was, and what it took is added. An MLP follows, then the next block.",
    formula: () => [sub("x", mi("p")), mo("←"), sub("x", mi("p")), mo("+"), vector("a")],
    worked: ({ x, at, attn, row, C, c, m, value }) => [m(x, row * C + c), mo("+"), signedAt(attn + "proj", row * C + c), mo("="), m(at + "residual", row * C + c)],
    vectors: (z) => [channels(z, "x + a", z.at + "residual", z.row * z.C, z.C)] },
];

const keyName = ({ block, tokens, key }) => (tokens[key] < 0 && !block.front ? "(padding)" : coordinates(block, tokens[key]));
const temperate = (z) => (state.options.temperature === 1 ? z : mrow(z, mo("/"), mi("τ")));
const sum = (terms) => terms.join(mo("+"));
const signedAt = (name, index) => signed(steps.get(name).data[index], name, index);
const biasOf = (attn, block, q, key) => signedAt(attn + "bias", (Math.max(0, state.head) * block.N + q) * block.N + key);

// ── worked lines: formulas with the numbers of the run ──────────────────────────────────────────

function workedNorm({ x, at, row, C, c, m, value }) {
  const values = [...steps.get(x).data.subarray(row * C, row * C + C)], mu = values.reduce((a, b) => a + b, 0) / C;
  const variance = values.reduce((a, b) => a + (b - mu) ** 2, 0) / C, gain = weight(at + "norm1.weight").data[c], offset = weight(at + "norm1.bias").data[c];
  return [msub(mi("y"), whole(c + 1)), mo("="), mfrac(mrow(m(x, row * C + c), mo("−"), signed(mu)), msqrt(mn(variance))), mo("·"), signed(gain, at + "norm1.weight", c),
    mo("+"), signed(offset, at + "norm1.bias", c), mo("="), m(at + "norm1", row * C + c)];
}

function workedQuery({ attn, query, head, d, t, m, value }) {
  const bias = weight(attn + "qkv.bias"), offset = bias ? bias.data[head * d + t] : 0;
  return [msub(mi("q"), whole(t + 1)), mo("="), mo("∑"), mi("W"), mi("y"), mo("+"), mi("b"), mo("="), mn(value(attn + "q", query * d + t) - offset), mo("+"), signed(offset), mo("="), m(attn + "q", query * d + t)];
}

function workedScore({ attn, query, keyOf, key, d, block, value, m }) {
  const product = (i) => value(attn + "q", query * d + i) * value(attn + "k", keyOf(key) * d + i);
  let total = 0;
  for (let i = 0; i < d; i++) total += product(i);
  const terms = [0, 1].filter((i) => i < d).map((i) => mrow(signedAt(attn + "q", query * d + i), mo("·"), signedAt(attn + "k", keyOf(key) * d + i)));
  return [mfrac(mrow(sum(terms), mo("+"), mo("…")), msqrt(whole(d))), mo("="), mfrac(mn(total), mn(Math.sqrt(d))), mo("="), m(attn + "scores", query * block.N + key)];
}

function workedBias({ attn, block, q, key, query, m, head }) {
  if (!steps.has(attn + "bias")) return [mi(weight(attn + "relative_position_bias_table") ? "B is switched off" : "this model has no B"), mo(":"), mi("z"), mo("="), m(attn + "scores", query * block.N + key)];
  if (block.front) return [sum([m(attn + "scores", query * block.N + key), biasOf(attn, block, q, key)])];
  const columns = block.window[1], down = Math.floor(q / columns) - Math.floor(key / columns), right = (q % columns) - (key % columns);
  return [mi("B"), mo("["), mn(down), mo(","), mn(right), mo("]"), mo("="), m(attn + "bias", (head * block.N + q) * block.N + key), mo(","), "<mspace width='.8em'/>",
    m(attn + "scores", query * block.N + key), mo("+"), biasOf(attn, block, q, key)];
}

function workedShare({ attn, block, query, key, value, m }) {
  const z = [...Array(block.N).keys()].map((k) => value(attn + "logits", query * block.N + k)), most = Math.max(...z), tau = state.options.temperature;
  const total = z.reduce((a, b) => a + Math.exp((b - most) / tau), 0), power = mrow(mo("("), m(attn + "logits", query * block.N + key), mo("−"), signed(most), mo(")"), ...(tau === 1 ? [] : [mo("/"), mn(tau)]));
  return [mi("p"), mo("="), mfrac(msup(mi("e"), power), mn(total)), mo("="), mfrac(mn(Math.exp((z[key] - most) / tau)), mn(total)), mo("="), m(attn + "probabilities", query * block.N + key)];
}

function workedValue({ attn, block, query, keyOf, d, t, value, m }) {
  const shares = [...Array(block.N).keys()].map((k) => value(attn + "probabilities", query * block.N + k));
  const best = shares.map((_, k) => k).sort((a, b) => shares[b] - shares[a]).slice(0, 3);
  const terms = best.map((k) => mrow(m(attn + "probabilities", query * block.N + k), mo("·"), signedAt(attn + "v", keyOf(k) * d + t)));
  return [msub(mi("o"), whole(t + 1)), mo("="), sum(terms), mo("+"), mo("…"), mo("="), m(attn + "heads", query * d + t)];
}

// ── cells ───────────────────────────────────────────────────────────────────────────────────────

function cellOf({ name, index, value, most, text, id, label: name_, chosen: on, onclick, colour, token, self }) {
  const background = colour || diverging(value, most);
  return element("button", { type: "button", class: [on ? "chosen" : "", self ? "self" : ""].join(" ").trim() || false, style: `background:${written(background)};color:${readable(background)}`,
    "data-cell": id, "data-step": name, "data-index": index, "data-value": value, "aria-label": name_, "aria-pressed": String(Boolean(on)), title: name_, onclick,
    onpointerenter: () => mark(token), onpointerleave: () => mark(null), onfocus: () => mark(token), onblur: () => mark(null) }, text);
}

function mark(token) {
  state.marked = token === undefined ? null : token;
  drawPicture();
}

// A vector of the token: a square for each channel, with its number where it is chosen.
function channels(z, title, name, first, count) {
  const data = steps.get(name).data.subarray(first, first + count), most = largestOf(data), columns = Math.min(16, count);
  const cells = [...data].map((value, i) => cellOf({ name, index: first + i, value, most, text: "", id: `${title}${i}`, label: `channel ${i + 1}: ${digits(value)}`,
    chosen: i === z.c, onclick: () => { chosen.channel = i; arithmetic(); } }));
  return vectorBox(`${title}: ${count} channels, channel ${z.c + 1} is ${digits(data[z.c])}`, cells, columns, most);
}

function parts(z, title, name, row) {
  const first = row * z.d, full = z.attn + name, data = steps.get(full).data.subarray(first, first + z.d), most = largestOf(data);
  const cells = [...data].map((value, i) => cellOf({ name: full, index: first + i, value, most, text: digits(value), id: `${title}${i}`, label: `channel ${i + 1}: ${digits(value)}`,
    chosen: i === z.t, onclick: () => { chosen.part = i; arithmetic(); } }));
  return vectorBox(title, cells, Math.min(8, z.d), most);
}

function vectorBox(title, cells, columns, most) {
  const bar = element("div", { class: "legend" });
  legend(bar, -most, most, (x) => diverging(x, most), "");
  return element("div", { class: "vector" }, element("h3", {}, title), element("div", { class: "cells", style: `grid-template-columns:repeat(${columns},minmax(0,1fr))` }, ...cells), bar);
}

// A number for each key of the window, at the place that the key has in it.
function keyGrid(z, title, name, first, shares = false) {
  const { block, tokens, key, q } = z, data = steps.get(name).data.subarray(first, first + block.N), most = largestOf(name.endsWith("mask") ? [100] : [...data].filter((x) => x > -50));
  const cells = [...data].map((value, k) => cellOf({ name, index: first + k, value, most, text: digits(value), id: `${title}${k}`, self: k === q,
    label: `key ${tokens[k] < 0 && !block.front ? "(padding)" : coordinates(block, tokens[k])}: ${digits(value)}`, token: tokens[k], chosen: k === key,
    colour: shares ? sequential(value, most) : undefined, onclick: () => { chosen.key = k; arithmetic(); } }));
  const columns = block.window[1], bar = element("div", { class: "legend" });
  const leading = cells.slice(0, block.front), inPlace = cells.slice(block.front);
  if (shares) legend(bar, 0, most, (x) => sequential(x, most), ""); else legend(bar, -most, most, (x) => diverging(x, most), "");
  return element("div", { class: "keys", style: `max-width:${Math.max(17, columns * 4.6)}rem` }, element("h3", {}, `${title}: a number for each key`),
    ...(leading.length ? [element("div", { class: "cells", style: `grid-template-columns:repeat(${Math.max(2, leading.length)},5rem);margin-bottom:6px` }, ...leading)] : []),
    element("div", { class: "scroll" }, element("div", { class: "cells", style: `grid-template-columns:repeat(${columns},minmax(${columns > 8 ? "3rem" : "0"},1fr))` }, ...inPlace)), bar);
}

// ── the panel ───────────────────────────────────────────────────────────────────────────────────

function arithmetic() {
  const panel = find("#arithmetic");
  if (!live || !steps.size) return;
  const z = context(), step = STEPS[chosen.step], focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.cell : null;
  [...find("#pipeline").children].forEach((item, i) => item.firstChild.setAttribute("aria-pressed", String(i === chosen.step)));
  find("#arithmetic-of").innerHTML = `${state.pins[0] ? '<span class="pin-a">A</span>' : "The token in the middle"}, ${coordinates(z.block, z.token)}, in ${z.block.name.toLowerCase()}, head ${z.head + 1}`
    + (step.keys || step.name === "qkv" ? `; key ${keyName(z)}` : "") + (state.pins[0] ? "." : ". Pin another in the picture above.");
  const text = element("div", {}, element("h3", {}, `${chosen.step + 1} of ${STEPS.length}: ${step.title}`), element("p", {}, step.text(z)));
  text.insertAdjacentHTML("beforeend", `<div class="formula">${math(...step.formula(z))}</div><div class="worked">${brokenMath(step.worked(z))}</div>`);
  panel.replaceChildren(text, element("div", { class: "vectors" }, ...(step.vectors ? step.vectors(z) : []), ...(step.keys ? step.keys(z) : [])));
  find("#back").disabled = chosen.step === 0;
  find("#forth").disabled = chosen.step === STEPS.length - 1;
  if (focused) { const again = find(`[data-cell="${CSS.escape(focused)}"]`, panel); if (again) again.focus({ preventScroll: true }); }
}

function startArithmetic() {
  find("#pipeline").innerHTML = STEPS.map(({ symbol, title }) => `<li><button type="button" aria-label="${title}" title="${title}">${math(symbol)}</button></li>`).join("");
  all("#pipeline button").forEach((button, i) => button.addEventListener("click", () => { chosen.step = i; arithmetic(); }));
  const go = (by) => { chosen.step = Math.min(STEPS.length - 1, Math.max(0, chosen.step + by)); arithmetic(); };
  find("#back").addEventListener("click", () => go(-1));
  find("#forth").addEventListener("click", () => go(1));
  find("#step").addEventListener("keydown", (event) => {
    if (event.target.closest(".cells")) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") { event.preventDefault(); go(event.key === "ArrowLeft" ? -1 : 1); }
  });
  listen(find("#step"), arithmetic);
}
