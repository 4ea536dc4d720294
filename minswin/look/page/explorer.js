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
const busy = () => scheduled || runner.busy || Boolean(runner.waiting);

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
    `${million(page.macs)} multiply-adds in ${Math.max(1, Math.round(milliseconds))} ms, in this browser.`;
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
