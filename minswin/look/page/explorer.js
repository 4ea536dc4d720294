// ── the state of the page, and what follows when it changes ─────────────────────────────────────

const state = {
  options: { shift: null, mask: true, bias: true, temperature: 1, off: {} },
  block: 0, head: -1, scale: "one", mode: "pin",
  pins: [null, null], cursor: null, marked: null, // marked: a token that a number of the page is about
};
let blocks = [];
let before = null; // the answer without switches, where some are set
const figuresOf = []; // what is farther down: {place, draw, fresh}

const current = () => blocks[state.block];
const reduced = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function switched() {
  const { shift, mask, bias, temperature, off } = state.options;
  return shift !== null || !mask || !bias || temperature !== 1 || Object.values(off).some((heads) => heads.length);
}

// The pins; before there is one, what is pointed at.
function shown() {
  const set = state.pins.map((pin, i) => ({ pin, i })).filter(({ pin }) => pin);
  return set.length || !state.cursor ? set : [{ pin: state.cursor, i: 0 }];
}

let scheduled = false;
let stale = false;

// Another picture or another switch: run the model; otherwise draw again.
function changed({ rerun = false } = {}) {
  stale = stale || rerun;
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    if (!stale) return redraw();
    stale = false;
    request(source.getContext("2d").getImageData(0, 0, imageWidth, imageHeight).data, state.options, answered, waiting);
  });
}

function answered(milliseconds) {
  blocks = blocksOf(state.options);
  showAnswer();
  if (milliseconds !== null) find("#timing").textContent =
    `${million(page.macs)} multiply-adds in ${Math.max(1, Math.round(milliseconds))} ms, in this browser`;
  drawPicture();
  speak();
  document.dispatchEvent(new CustomEvent("answered"));
  requestAnimationFrame(redraw);
}

function waiting(share) {
  find("#timing").textContent = `running, ${Math.min(99, Math.round(100 * share))} %`;
}

function redraw() {
  offerZoom();
  drawPicture();
  figuresOf.forEach((figure) => { figure.fresh = false; });
  drawNear();
  if (!blocks.length) return;
  drawBlocks();
  drawHeads();
  say();
}

// A figure that is drawn again when the run has changed and it is on the screen, or near.
function listen(place, draw) {
  figuresOf.push({ place, draw, fresh: false });
}

function drawNear() {
  for (const figure of figuresOf) {
    const { top, bottom } = figure.place.getBoundingClientRect();
    if (figure.fresh || bottom < -200 || top > innerHeight + 200) continue;
    figure.fresh = true;
    figure.draw();
  }
}

document.addEventListener("scroll", () => requestAnimationFrame(drawNear), { passive: true });

// ── the answer ──────────────────────────────────────────────────────────────────────────────────

function showAnswer() {
  const p = probabilities(), order = p.map((_, k) => k).sort((a, b) => p[b] - p[a]).slice(0, 5);
  if (!switched()) before = p;
  find("#answer").replaceChildren(...order.map((k) => element("li", { "data-class": page.classes[k], "data-share": p[k] },
    element("span", {}, page.classes[k]), element("span", { class: "share" }, percent(p[k])),
    element("span", { class: "bar" }, element("i", { style: `width:${100 * p[k]}%` }),
      ...(switched() && before ? [element("u", { style: `left:${100 * before[k]}%`, title: `without switches: ${percent(before[k])}` })] : [])))));
  find("#before").hidden = !switched();
}

// For a screen reader, once the answer has come to rest.
function speak() {
  clearTimeout(speak.timer);
  speak.timer = setTimeout(() => { find("#spoken").textContent = all("#answer li").slice(0, 2).map((row) => row.textContent).join(", "); }, 700);
}

// ── the picture ─────────────────────────────────────────────────────────────────────────────────

const source = element("canvas", { width: imageWidth, height: imageHeight }); // what the model is given
source.getContext("2d", { willReadFrequently: true });
const canvas = find("#picture");

