// ── figures of the article that answer to the reader ────────────────────────────────────────────

const SVG = "http://www.w3.org/2000/svg";

function drawn(kind, attributes, ...children) {
  const made = document.createElementNS(SVG, kind);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

// ── cost: equations (1) and (2) ─────────────────────────────────────────────────────────────────

const msaMacs = (h, w, C) => 4 * h * w * C ** 2 + 2 * (h * w) ** 2 * C;
const wmsaMacs = (h, w, C, M) => 4 * h * w * C ** 2 + 2 * M ** 2 * h * w * C;

function startCost() {
  const place = find("#cost-figure"), { C, M, patch } = page.cost;
  if (!place) return;
  const slider = find("input", place);
  [slider.min, slider.max, slider.value] = [1, 16, 4];
  const side = (t) => M * t, largest = msaMacs(side(16), side(16), C), wide = 520, high = 260, left = 64, below = 34;
  const at = (t, macs) => [left + ((wide - left - 10) * (t - 1)) / 15, 10 + (high - below - 10) * (1 - macs / largest)];
  const line = (f) => Array.from({ length: 61 }, (_, i) => at(1 + i / 4, f(side(1 + i / 4))).map((n) => n.toFixed(1)).join(" ")).join(" L");
  const whole = (s) => msaMacs(s, s, C), inWindows = (s) => wmsaMacs(s, s, C, M);
  const draw = () => {
    const t = Number(slider.value), s = side(t), svg = drawn("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": "multiply-adds against the side of the picture" });
    for (const share of [0, 0.5, 1]) {
      const [, y] = at(1, largest * share), text = drawn("text", { x: left - 6, y: y + 4, "text-anchor": "end" });
      text.textContent = share ? `${((largest * share) / 1e9).toPrecision(2)} G` : "0";
      svg.append(drawn("line", { x1: left, x2: wide - 10, y1: y, y2: y, stroke: css("--line") }), text);
    }
    for (const tick of [1, 4, 8, 12, 16]) {
      const text = drawn("text", { x: at(tick, 0)[0], y: high - 14, "text-anchor": "middle" });
      text.textContent = `${side(tick) * patch}`;
      svg.append(text);
    }
    for (const [f, colour] of [[whole, "--b"], [inWindows, "--a"]]) {
      const [x, y] = at(t, f(s));
      svg.append(drawn("path", { d: `M${line(f)}`, fill: "none", stroke: css(colour), "stroke-width": 2.5 }), drawn("circle", { cx: x, cy: y, r: 6, fill: css(colour) }));
    }
    find(".chart", place).replaceChildren(svg);
    slider.setAttribute("aria-valuetext", `${s * patch} pixels`);
    find(".says", place).innerHTML = `A picture of <b>${s * patch}×${s * patch}</b> pixels has <b>${grouped(s * s)}</b> tokens. <span class="pin-b">All with all</span>: <b>${million(whole(s))}</b> multiply-adds. `
      + `<span class="pin-a">In windows</span>: <b>${million(inWindows(s))}</b>, ${(whole(s) / inWindows(s)).toFixed(1)} times less.`;
  };
  slider.addEventListener("input", draw);
  listen(place, draw);
}

// ── how sharp the softmax is ────────────────────────────────────────────────────────────────────

// p to the power 1/τ, over its sum: the softmax of the logits over τ, relative to what it is now.
function sharpened(shares, tau) {
  const powers = Array.from(shares, (p) => p ** (1 / tau)), total = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / total);
}

function startSharp() {
  const place = find("#sharp-figure");
  if (place) listen(place, () => drawSharp(place));
}

