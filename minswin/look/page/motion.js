// ── what moves: the shift, the merge, and how far a token sees ──────────────────────────────────

const ease = (t) => t * t * (3 - 2 * t);
const between = (t, from, to = from + 1) => ease(Math.min(1, Math.max(0, (t - from) / (to - from))));

// A slider with a play button; `draw(t)` for t from 0 to the last phase, `phases` in words.
function player(place, phases, draw, seconds = 2.4) {
  const slider = find("input", place), play = find("button.play", place), says = find(".says", place), end = phases.length - 1;
  let playing = 0;
  const showPhase = () => {
    const t = Number(slider.value), [title, text] = phases[Math.min(end, Math.round(t))];
    slider.setAttribute("aria-valuetext", title);
    says.innerHTML = `<b>${title}.</b> ${text}`;
    draw(t);
  };
  const stop = () => { cancelAnimationFrame(playing); playing = 0; play.textContent = "Play"; };
  const frame = (from, start) => (now) => {
    const t = from + (now - start) / 1000 / seconds;
    slider.value = Math.min(end, t);
    showPhase();
    if (t >= end) return stop();
    playing = requestAnimationFrame(frame(from, start));
    return undefined;
  };
  [slider.min, slider.max, slider.step, slider.value] = [0, end, 0.01, 0];
  slider.addEventListener("input", () => { stop(); showPhase(); });
  slider.addEventListener("keydown", ({ key }) => { if (key === "PageUp" || key === "PageDown") stop(); });
  play.addEventListener("click", () => {
    const t = Number(slider.value) >= end ? 0 : Number(slider.value);
    if (playing) return stop();
    if (reduced()) { slider.value = Math.floor(t) + 1; return showPhase(); } // one phase at a time, without motion
    play.textContent = "Pause";
    playing = requestAnimationFrame((now) => frame(t, now)(now));
    return undefined;
  });
  listen(place, showPhase);
  return showPhase;
}

// ── shift, roll, regions, mask, and back ────────────────────────────────────────────────────────

const HUES = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44aa99", "#99aabb"];
const rolledWindow = { number: -1 };

function shiftedGeometry() {
  const block = blocks.find(({ shifts, grid, window }) => shifts && grid[0] > window[0] && grid[1] > window[1]);
  if (!block) return null;
  const { grid, window } = block, by = state.options.shift;
  const shift = window.map((M) => (by === null ? M >> 1 : Math.min(by, M - 1)));
  return { ...block, shift, covered: grid.map((n, i) => multiple(n, window[i])) };
}

function startShift() {
  const place = find("#shift-figure"), geometry = blocks.length && shiftedGeometry();
  if (!place || !geometry) return place && place.closest("section").remove();
  const map = find("canvas.map", place), matrix = find("canvas.matrix", place);
  player(place, [
    ["Windows", "The map, cut into windows. Tokens of different windows never meet."],
    ["Shift", "In the next block the windows lie half a window farther down and right. At the edges, pieces are left over."],
    ["Roll", "Instead of small windows at the edges, the map is rolled up and left: what leaves there comes back at the other end."],
    ["Regions", "The rolled map is cut into the same windows as before. Some now hold pieces from opposite ends of the picture."],
    ["Mask", "Only tokens of one region may see each other. Choose a window: its mask is on the right, a row for each query."],
    ["Roll back", "After attention the map is rolled back, and every token is where it was."],
  ], (t) => drawShift(map, matrix, t));
  map.addEventListener("click", (event) => {
    const { covered: [H, W], window: [Mh, Mw] } = shiftedGeometry(), box = map.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * H / Mh), column = Math.floor(((event.clientX - box.left) / box.width) * W / Mw);
    rolledWindow.number = row * (W / Mw) + column;
    find("input", place).value = 4;
    redraw();
  });
}