function cell({ grid: [H, W] }, token) {
  const high = canvas.height / H, wide = canvas.width / W;
  return [(token % W) * wide, Math.floor(token / W) * high, wide, high];
}

function drawPicture() {
  const pen = canvas.getContext("2d"), block = current();
  const wide = Math.max(imageWidth, Math.round((canvas.clientWidth || 400) * (window.devicePixelRatio || 1)));
  [canvas.width, canvas.height] = [wide, Math.round((wide * imageHeight) / imageWidth)];
  pen.imageSmoothingEnabled = false;
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  if (!block) return;
  const pins = shown();
  if (state.mode === "pin" && pins.length) {
    pen.fillStyle = `rgb(${css("--pale")} / .5)`;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pins.forEach(({ pin, i }) => shade(pen, block, tokenAt(block, pin), i));
  }
  if (!block.whole) edges(pen, block, (a, b) => a !== b, "rgb(255 255 255 / .95)", 1.3);
  if (state.cursor && state.cursor.front === undefined) ring(pen, block, tokenAt(block, state.cursor), css("--ink"), 1.2);
  if (state.mode === "draw") return;
  if (!block.whole) pins.forEach(({ pin, i }) => {
    const { w } = neighbourhood(block, tokenAt(block, pin));
    edges(pen, block, (a, b) => (a === w) !== (b === w), css(i ? "--b" : "--a"), 2.2);
  });
  pins.forEach(({ pin, i }) => label(pen, block, tokenAt(block, pin), i));
  if (state.marked !== null && state.marked >= 0) ring(pen, block, state.marked, css("--ink"), 2.6);
}

// What the full colour stands for: the largest share, of this head or of all, and never less than
// three times an equal share, so that a token that takes the same from all is pale.
function fullColour(block, token, head, scale = state.scale) {
  const heads = scale === "one" ? Array.from({ length: block.heads }, (_, h) => h) : [head];
  return Math.max(3 / block.N, ...heads.map((h) => largestOf(sharesOf(block, h, token))));
}

function shade(pen, block, token, i) {
  const shares = sharesOf(block, state.head, token), { tokens } = neighbourhood(block, token);
  const most = fullColour(block, token, state.head), [r, g, b] = fromHex(i ? "--b" : "--a");
  tokens.forEach((key, k) => {
    if (key < 0) return;
    fill(pen, `rgb(${r} ${g} ${b} / ${0.9 * Math.min(1, shares[k] / most) ** 0.8})`, ...cell(block, key));
  });
}

// Pixels of the canvas for each pixel of a picture of the usual width.
const fine = () => Math.min(canvas.width / 400, 2 * (window.devicePixelRatio || 1));

// Lines between neighbouring tokens whose windows fulfil a condition; −1: outside of the map.
function edges(pen, block, condition, colour, width) {
  const { grid: [H, W], slots, N } = block;
  const window_ = (r, c) => (r < 0 || c < 0 || r >= H || c >= W ? -1 : Math.floor(slots[r * W + c] / N));
  const inside = (a, b) => condition(a, b) && (a >= 0 && b >= 0 || width > 2);
  pen.beginPath();
  for (let r = 0; r <= H; r++) for (let c = 0; c <= W; c++) {
    const [x, y, wide, high] = [(c * canvas.width) / W, (r * canvas.height) / H, canvas.width / W, canvas.height / H].map(Math.round);
    if (r < H && inside(window_(r, c), window_(r, c - 1))) { pen.moveTo(x, y); pen.lineTo(x, y + high); }
    if (c < W && inside(window_(r, c), window_(r - 1, c))) { pen.moveTo(x, y); pen.lineTo(x + wide, y); }
  }
  for (const [stroke, extra] of [["rgb(0 0 0 / .45)", 1.4], [colour, 0]]) {
    [pen.strokeStyle, pen.lineWidth] = [stroke, (width + extra) * fine()];
    pen.stroke();
  }
}

