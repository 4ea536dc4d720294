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