function drawShift(map, matrix, t) {
  const g = shiftedGeometry(), [H, W] = g.covered, [Mh, Mw] = g.window, [sh, sw] = g.shift, side = 520;
  const unit = side / Math.max(H, W), pen = map.getContext("2d");
  [map.width, map.height] = [W * unit, H * unit];
  const slid = between(t, 0), rolled = between(t, 1) - between(t, 4), marked = between(t, 2) - between(t, 4), masked = between(t, 3) - between(t, 4);
  const [dy, dx] = [-rolled * sh * unit, -rolled * sw * unit];
  pen.imageSmoothingEnabled = false;
  pen.fillStyle = css("--field");
  pen.fillRect(0, 0, map.width, map.height);
  const [gh, gw] = [g.grid[0] * unit, g.grid[1] * unit];
  for (const y of [0, H * unit]) for (const x of [0, W * unit]) pen.drawImage(source, x + dx, y + dy, gw, gh);
  drawRegions(pen, g, unit, marked);
  const at = between(t, 4) > 0 ? 1 - between(t, 4) : slid; // lines go back with the map
  const y0 = dy + at * sh * unit, x0 = dx + at * sw * unit;
  for (const [colour, width] of [["rgb(0 0 0 / .55)", 5], ["#fff", 2.5]]) {
    [pen.strokeStyle, pen.lineWidth] = [colour, width];
    pen.beginPath();
    for (let y = y0 % (Mh * unit); y <= map.height + 1; y += Mh * unit) { pen.moveTo(0, y); pen.lineTo(map.width, y); }
    for (let x = x0 % (Mw * unit); x <= map.width + 1; x += Mw * unit) { pen.moveTo(x, 0); pen.lineTo(x, map.height); }
    pen.stroke();
  }
  const across = W / Mw, number = rolledWindow.number < 0 ? (H / Mh) * across - 1 : rolledWindow.number;
  if (masked > 0.02) {
    [pen.strokeStyle, pen.lineWidth, pen.globalAlpha] = [css("--b"), 6, masked];
    pen.strokeRect((number % across) * Mw * unit + 3, Math.floor(number / across) * Mh * unit + 3, Mw * unit - 6, Mh * unit - 6);
    pen.globalAlpha = 1;
  }
  drawMatrix(matrix, g, number, masked);
}

function drawRegions(pen, { covered: [H, W], window, shift }, unit, opacity) {
  if (opacity < 0.02) return;
  const { data } = shiftRegions([H, W], window, shift), middles = new Map();
  data.forEach((region, i) => {
    const row = Math.floor(i / W), column = i % W, seen = middles.get(region) || [0, 0, 0];
    pen.globalAlpha = 0.62 * opacity;
    fill(pen, HUES[region], column * unit, row * unit, unit, unit);
    middles.set(region, [seen[0] + row + 0.5, seen[1] + column + 0.5, seen[2] + 1]);
  });
  pen.globalAlpha = opacity;
  [pen.textAlign, pen.textBaseline] = ["center", "middle"];
  pen.font = `bold ${Math.max(16, Math.min(30, unit * 0.9))}px sans-serif`;
  middles.forEach(([y, x, n], region) => {
    [pen.lineWidth, pen.strokeStyle, pen.fillStyle] = [5, "rgb(0 0 0 / .7)", "#fff"];
    pen.strokeText(region + 1, (x / n) * unit, (y / n) * unit);
    pen.fillText(region + 1, (x / n) * unit, (y / n) * unit);
  });
  pen.globalAlpha = 1;
}

function drawMatrix(made, { covered, window, shift, N }, number, opacity) {
  const pen = made.getContext("2d"), side = Math.max(4, Math.floor(300 / N));
  [made.width, made.height] = [N * side, N * side];
  made.style.opacity = Math.max(0.08, opacity);
  const mask = attentionMask(covered, window, shift).data, { data } = shiftRegions(covered, window, shift);
  const region = places(covered, window).map((place) => data[place]), field = css("--field");
  for (let q = 0; q < N; q++) for (let k = 0; k < N; k++) {
    pen.fillStyle = mask[(number * N + q) * N + k] === 0 ? HUES[region[number * N + k]] : field;
    pen.fillRect(k * side, q * side, side - 1, side - 1);
  }
}

