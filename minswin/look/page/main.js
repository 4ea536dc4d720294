// ── start ───────────────────────────────────────────────────────────────────────────────────────

// Parts of the page that are about what this model has not.
function leaveOut() {
  const has = { live, swin: page.shifts || page.family === "swin", attention: page.depth > 0, recorded: !live, bias: page.has_bias, classes: page.front > 0, vit: page.family === "vit", plain: !page.depth };
  all("[data-for]").forEach((part) => { if (!part.dataset.for.split(" ").every((need) => has[need])) part.remove(); });
  all(".part .number").forEach((number, i) => { number.textContent = `${i + 1}`; });
}

function startSwitches() {
  const { options } = state, M = page.windows && live ? Math.max(...pair(settings.window_size)) : 0;
  const shift = find("#shift"), temperature = find("#temperature"), sayOf = (id, text, isChanged) => {
    find(`#${id}-says`).textContent = text;
    find(`#${id}-says`).closest(".switch").classList.toggle("changed", isChanged);
  };
  const showSwitches = () => {
    if (shift) {
      shift.value = options.shift ?? M >> 1;
      sayOf("shift", `${options.shift ?? M >> 1} of ${M} tokens`, options.shift !== null);
    }
    temperature.value = Math.log2(options.temperature);
    sayOf("temperature", `τ = ${options.temperature.toFixed(2)}`, options.temperature !== 1);
    for (const name of ["mask", "bias"]) if (find(`#${name}`)) {
      find(`#${name}`).checked = options[name];
      find(`#${name}`).closest(".switch").classList.toggle("changed", !options[name]);
    }
    const off = Object.values(options.off).reduce((n, heads) => n + heads.length, 0);
    find("#off-says").textContent = off ? `${off} head${off > 1 ? "s" : ""} off.` : "";
    find("#as-trained").disabled = !switched();
  };
  if (shift) {
    shift.max = M - 1;
    shift.addEventListener("input", () => { options.shift = Number(shift.value) === M >> 1 ? null : Number(shift.value); changed({ rerun: true }); });
  }
  temperature.addEventListener("input", () => { options.temperature = 2 ** Number(temperature.value); changed({ rerun: true }); });
  for (const name of ["mask", "bias"]) if (find(`#${name}`)) find(`#${name}`).addEventListener("change", (event) => { options[name] = event.target.checked; changed({ rerun: true }); });
  find("#as-trained").addEventListener("click", () => { Object.assign(options, { shift: null, mask: true, bias: true, temperature: 1, off: {} }); changed({ rerun: true }); });
  document.addEventListener("answered", showSwitches);
}

function startControls() {
  all("[data-mode]").forEach((button) => button.addEventListener("click", () => { state.mode = button.dataset.mode; changed(); }));
  all("#scale button").forEach((button) => button.addEventListener("click", () => { state.scale = button.dataset.scale; changed(); }));
  if (find("#let-go")) find("#let-go").addEventListener("click", letGo);
  const front = find("#class-token");
  if (front) front.addEventListener("click", () => pin({ front: 0 }));
  if (live) {
    find("#reset").addEventListener("click", () => find("#samples button").click());
    find("#noise").addEventListener("click", noise);
    find("#mirror").addEventListener("click", mirrored);
    all("[data-sample]").forEach((button) => button.addEventListener("click", () => find(`#samples button[aria-label="${button.dataset.sample}"]`).click()));
  }
}

function startTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)"), button = find("#theme");
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    colours.clear();
    button.textContent = theme === "dark" ? "Light" : "Dark";
  };
  set(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => { set(dark.matches ? "dark" : "light"); changed(); });
  button.addEventListener("click", () => { set(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); changed(); });
}

function begin() {
  blocks = blocksOf(state.options);
  state.block = Math.max(0, blocks.findIndex(({ shift }) => shift.some(Boolean)));
  if (blocks.length) state.pins[0] = pinOn(current(), tokenAt(current(), { x: 0.39, y: 0.42 })); // something to see at once
  startTheme();
  startControls();
  showSamples();
  if (live) { startSwitches(); startArithmetic(); }
  const first = new Image();
  first.onload = () => {
    source.getContext("2d").drawImage(first, 0, 0, imageWidth, imageHeight);
    document.addEventListener("answered", figures, { once: true });
    changed({ rerun: true });
  };
  first.src = page.samples[0].src;
}

function figures() {
  [startShift, startMerge, startReach, startCost, startSharp, startPlaces, startBias, startChannels, startPoints].forEach((start) => start());
  figuresOf.forEach(({ draw }) => draw());
  document.addEventListener("answered", () => { document.documentElement.dataset.ready = "yes"; }, { once: true });
  changed({ rerun: live }); // a second run, for the browser has compiled the program by now
  if (!live) document.documentElement.dataset.ready = "yes";
}

leaveOut();
begin();

// For the console: every tensor of the last run by name, and the model to run again. busy: whether an answer is still to come.
window.minswin = { steps: () => steps, busy, blocks: () => blocks, state, source, model, run, reachOf, sharesOf, neighbourhood };