function drawSharp(place) {
  const block = current(), { pin: at, i } = shown()[0] || { pin: { x: 0.5, y: 0.5 }, i: 0 };
  const shares = sharesOf(block, Math.max(0, state.head), tokenAt(block, at)).sort().reverse().slice(0, 16), high = 110;
  place.replaceChildren(...[0.5, 1, 2].map((factor) => {
    const p = sharpened(shares, factor), tau = factor * state.options.temperature, wide = 220, bar = wide / p.length;
    const svg = drawn("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `temperature ${tau.toFixed(2)}: the largest share is ${percent(p[0])}` });
    p.forEach((share, k) => svg.append(drawn("rect", { x: (k * bar).toFixed(1), y: (high - share * high).toFixed(1), width: (bar - 1.5).toFixed(1), height: Math.max(0.5, share * high).toFixed(1), fill: css(i ? "--b" : "--a") })));
    svg.append(drawn("line", { x1: 0, x2: wide, y1: high, y2: high, stroke: css("--soft") }));
    return element("div", {}, element("h3", {}, `τ = ${tau.toFixed(2)}: largest ${percent(p[0])}`), svg);
  }));
}

// ── the vectors of places, of a ViT ─────────────────────────────────────────────────────────────

function startPlaces() {
  const place = find("#places-figure");
  if (!place) return;
  if (!page.similarity) { place.replaceChildren(); return; }
  const half = new Uint16Array(Uint8Array.from(atob(page.similarity.data), (letter) => letter.charCodeAt(0)).buffer);
  const alike = Float32Array.from(half, fromHalf), [H, W] = page.similarity.shape;
  listen(place, () => {
    const token = Math.max(0, tokenAt({ grid: [H, W], front: 0 }, state.pins[0] && state.pins[0].front === undefined ? state.pins[0] : { x: 0.5, y: 0.5 }));
    const made = find("canvas", place), pen = made.getContext("2d"), values = alike.subarray(token * H * W, (token + 1) * H * W);
    [made.width, made.height] = [W, H];
    values.forEach((x, i) => fill(pen, written(diverging(x, 1)), i % W, Math.floor(i / W), 1, 1));
    legend(find(".legend", place), -1, 1, (x) => diverging(x, 1), "cosine");
    find(".says", place).textContent = `The vector of place (${Math.floor(token / W) + 1}, ${(token % W) + 1}) beside those of all places: red is alike, white unrelated.`;
  });
}

// ── what the bias learnt ────────────────────────────────────────────────────────────────────────

// The table of a block, (2Mh−1, 2Mw−1) for each head, with the query in the middle and the key where it is.
function biasOfBlock(block) {
  const recorded = page.biases && page.biases[`${block.stage}.${block.block}`];
  const table = live ? weight(block.at + "attn.relative_position_bias_table") : recorded && tensor(recorded.shape, decoded(recorded.data));
  if (!table || block.front || block.whole) return null;
  const [Mh, Mw] = block.tableWindow || block.window, heads = table.shape[1], columns = 2 * Mw - 1, rowsOf = 2 * Mh - 1;
  return { columns, rowsOf, middle: [Mh - 1, Mw - 1], heads: Array.from({ length: heads }, (_, h) =>
    Float32Array.from({ length: rowsOf * columns }, (_, i) => table.data[(rowsOf * columns - 1 - i) * heads + h])) };
}

const decoded = (text) => new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

function startBias() {
  const place = find("#bias-figure");
  if (!place) return;
  listen(place, () => drawBias(place));
}

function drawBias(place) {
  const block = current(), bias = biasOfBlock(block), maps = find(".biases", place);
  find(".says", place).textContent = bias ? `${block.name}: the query is in the middle. Point at a place to see what is added to the logit of a key there.` : "This block has no such table.";
  maps.replaceChildren();
  if (!bias) return;
  const most = Math.max(...bias.heads.map(largestOf));
  legend(find(".legend", place), -most, most, (x) => diverging(x, most), "");
  bias.heads.forEach((values, h) => {
    const made = element("canvas", { width: bias.columns * 20, height: bias.rowsOf * 20, role: "img", "aria-label": `bias of head ${h + 1}` }), pen = made.getContext("2d");
    values.forEach((x, i) => {
      pen.fillStyle = written(diverging(x, most));
      pen.fillRect((i % bias.columns) * 20, Math.floor(i / bias.columns) * 20, 19, 19);
    });
    [pen.strokeStyle, pen.lineWidth] = [css("--ink"), 2];
    pen.strokeRect(bias.middle[1] * 20 + 3, bias.middle[0] * 20 + 3, 13, 13);
    made.addEventListener("pointermove", (event) => {
      const box = made.getBoundingClientRect(), row = Math.floor(((event.clientY - box.top) / box.height) * bias.rowsOf), column = Math.floor(((event.clientX - box.left) / box.width) * bias.columns);
      const [down, right] = [row - bias.middle[0], column - bias.middle[1]], i = row * bias.columns + column;
      if (i >= 0 && i < values.length) find(".says", place).innerHTML = `Head ${h + 1}, a key ${way(down, "below", "above")}${down && right ? " and " : ""}${way(right, "to the right", "to the left")}${down || right ? "" : "at the query itself"}: <b>${digits(values[i])}</b>`;
    });
    maps.append(element("div", {}, element("h3", {}, `Head ${h + 1}`), made));
  });
}

const way = (n, more, less) => (n ? `${Math.abs(n)} ${n > 0 ? more : less}` : "");

// ── pictures as points ──────────────────────────────────────────────────────────────────────────

const COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999", "#ee8866", "#7a5195", "#44aa99"];

function startPoints() {
  const place = find("#points-figure");
  if (!place || !page.planes.length) return place && place.closest("section").remove();
  const classes = page.examples.classes;
  find(".key", place).replaceChildren(...classes.slice(0, 24).map((name, k) => element("li", {}, element("i", { style: `background:${COLOURS[k % COLOURS.length]}` }), name)));
  listen(place, () => find(".points", place).replaceChildren(...page.planes.map(plane)));
}

function plane({ title, points, picture, basis, centre: middle }) {
  const star = basis && steps.has("pooled") ? basis.map((axis) => axis.reduce((a, x, c) => a + x * (steps.get("pooled").data[c] - middle[c]), 0)) : picture;
  const xs = [...points.map(([x]) => x), star[0]], ys = [...points.map(([, y]) => y), star[1]], side = 380;
  const to = (v, values) => 14 + ((side - 28) * (v - Math.min(...values))) / ((Math.max(...values) - Math.min(...values)) || 1);
  const svg = drawn("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": `${points.length} pictures as points, and this one as a star` });
  points.forEach(([x, y, k]) => svg.append(drawn("circle", { cx: to(x, xs).toFixed(1), cy: (side - to(y, ys)).toFixed(1), r: 3.6, fill: COLOURS[k % COLOURS.length], "fill-opacity": 0.75 })));
  const [cx, cy] = [to(star[0], xs), side - to(star[1], ys)];
  const tips = Array.from({ length: 10 }, (_, i) => { const r = i % 2 ? 5.2 : 12.5, a = (Math.PI * i) / 5 - Math.PI / 2; return `${(cx + r * Math.cos(a)).toFixed(1)},${(cy + r * Math.sin(a)).toFixed(1)}`; });
  svg.append(drawn("polygon", { points: tips.join(" "), fill: css("--ink"), stroke: css("--paper"), "stroke-width": 1.5, "data-x": star[0], "data-y": star[1] }));
  return element("figure", { style: "margin:0" }, element("h3", {}, title), svg);
}