// ── patch merging ───────────────────────────────────────────────────────────────────────────────

const FOUR = ["#4477aa", "#ee6677", "#228833", "#b08a00"];

function startMerge() {
  const place = find("#merge-figure"), name = "layers.0.downsample.neighbours";
  if (!place || !steps.has(name)) return place && place.closest("section").remove();
  player(place, [
    ["Four neighbours", "Two rows and two columns of tokens, around the pinned one."],
    ["Side by side", "Their channels are put in a row: left above, left below, right above, right below. To take right above second is a classic mistake of ports."],
    ["Four times the channels", "The numbers are those of the picture above. They are normalised together."],
    ["Twice the channels", "A linear map makes one token of them. The map has half the side, and the next windows cover twice as much of the picture."],
  ], (t) => drawMerge(find("canvas", place), t, name));
}

function drawMerge(made, t, name) {
  const pen = made.getContext("2d"), [h, w, width] = steps.get(name).shape, C = width / 4, first = blocks[0];
  const { x, y } = state.pins[0] && state.pins[0].front === undefined ? state.pins[0] : { x: 0.5, y: 0.5 };
  const row = Math.min(h - 1, Math.floor(y * h)), column = Math.min(w - 1, Math.floor(x * w));
  [made.width, made.height] = [640, 300];
  const apart = between(t, 0), strips = between(t, 1), merged = between(t, 2), box = 110, gap = 12;
  const dx = imageWidth / first.grid[1], dy = imageHeight / first.grid[0];
  pen.imageSmoothingEnabled = false;
  NEIGHBOURS.forEach(([i, j], n) => {
    const from = [200 + j * (box + 4), 30 + i * (box + 4)], to = [(640 - 4 * box - 3 * gap) / 2 + n * (box + gap), 30];
    const left = from[0] + (to[0] - from[0]) * apart, top = from[1] + (to[1] - from[1]) * apart;
    pen.drawImage(source, (2 * column + j) * dx, (2 * row + i) * dy, dx, dy, left, top, box, box);
    [pen.strokeStyle, pen.lineWidth] = [FOUR[n], 6];
    pen.strokeRect(left + 3, top + 3, box - 6, box - 6);
    pen.fillStyle = css("--ink");
    [pen.font, pen.textAlign] = ["15px sans-serif", "center"];
    if (apart > 0.9) pen.fillText(["left above", "left below", "right above", "right below"][n], left + box / 2, top + box + 20);
    if (strips > 0.01) strip(pen, steps.get(name).data.subarray(((row * w + column) * 4 + n) * C, ((row * w + column) * 4 + n + 1) * C), left, 175, box, 34, strips);
  });
  if (merged > 0.01) {
    const out = steps.get("layers.0.downsample.reduction").data.subarray((row * w + column) * 2 * C, (row * w + column + 1) * 2 * C);
    strip(pen, out, 320 - box, 240, 2 * box, 34, merged);
    pen.fillStyle = css("--ink");
    [pen.font, pen.globalAlpha] = ["15px sans-serif", merged];
    pen.fillText(`one token of ${2 * C} channels`, 320, 292);
    pen.globalAlpha = 1;
  }
}

function strip(pen, values, left, top, wide, high, opacity) {
  const most = largestOf(values);
  pen.globalAlpha = opacity;
  values.forEach((x, i) => {
    pen.fillStyle = written(diverging(x, most));
    pen.fillRect(left + (i * wide) / values.length, top, wide / values.length + 0.4, high);
  });
  pen.globalAlpha = 1;
}

// ── how far a token sees ────────────────────────────────────────────────────────────────────────

// The pixels that a token depends on after block `upto`, (H, W): 1 for each.
function reachOf(chain, upto, token, masked = true) {
  let reached = new Set([token]);
  for (let i = upto; i >= 0; i--) {
    const block = chain[i], mask = masked && !block.whole && block.shift.some(Boolean) ? attentionMask(block.covered, block.window, block.shift).data : null;
    const seen = new Set();
    reached.forEach((each) => {
      const { w, q, tokens } = neighbourhood(block, each);
      tokens.forEach((key, k) => { if (key >= 0 && !(mask && mask[(w * block.N + q) * block.N + k])) seen.add(key); });
    });
    reached = seen;
    if (i && chain[i - 1].stage !== block.stage) reached = unmerged(reached, chain[i - 1].grid, block.grid);
  }
  return pixelsOf(reached, chain[0].grid);
}

