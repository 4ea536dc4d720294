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