function ring(pen, block, token, colour, width) {
  const [x, y, wide, high] = cell(block, token);
  for (const [stroke, extra] of [["rgb(255 255 255 / .9)", 1.6], [colour, 0]]) {
    [pen.strokeStyle, pen.lineWidth] = [stroke, (width + extra) * fine()];
    pen.strokeRect(x, y, wide, high);
  }
}

function label(pen, block, token, i) {
  if (token < 0) return;
  const colour = css(i ? "--b" : "--a"), [x, y, wide, high] = cell(block, token);
  ring(pen, block, token, colour, 2.4);
  if (!state.pins[i]) return;
  const size = Math.round(15 * fine()), left = Math.min(x + wide, canvas.width - size), top = Math.max(0, y - size);
  pen.fillStyle = colour;
  pen.fillRect(left, top, size, size);
  pen.fillStyle = readable(fromHex(i ? "--b" : "--a"));
  pen.font = `bold ${Math.round(11 * fine())}px sans-serif`;
  [pen.textAlign, pen.textBaseline] = ["center", "middle"];
  pen.fillText("AB"[i], left + size / 2, top + size / 2 + 1);
}

// ── pointing, pinning, drawing ──────────────────────────────────────────────────────────────────

function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

const samePlace = (a, b) => a && b && tokenAt(current(), a) === tokenAt(current(), b);

// The first pin, then the second, which moves from then on; a pinned token lets go.
function pin(place) {
  chosen.key = null;
  const again = state.pins.findIndex((set) => samePlace(set, place));
  if (again >= 0) state.pins[again] = null;
  else state.pins[state.pins[0] ? 1 : 0] = place;
  if (!state.pins[0] && state.pins[1]) state.pins.reverse();
  changed();
}

function letGo() {
  if (state.pins[1]) state.pins[1] = null;
  else state.pins[0] = null;
  state.marked = null;
  changed();
}

const brush = { last: null, colour: find("#colour"), width: find("#width") };

function paint({ x, y }) {
  const pen = source.getContext("2d"), point = [x * imageWidth, y * imageHeight];
  [pen.strokeStyle, pen.lineCap, pen.lineJoin] = [brush.colour.value, "round", "round"];
  pen.lineWidth = (Number(brush.width.value) / 32) * imageWidth;
  pen.beginPath();
  pen.moveTo(...(brush.last || point));
  pen.lineTo(point[0] + 0.01, point[1]);
  pen.stroke();
  brush.last = point;
  all("#samples button").forEach((button) => button.setAttribute("aria-pressed", "false"));
  changed({ rerun: true });
}

canvas.addEventListener("pointerdown", (event) => {
  if (state.mode === "draw" && live) {
    canvas.setPointerCapture(event.pointerId);
    brush.last = null;
    return paint(placeOf(event));
  }
  return undefined;
});
canvas.addEventListener("click", (event) => {
  if (state.mode === "draw" || !blocks.length) return;
  if (event.pointerType === "touch") state.cursor = null;
  pin(pinOn(current(), tokenAt(current(), placeOf(event))));
});
canvas.addEventListener("pointermove", (event) => {
  if (state.mode === "draw" && live) {
    if (event.buttons & 1) paint(placeOf(event));
    return;
  }
  if (event.pointerType === "touch" || !blocks.length) return;
  const place = pinOn(current(), tokenAt(current(), placeOf(event)));
  if (samePlace(place, state.cursor)) return;
  state.cursor = place;
  changed();
});
canvas.addEventListener("pointerup", () => { brush.last = null; });
canvas.addEventListener("pointerleave", () => { if (document.activeElement !== canvas) { state.cursor = null; changed(); } });
canvas.addEventListener("blur", () => { state.cursor = null; changed(); });

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  if (!blocks.length) return;
  const block = current(), [H, W] = block.grid, at = tokenAt(block, state.cursor || state.pins[0] || { x: 0.5, y: 0.5 });
  if (event.key in MOVES) {
    const [down, right] = MOVES[event.key], row = Math.floor(Math.max(0, at) / W) + down, column = (Math.max(0, at) % W) + right;
    if (row >= 0 && row < H && column >= 0 && column < W) state.cursor = pinOn(block, row * W + column);
    changed();
  } else if (event.key === "Enter" || event.key === " ") {
    brush.last = null;
    if (state.mode === "draw") paint(pinOn(block, at));
    else pin(pinOn(block, at));
  }
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") letGo(); });

