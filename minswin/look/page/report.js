"use strict";
// Shows what a token attends to. All numbers come from the page; nothing is computed anew but
// their mean over the heads.

(function () {
  const element = document.getElementById("explorer");
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!element || !data.blocks || !data.blocks.length) return;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const blocks = data.blocks.map(unpack);
  const [height, width] = data.size;
  const find = (name) => element.querySelector(name);
  const main = find(".main"), heads = find(".heads"), readout = find(".readout");
  const select = find("select"), may = find(".may"), token0 = find(".class-token");
  const state = { block: 0, head: -1, token: null, may: false }; // head −1: the mean
  const picture = new Image();

  function unpack(block) {
    const places = new Uint16Array(bytes(block.places).buffer);
    const p = bytes(block.probabilities), masks = block.masks.map(bytes);
    return { ...block, places, p, masks };
  }

  // ── what the numbers say ──────────────────────────────────────────────────────────────────────

  // Windows and shift are undone by `places`, which minswin.look.windows.slots made: for every
  // token of the image its window and its place in there.
  function slot(block, token) {
    const N = block.shape[2];
    if (block.front) return [0, token < 0 ? 0 : block.front + token];
    return [Math.floor(block.places[token] / N), block.places[token] % N];
  }

  function sees(block, query, key) {
    const [window, q] = slot(block, query), [other, k] = slot(block, key);
    if (window !== other) return false;
    const mask = block.masks[block.mask_of[window]];
    if (!mask) return true;
    const bit = q * block.shape[2] + k;
    return ((mask[bit >> 3] >> (7 - (bit & 7))) & 1) === 1;
  }

  function share(block, head, query, key) {
    const [, H, N] = block.shape;
    const [window, q] = slot(block, query), [other, k] = slot(block, key);
    if (window !== other) return 0;
    let sum = 0;
    for (let h = head < 0 ? 0 : head; h < (head < 0 ? H : head + 1); h++) {
      const root = block.p[((window * H + h) * N + q) * N + k] / 255;
      sum += root * root;
    }
    return sum / (head < 0 ? H : 1);
  }

  function row(block, head) {
    const count = block.grid[0] * block.grid[1], values = new Float64Array(count);
    for (let key = 0; key < count; key++) values[key] = share(block, head, state.token, key);
    return values;
  }

  // ── drawing ───────────────────────────────────────────────────────────────────────────────────

  function paint(canvas, block, values, scale) {
    const [rows, columns] = block.grid, context = canvas.getContext("2d");
    canvas.width = width * scale;
    canvas.height = height * scale;
    context.imageSmoothingEnabled = false;
    context.filter = "none";
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    context.fillStyle = "rgba(253, 252, 250, 0.62)";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const x = canvas.width / columns, y = canvas.height / rows, largest = Math.max(...values, 1e-9);
    values.forEach((value, i) => {
      context.fillStyle = `rgba(217, 69, 36, ${0.92 * Math.pow(value / largest, 0.6)})`;
      const [left, top] = [Math.round((i % columns) * x), Math.round(Math.floor(i / columns) * y)];
      const [right, below] = [Math.round((i % columns + 1) * x),
        Math.round((Math.floor(i / columns) + 1) * y)]; // whole pixels: no seams
      context.fillRect(left, top, right - left, below - top);
    });
    return { context, x, y, columns };
  }

  function draw() {
    const block = blocks[state.block], values = row(block, state.head);
    const scale = Math.max(1, Math.round(960 / width));
    const allowed = Float64Array.from(values, (_, key) => (sees(block, state.token, key) ? 0.35 : 0));
    const pen = paint(main, block, state.may ? allowed : values, scale);
    if (!block.front) outline(pen, block);
    if (state.token >= 0) frame(pen);
    block.shape[1] > 1 && Array.from(heads.children).forEach((button, h) => {
      button.setAttribute("aria-pressed", String(h === state.head));
      paint(button.firstChild, block, row(block, h), Math.max(1, Math.round(120 / width)));
    });
    find(".mean").setAttribute("aria-pressed", String(state.head < 0));
    may.setAttribute("aria-pressed", String(state.may));
    tell(block, values, allowed);
  }

  // The borders of all windows; where windows are shifted, those of the image's own pieces.
  function outline({ context, x, y, columns }, block) {
    const N = block.shape[2], window = (i) => Math.floor(block.places[i] / N);
    context.strokeStyle = "rgba(60, 60, 60, 0.55)";
    context.lineWidth = Math.max(1, main.width / 640);
    context.beginPath();
    block.places.forEach((_, i) => {
      const left = (i % columns) * x, top = Math.floor(i / columns) * y;
      if (i % columns && window(i) !== window(i - 1)) line(context, left, top, left, top + y);
      if (i >= columns && window(i) !== window(i - columns)) line(context, left, top, left + x, top);
    });
    context.stroke();
  }

  function line(context, x0, y0, x1, y1) {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }

  function frame({ context, x, y, columns }) {
    const left = (state.token % columns) * x, top = Math.floor(state.token / columns) * y;
    const thick = Math.max(2, main.width / 240);
    context.lineWidth = 2 * thick;
    context.strokeStyle = "white";
    context.strokeRect(left, top, x, y);
    context.lineWidth = thick;
    context.strokeStyle = "#2b2b2b";
    context.strokeRect(left, top, x, y);
  }

  function tell(block, values, allowed) {
    const [rows, columns] = block.grid, [window] = slot(block, state.token);
    const at = (i) => `(${Math.floor(i / columns)}, ${i % columns})`;
    const who = state.token < 0 ? "The class token" : `Token ${at(state.token)}`;
    const largest = values.indexOf(Math.max(...values));
    const where = block.front
      ? "sees the whole image"
      : `is in window ${window} of ${block.shape[0]}` +
        (block.shift.some(Boolean) ? `, shifted by ${block.shift.join(" and ")}` : ", not shifted");
    const elsewhere = block.front ? "to the class token" : "to the padding of the map";
    const count = allowed.filter(Boolean).length, sum = values.reduce((a, b) => a + b, 0);
    readout.textContent =
      `${who} of ${rows}×${columns} ${where}. It may look at ${count} tokens. Most, ` +
      `${(100 * values[largest]).toFixed(1)} %, goes to ${at(largest)}` +
      (sum < 0.97 ? `; ${(100 - 100 * sum).toFixed(0)} % go ${elsewhere}.` : ".");
  }

  // ── choosing ──────────────────────────────────────────────────────────────────────────────────

  function chooseBlock(number) {
    const before = blocks[state.block], block = blocks[number];
    const [row0, column0] = state.token === null || state.token < 0
      ? [0.45, 0.45]
      : [Math.floor(state.token / before.grid[1]) / before.grid[0],
         (state.token % before.grid[1]) / before.grid[1]];
    state.block = number;
    if (state.head >= block.shape[1]) state.head = -1;
    const stay = state.token !== null && state.token < 0 && block.front;
    if (!stay) {
      state.token = Math.floor(row0 * block.grid[0] + 1e-9) * block.grid[1] +
        Math.floor(column0 * block.grid[1] + 1e-9);
    }
    token0.hidden = !block.front;
    heads.replaceChildren(...(block.shape[1] > 1 ? Array.from({ length: block.shape[1] }, thumb) : []));
    draw();
  }

  function thumb(_, head) {
    const button = document.createElement("button");
    button.append(document.createElement("canvas"), `head ${head}`);
    button.addEventListener("click", () => { state.head = head; draw(); });
    return button;
  }

  function point(event) {
    const box = main.getBoundingClientRect(), [rows, columns] = blocks[state.block].grid;
    const clamp = (n, most) => Math.min(most - 1, Math.max(0, Math.floor(n)));
    const row0 = clamp(((event.clientY - box.top) / box.height) * rows, rows);
    const column = clamp(((event.clientX - box.left) / box.width) * columns, columns);
    const token = row0 * columns + column;
    if (token !== state.token) { state.token = token; draw(); }
  }

  function step(event) {
    const [rows, columns] = blocks[state.block].grid;
    const moves = { ArrowUp: -columns, ArrowDown: columns, ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const next = state.token + moves[event.key];
    if (next >= 0 && next < rows * columns) { state.token = next; draw(); }
  }

  main.addEventListener("pointermove", point);
  main.addEventListener("pointerdown", point);
  main.addEventListener("keydown", step);
  select.addEventListener("change", () => chooseBlock(Number(select.value)));
  find(".mean").addEventListener("click", () => { state.head = -1; draw(); });
  may.addEventListener("click", () => { state.may = !state.may; draw(); });
  token0.addEventListener("click", () => { state.token = -1; draw(); });
  blocks.forEach((block, i) => select.add(new Option(
    block.name + (block.shift.some(Boolean) ? " (shifted)" : ""), String(i))));
  picture.addEventListener("load", () => chooseBlock(0));
  picture.src = data.image;
})();