// The pixels of tokens of the first map: back through the convolutions that made them.
function pixelsOf(tokens, grid) {
  const size = [imageHeight, imageWidth], seen = new Uint8Array(imageHeight * imageWidth), layers = [...page.stem].reverse();
  tokens.forEach((token) => {
    const [[top, below], [left, right]] = [Math.floor(token / grid[1]), token % grid[1]].map((place, i) => {
      const [from, to] = layers.reduce(([a, b], { stride, padding, kernel }) => [a * stride[i] - padding[i], b * stride[i] - padding[i] + kernel[i] - 1], [place, place]);
      return [Math.max(0, Math.floor(from)), Math.min(size[i], Math.floor(to) + 1)];
    });
    for (let row = top; row < below; row++) seen.fill(1, row * imageWidth + left, row * imageWidth + right);
  });
  return seen;
}

function unmerged(reached, [H, W], [, w]) {
  const wider = new Set();
  reached.forEach((token) => NEIGHBOURS.forEach(([i, j]) => {
    const row = 2 * Math.floor(token / w) + i, column = 2 * (token % w) + j;
    if (row < H && column < W) wider.add(row * W + column);
  }));
  return wider;
}

function startReach() {
  const place = find("#reach-figure");
  if (!place || !blocks.length) return;
  const slider = find("input", place);
  slider.max = blocks.length - 1;
  slider.value = 0;
  slider.addEventListener("input", () => drawReach(place, Number(slider.value)));
  listen(place, () => drawReach(place, Math.min(blocks.length - 1, Number(slider.value))));
}

function drawReach(place, upto) {
  const alone = blocksOf({ ...state.options, shift: 0 }), pin_ = state.pins[0] && state.pins[0].front === undefined ? state.pins[0] : { x: 0.45, y: 0.45 };
  const chains = blocks[0].whole || !live ? [blocks] : [blocks, alone], shares = [];
  all("canvas", place).forEach((made, n) => {
    made.closest("figure").hidden = !chains[n];
    if (!chains[n]) return;
    const reached = reachOf(chains[n], upto, tokenAt(chains[n][upto], pin_), state.options.mask), pen = made.getContext("2d"), unit = 320 / Math.max(imageHeight, imageWidth);
    [made.width, made.height] = [imageWidth * unit, imageHeight * unit];
    pen.imageSmoothingEnabled = false;
    pen.drawImage(source, 0, 0, made.width, made.height);
    const pale = `rgb(${css("--pale")} / .82)`;
    for (let i = 0; i < reached.length; i++) if (!reached[i]) {
      const first = i; // of a piece of a row that is not reached
      while ((i + 1) % imageWidth && !reached[i + 1]) i++;
      fill(pen, pale, (first % imageWidth) * unit, Math.floor(i / imageWidth) * unit, (i - first + 1) * unit, unit);
    }
    const grid = chains[n][upto].grid, token = tokenAt(chains[n][upto], pin_), side = [made.width / grid[1], made.height / grid[0]];
    [pen.strokeStyle, pen.lineWidth] = [css("--a"), 4];
    pen.strokeRect((token % grid[1]) * side[0], Math.floor(token / grid[1]) * side[1], ...side);
    shares.push(reached.reduce((a, b) => a + b, 0) / reached.length);
  });
  find("input", place).setAttribute("aria-valuetext", blocks[upto].name);
  find(".says", place).innerHTML = `After <b>${blocks[upto].name.toLowerCase()}</b> a token can depend on <b>${percent(shares[0])}</b> of the picture`
    + (shares.length > 1 ? `; with windows that never move, on <b>${percent(shares[1])}</b>.` : ".");
}