// Tokens of at least 24 pixels: where they are smaller, the picture can be made larger, and scrolls.
const TOUCH = 24;

function offerZoom() {
  const button = find("#zoom"), columns = Math.max(1, ...blocks.map(({ grid }) => grid[1])), wide = find(".frame").clientWidth;
  button.hidden = wide >= TOUCH * columns && !state.zoom;
  canvas.style.width = state.zoom ? `${Math.max(wide, TOUCH * columns)}px` : "";
  find(".frame").classList.toggle("zoomed", Boolean(state.zoom));
  button.setAttribute("aria-pressed", String(Boolean(state.zoom)));
}

window.addEventListener("resize", () => changed());
find("#zoom").addEventListener("click", () => {
  state.zoom = !state.zoom;
  offerZoom();
  const { x = 0.5, y = 0.5 } = state.pins[0] || {}, frame = find(".frame");
  frame.scrollTo(x * canvas.clientWidth - frame.clientWidth / 2, y * canvas.clientHeight - frame.clientHeight / 2);
  changed();
});

// ── pictures from elsewhere ─────────────────────────────────────────────────────────────────────

function fetchPicture(url, after = () => {}) {
  const image = new Image();
  image.onload = () => { squeeze(image); after(); };
  image.onerror = () => { find("#readout").textContent = "This cannot be read as a picture; try a PNG or JPEG."; after(); };
  image.src = url;
}

// To the size of the model, in halves, so that no pixel is left out.
function squeeze(image) {
  let width = image.naturalWidth || imageWidth, height = image.naturalHeight || imageHeight, from = image;
  while (width > 2 * imageWidth || height > 2 * imageHeight) {
    const half = element("canvas", { width: Math.max(imageWidth, width >> 1), height: Math.max(imageHeight, height >> 1) });
    const pen = half.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(from, 0, 0, half.width, half.height);
    [from, width, height] = [half, half.width, half.height];
  }
  const pen = source.getContext("2d");
  pen.fillStyle = "#fff"; // under what is transparent
  pen.fillRect(0, 0, imageWidth, imageHeight);
  pen.imageSmoothingEnabled = width !== imageWidth || height !== imageHeight;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(from, 0, 0, imageWidth, imageHeight);
  changed({ rerun: true });
}

function take(file) {
  const url = URL.createObjectURL(file);
  fetchPicture(url, () => URL.revokeObjectURL(url));
  all("#samples button").forEach((button) => button.setAttribute("aria-pressed", "false"));
}

function takeFrom(list) {
  const file = [...(list || [])].find((item) => item.type.startsWith("image/")) || (list && list[0]);
  if (file) take(file);
}

function showSamples() {
  if (live) find("#samples").replaceChildren(...page.samples.map(({ name, src }, i) => {
    const button = element("button", { type: "button", "aria-pressed": String(i === 0), "aria-label": name, title: name,
      onclick: () => { fetchPicture(src); all("#samples button").forEach((other) => other.setAttribute("aria-pressed", String(other === button))); } },
    element("img", { src, alt: "" }));
    return button;
  }));
}