// ── channels of the map ─────────────────────────────────────────────────────────────────────────

function startChannels() {
  const place = find("[data-channels]");
  if (place) listen(place, () => drawChannels(place));
}

function drawChannels(place) {
  const block = current(), map = live ? steps.get(block.at + "output") : null;
  const [H, W] = block ? block.grid : [0, 0], recorded = page.features;
  const maps = map ? liveliest(map, block) : recorded.map(({ name, shape, data, channel }) => ({ name: `${name}, channel ${channel + 1}`, shape, values: decoded(data) }));
  find(".biases", place).replaceChildren(...maps.map(({ name, shape = [H, W], values }) => {
    const made = element("canvas", { width: shape[1], height: shape[0], role: "img", "aria-label": name, style: "cursor:default" }), pen = made.getContext("2d"), most = largestOf(values);
    values.forEach((x, i) => { pen.fillStyle = written(diverging(x, most)); pen.fillRect(i % shape[1], Math.floor(i / shape[1]), 1, 1); });
    return element("div", {}, element("h3", {}, `${name}, ± ${digits(most)}`), made);
  }));
}

// The channels that vary most over the map.
function liveliest({ data, shape }, block, count = 6) {
  const C = last(shape), n = data.length / C - block.front;
  const values = Array.from({ length: C }, (_, c) => Float32Array.from({ length: n }, (_, i) => data[(i + block.front) * C + c]));
  const spread = values.map((v) => { const mu = v.reduce((a, b) => a + b, 0) / n; return v.reduce((a, b) => a + (b - mu) ** 2, 0); });
  return spread.map((_, c) => c).sort((a, b) => spread[b] - spread[a]).slice(0, count).map((c) => ({ name: `channel ${c + 1}`, values: values[c] }));
}

// ── what it cannot do ───────────────────────────────────────────────────────────────────────────

function noise() {
  const pen = source.getContext("2d"), image = pen.createImageData(imageWidth, imageHeight);
  image.data.forEach((_, i) => { image.data[i] = i % 4 === 3 ? 255 : Math.floor(256 * Math.random()); });
  pen.putImageData(image, 0, 0);
  changed({ rerun: true });
}

function mirrored() {
  const pen = source.getContext("2d"), copy = element("canvas", { width: imageWidth, height: imageHeight });
  copy.getContext("2d").drawImage(source, 0, 0);
  pen.setTransform(1, 0, 0, -1, 0, imageHeight);
  pen.drawImage(copy, 0, 0);
  pen.resetTransform();
  changed({ rerun: true });
}
