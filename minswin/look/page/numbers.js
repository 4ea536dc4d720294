// ── numbers, formulas and colours ───────────────────────────────────────────────────────────────

const find = (selector, inside = document) => inside.querySelector(selector);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

function element(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// Four digits behind the point; what is smaller than those, with its power of ten.
function digits(x) {
  const size = Math.abs(x);
  let text = Number.isInteger(x) ? String(size) : size.toFixed(size >= 100 ? 2 : 4);
  if (size > 0 && size < 5e-5) text = size.toExponential(1).replace("e-", "·10^−");
  return (x < 0 ? "−" : "") + text;
}

const percent = (p) => `${(100 * p).toFixed(p > 0 && p < 0.0995 ? 1 : 0)} %`;
const grouped = (n) => Math.round(n).toLocaleString("en");
const million = (n) => (n < 1e6 ? grouped(n) : `${(n / 1e6).toFixed(n < 1e7 ? 2 : 1)} million`);

// ── MathML ──────────────────────────────────────────────────────────────────────────────────────

const mi = (name) => `<mi>${name}</mi>`;
const mo = (sign) => `<mo stretchy="false">${sign}</mo>`;
const mrow = (...parts) => `<mrow>${parts.join("")}</mrow>`;
const msub = (base, index) => `<msub>${base}${mrow(index)}</msub>`;
const msup = (base, power) => `<msup>${base}${mrow(power)}</msup>`;
const mfrac = (above, below) => `<mfrac>${mrow(above)}${mrow(below)}</mfrac>`;
const msqrt = (inside) => `<msqrt>${inside}</msqrt>`;
const math = (...parts) => `<math display="inline">${parts.join("")}</math>`;
// A formula in pieces, each from one sign of equality to the next, so that a small screen can break it.
const brokenMath = (parts) => parts.join("").split(mo("=")).map((piece, i) => math(i ? mo("=") : "", piece)).join(" ");
const vector = (name) => `<mi mathvariant="normal" style="font-weight:700">${name}</mi>`;

// A number of the run: where it is from stands beside it, for whoever checks it.
function mn(x, step = "", index = "") {
  const [number, power] = digits(x).split("·10^");
  const from = step ? ` data-step="${step}" data-index="${index}"` : "";
  const written = `<mn${from} data-value="${x}">${number}</mn>`;
  return power ? mrow(written, mo("·"), msup("<mn>10</mn>", `<mn>${power}</mn>`)) : written;
}

const signed = (x, ...from) => (x < 0 ? mrow(mo("("), mn(x, ...from), mo(")")) : mn(x, ...from));

// ── colours ─────────────────────────────────────────────────────────────────────────────────────

const colours = new Map(); // of the theme, by the names of page.css

function css(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colours.get(name);
}

const rgb = (name) => css(name).split(" ").map(Number);
const mix = (a, b, share) => a.map((v, i) => Math.round(v + (b[i] - v) * share));

function fromHex(name) {
  const text = css(name);
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
}

function luminance(colour) {
  const [r, g, b] = colour.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// Black or white, whichever can be read better on it.
const readable = (colour) => (luminance(colour) > 0.179 ? "#000" : "#fff");

// Red above 0, blue below; the stronger, the farther from it.
function diverging(x, largest) {
  const share = Math.min(1, Math.abs(x) / (largest || 1)) ** 0.8;
  return mix(rgb("--cell"), rgb(x < 0 ? "--minus" : "--plus"), share * 0.9);
}

// From the background to the colour of a pin.
function sequential(x, largest, pin = 0) {
  return mix(rgb("--cell"), fromHex(pin ? "--b" : "--a"), Math.min(1, Math.max(0, x) / (largest || 1)) ** 0.8);
}

const written = (colour) => `rgb(${colour.join(" ")})`;
const largestOf = (values) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0) || 1;

// A bar with the numbers that its colours stand for.
function legend(place, low, high, colourOf, name, text = digits) {
  const stops = Array.from({ length: 9 }, (_, i) => written(colourOf(low + ((high - low) * i) / 8)));
  const bar = element("i", { style: `background:linear-gradient(90deg,${stops.join(",")})` });
  const middle = low < 0 ? "0" : text((low + high) / 2);
  place.replaceChildren(name, text(low), bar, middle, bar.cloneNode(), text(high));
  const [left, right] = all("i", place);
  left.style.background = `linear-gradient(90deg,${stops.slice(0, 5).join(",")})`;
  right.style.background = `linear-gradient(90deg,${stops.slice(4).join(",")})`;
}

// A rectangle on whole pixels, so that neighbours leave no seam.
function fill(pen, colour, x, y, wide, high) {
  const [left, top, right, below] = [x, y, x + wide, y + high].map(Math.round);
  pen.fillStyle = colour;
  pen.fillRect(left, top, right - left, below - top);
}