if (live) {
  const frame = find(".frame");
  frame.addEventListener("dragover", (event) => { event.preventDefault(); frame.classList.add("over"); });
  frame.addEventListener("dragleave", () => frame.classList.remove("over"));
  frame.addEventListener("drop", (event) => {
    event.preventDefault();
    frame.classList.remove("over");
    takeFrom(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => takeFrom(event.clipboardData.files));
  find("#file").addEventListener("change", (event) => takeFrom(event.target.files));
}

// ── heads and blocks ────────────────────────────────────────────────────────────────────────────

// The window of a token, with what it gives to each key: the piece of the picture below.
function thumb(made, block, shares, tokens, most, i, self) {
  const [rowsOf, columns] = block.window, pen = made.getContext("2d"), side = 96;
  [made.width, made.height] = [side, Math.max(8, Math.round((side * rowsOf) / columns))];
  const wide = made.width / columns, high = made.height / rowsOf, [H, W] = block.grid, front = block.front;
  const [r, g, b] = fromHex(i ? "--b" : "--a"), pale = `rgb(${css("--pale")} / .66)`;
  pen.imageSmoothingEnabled = false;
  pen.fillStyle = css("--field");
  pen.fillRect(0, 0, made.width, made.height);
  tokens.forEach((token, k) => {
    if (k < front) return;
    const x = ((k - front) % columns) * wide, y = Math.floor((k - front) / columns) * high;
    if (token >= 0) {
      const dx = imageWidth / W, dy = imageHeight / H;
      pen.drawImage(source, (token % W) * dx, Math.floor(token / W) * dy, dx, dy, x, y, Math.ceil(wide), Math.ceil(high));
      fill(pen, pale, x, y, wide, high);
    }
    fill(pen, `rgb(${r} ${g} ${b} / ${0.92 * Math.min(1, shares[k] / most) ** 0.8})`, x, y, wide, high);
    if (k === self) { [pen.strokeStyle, pen.lineWidth] = [css("--ink"), 2]; pen.strokeRect(x + 1, y + 1, wide - 2, high - 2); }
  });
}

const twoMaps = () => element("span", { class: "pair" }, ...[0, 1].map(() => element("canvas", { "aria-hidden": "true" })));
const inTheMiddle = [{ pin: { x: 0.5, y: 0.5 }, i: 0 }];

function blockButton(block, i) {
  return element("button", { type: "button", onclick: () => {
    [state.block, state.head, chosen.key] = [i, Math.min(state.head, block.heads - 1), null];
    changed();
  } }, twoMaps(), element("span"));
}

function drawBlocks() {
  const row = find("#blocks"), set = shown().length ? shown() : inTheMiddle;
  if (row.children.length !== blocks.length) row.replaceChildren(...blocks.map(blockButton));
  blocks.forEach((block, i) => {
    const button = row.children[i], maps = all("canvas", button);
    maps[1].hidden = set.length < 2;
    set.forEach(({ pin, i: which }, n) => {
      const token = tokenAt(block, pin), { tokens, q } = neighbourhood(block, token);
      thumb(maps[n], block, sharesOf(block, -1, token), tokens, fullColour(block, token, -1, "own"), which, q);
    });
    const geometry = block.whole ? "all tokens" : block.shift.some(Boolean) ? `shift ${block.shift[0]}` : "no shift";
    const number = block.whole ? `${block.block + 1}` : `${block.stage + 1} · ${block.block + 1}`;
    button.lastChild.replaceChildren(number, element("small", {}, geometry));
    button.setAttribute("aria-pressed", String(i === state.block));
    button.setAttribute("aria-label", `${block.name}, ${geometry}`);
  });
}

function drawHeads() {
  const block = current(), pins = shown(), place = find("#heads");
  const set = pins.length ? pins : inTheMiddle;
  const tokens = set.map(({ pin }) => tokenAt(block, pin));
  const shares = tokens.map((token) => Array.from({ length: block.heads + 1 }, (_, h) => sharesOf(block, h - 1, token)));
  if (place.children.length !== block.heads + 1) place.replaceChildren(...shares[0].map((_, i) => headButton(i - 1)));
  [...place.children].forEach((box, i) => {
    const off = (state.options.off[block.at + "attn."] || []).includes(i - 1);
    box.classList.toggle("off", off);
    const canvases = all("canvas", box), button = find("button", box);
    canvases[1].hidden = set.length < 2;
    set.forEach(({ i: which }, n) => {
      const { tokens: keys, q } = neighbourhood(block, tokens[n]);
      thumb(canvases[n], block, shares[n][i], keys, fullColour(block, tokens[n], i - 1), which, q);
    });
    button.setAttribute("aria-pressed", String(state.head === i - 1));
    find("span", button).replaceChildren(i ? `Head ${i}` : "Mean", element("small", {}, `up to ${set.map((_, n) => percent(largestOf(shares[n][i]))).join(", ")}`));
    const toggle = find(".toggle", box);
    if (toggle) { toggle.textContent = off ? "is off" : "turn off"; toggle.setAttribute("aria-pressed", String(off)); }
  });
  all("#legends .legend").forEach((bar, n) => {
    bar.hidden = !set[n];
    if (!set[n]) return;
    const most = fullColour(block, tokens[n], state.head), name = element("span", {}, set.length > 1 ? "AB"[set[n].i] : "share");
    legend(bar, 0, most, (x) => sequential(x, most, set[n].i), name, percent);
  });
  all("#scale button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.scale === state.scale)));
  find("#heads-title").textContent = `${block.name}: ${block.heads} head${block.heads > 1 ? "s" : ""}` + (block.whole ? "" : `, in the window of the token`);
}

function headButton(head) {
  const choose = element("button", { type: "button", onclick: () => { state.head = head; changed(); } }, element("span"), twoMaps());
  const box = element("div", { class: "head" }, choose);
  if (head >= 0 && live) box.append(element("button", { type: "button", class: "toggle", "aria-label": `Head ${head + 1} off`,
    onclick: () => turn(head) }));
  return box;
}

function turn(head) {
  const at = current().at + "attn.", off = state.options.off[at] || [];
  state.options.off[at] = off.includes(head) ? off.filter((h) => h !== head) : [...off, head];
  changed({ rerun: true });
}

// ── in words ────────────────────────────────────────────────────────────────────────────────────

const coordinates = ({ grid: [, W], front }, token) => (token < 0 ? (token === -front ? "the class token" : "the distillation token")
  : `(${Math.floor(token / W) + 1}, ${(token % W) + 1})`);

function say() {
  const block = current(), pins = shown();
  const lines = pins.map(({ pin, i }) => sentence(block, tokenAt(block, pin), state.pins[i] ? i : -1));
  if (state.pins[0] && state.cursor && state.cursor.front === undefined) lines.push(pointed(block));
  if (!pins.length) lines.push(state.mode === "draw" ? "Draw on the picture: the answer follows." : "Point at the picture to see what a token looks at; click to pin it.");
  find("#readout").innerHTML = lines.join(" ");
  all("[data-mode]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === state.mode)));
  find("#brush").hidden = state.mode !== "draw";
  find("#explore").classList.toggle("drawing", state.mode === "draw");
  find("#let-go").disabled = !state.pins[0];
}

function sentence(block, token, i) {
  const shares = sharesOf(block, state.head, token), { w, tokens } = neighbourhood(block, token);
  const best = shares.indexOf(largestOf(shares)), to = block.front && best < block.front ? coordinates(block, tokens[best])
    : tokens[best] < 0 ? "the padding" : coordinates(block, tokens[best]);
  const who = i < 0 ? `Token <b>${coordinates(block, token)}</b>` : `<span class="pin-${"ab"[i]}">${"AB"[i]}</span> is <b>${coordinates(block, token)}</b>`;
  const where = block.whole ? "and sees all tokens" : `in window ${w + 1} of ${block.windows}`;
  return `${who} of ${block.grid.join("×")}, ${where}; it takes most, <b>${percent(shares[best])}</b>, from ${to}.`;
}

function pointed(block) {
  const key = tokenAt(block, state.cursor);
  const parts = shown().map(({ pin, i }) => {
    const token = tokenAt(block, pin), { tokens } = neighbourhood(block, token), k = tokens.indexOf(key);
    return `<span class="pin-${"ab"[i]}">${"AB"[i]}</span> ${k < 0 ? "nothing: another window" : `<b>${percent(sharesOf(block, state.head, token)[k])}</b>`}`;
  });
  return `From ${coordinates(block, key)}: ${parts.join(", ")}.`;
}
