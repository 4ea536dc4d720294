"use strict";
// Walks through a page in a real browser: node page_browser.js BROWSER FOLDER > results.json
//
// Each walk starts from a fresh page and gives what it saw; a walk that fails gives {error}.

const { chromium } = require("playwright-core");
const [, , executablePath, folder] = process.argv;
const [livePage, recordedPage, otherPage, picture] = ["live.html", "recorded.html", "other.html", "odd.png"].map((name) => `${folder}/${name}`);
const QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

const steps = (page) => page.evaluate(() => [...minswin.steps().get("head").data]);
const pins = (page) => page.evaluate(() => minswin.state.pins);
// Drawn, and nothing is being computed any more: two frames, and whatever a worker is at.
const settled = (page) => page.evaluate(() => new Promise((done) => {
  const wait = () => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => (minswin.busy() ? wait() : done()), 120)));
  wait();
}));

// The picture as the page has it, (3, H, W) bytes.
const pixels = (page) => page.evaluate(() => {
  const image = minswin.source.getContext("2d").getImageData(0, 0, minswin.source.width, minswin.source.height).data;
  return [0, 1, 2].flatMap((c) => [...image].filter((_, i) => i % 4 === c));
});

async function token(page, row, column, [H, W]) {
  const box = await page.locator("#picture").boundingBox();
  return { x: ((column + 0.5) / W) * box.width, y: ((row + 0.5) / H) * box.height };
}

const slide = (page, id, value) => page.evaluate(([name, number]) => {
  const slider = document.getElementById(name);
  slider.value = number;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}, [id, value]);

// The listener must stand before the action begins: an input event may overtake an evaluation.
const answered = async (page, action) => {
  await page.evaluate(() => { window.nextAnswer = new Promise((resolve) => document.addEventListener("answered", () => resolve(), { once: true })); });
  await action();
  await page.evaluate(() => window.nextAnswer);
  await settled(page);
};

// An evaluation has no limit of its own: a page that never answers is an error, not a wait for ever.
const LONGEST = 120; // seconds
const limited = (promise) => {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no answer from the page in ${LONGEST} s`)), 1000 * LONGEST); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const WALKS = {
  async pin(page) {
    const picture_ = page.locator("#picture");
    await page.keyboard.press("Escape");
    const empty = await pins(page);
    await picture_.click({ position: await token(page, 5, 6, [16, 16]) });
    const set = await pins(page);
    for (const [row, column] of [[1, 1], [9, 12], [15, 3]]) await picture_.hover({ position: await token(page, row, column, [16, 16]) });
    await settled(page);
    const moved = await pins(page), readout = await page.textContent("#readout");
    await picture_.click({ position: await token(page, 12, 10, [16, 16]) });
    await settled(page);
    const two = await pins(page), maps = await page.locator("#heads .pair").first().locator("canvas:visible").count();
    await page.keyboard.press("Escape");
    const let1 = await pins(page);
    await page.keyboard.press("Escape");
    return { empty, set, moved, readout, two, maps, let1, let2: await pins(page) };
  },

  async keyboard(page) {
    await page.keyboard.press("Escape");
    const reached = [];
    for (let i = 0; i < 80; i++) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName));
    }
    await page.locator("#picture").focus();
    const before = await page.evaluate(() => minswin.state.cursor);
    for (const key of ["ArrowRight", "ArrowDown", "Enter", "ArrowDown", "ArrowDown", "Enter"]) await page.keyboard.press(key);
    await settled(page);
    const both = await pins(page);
    await page.keyboard.press("Escape");
    const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, canvas, a, svg, select")]
      .filter((e) => e.offsetParent !== null || e.tagName === "svg")
      .filter((e) => !e.closest("[aria-hidden=true]") && !(e.getAttribute("aria-label") || e.getAttribute("title") || e.textContent.trim() || (e.labels && e.labels.length)))
      .map((e) => e.outerHTML.slice(0, 90)));
    return { reached, before, both, one: await pins(page), nameless };
  },

  async switches(page) {
    const results = { trained: await steps(page) };
    const tick = (name) => page.locator(`#${name}`).click();
    const each = { "no shift": () => slide(page, "shift", 0), "shift 1": () => slide(page, "shift", 1), "shift 3": () => slide(page, "shift", 3),
      "no mask": () => tick("mask"), "no bias": () => tick("bias"), "temperature 2": () => slide(page, "temperature", 1) };
    for (const [name, action] of Object.entries(each)) {
      await answered(page, action);
      results[name] = await steps(page);
      results[`${name}, shown`] = await page.$$eval("#answer li", (rows) => rows.map((row) => [row.dataset.class, Number(row.dataset.share)]));
      await answered(page, () => page.locator("#as-trained").click());
    }
    await page.locator("#blocks button").nth(3).click();
    await settled(page);
    await answered(page, () => page.locator("#heads .toggle").nth(2).click());
    results["a head off"] = await steps(page);
    await answered(page, () => page.locator("#as-trained").click());
    results["as trained"] = await steps(page);
    return results;
  },

  async digits(page) {
    const shown = [];
    for (const [block, head, row, column] of [[1, 2, 3, 13], [1, 1, 8, 8], [3, 3, 7, 0], [4, 8, 1, 2]]) {
      await page.locator("#blocks button").nth(block).click();
      await page.keyboard.press("Escape");
      const side = [16, 16, 8, 8, 4, 4][block];
      await page.locator("#picture").click({ position: await token(page, row, column, [side, side]) });
      await settled(page);
      await page.locator("#heads .head > button:first-child").nth(head).click();
      for (let i = 0; i < 10; i++) {
        await page.locator("#pipeline button").nth(i).click();
        const cells = page.locator("#arithmetic [data-cell]");
        if (await cells.count() > 5) await cells.nth(5).click();
        shown.push(...await page.$$eval("#arithmetic [data-step]", (numbers) => numbers.map((n) => [n.dataset.step, Number(n.dataset.index), n.textContent, Number(n.dataset.value), n.tagName])));
      }
    }
    return { shown };
  },

  async marks(page) {
    await page.locator("#pipeline button").nth(6).click();
    await page.locator("#arithmetic .keys [data-cell]").nth(3).hover();
    const marked = await page.evaluate(() => minswin.state.marked);
    await page.locator("h1").hover();
    return { marked, after: await page.evaluate(() => minswin.state.marked) };
  },

  async drop(page) {
    const data = require("fs").readFileSync(picture).toString("base64");
    const drop = (text, type, name) => page.evaluate(([base64, kind, file]) => {
      const list = new DataTransfer(), bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      list.items.add(new File([bytes], file, { type: kind }));
      const target = document.querySelector(".frame");
      target.dispatchEvent(new DragEvent("dragover", { dataTransfer: list, bubbles: true, cancelable: true }));
      target.dispatchEvent(new DragEvent("drop", { dataTransfer: list, bubbles: true, cancelable: true }));
    }, [text, type, name]);
    await answered(page, () => drop(data, "image/png", "odd.png"));
    const dropped = { pixels: await pixels(page), logits: await steps(page) };
    await drop(Buffer.from("no picture").toString("base64"), "image/png", "text.png");
    await page.waitForFunction(() => document.querySelector("#readout").textContent.includes("cannot be read"));
    await answered(page, () => page.setInputFiles("#file", picture));
    const chosen = await steps(page);
    await answered(page, () => page.evaluate(([base64]) => {
      const list = new DataTransfer(), bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      list.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: list }));
    }, [data]));
    return { ...dropped, refused: true, chosen, pasted: await steps(page) };
  },

  async draw(page) {
    const before = await steps(page);
    await page.locator("[data-mode=draw]").click();
    const box = await page.locator("#picture").boundingBox();
    await page.mouse.move(box.x + 60, box.y + 80);
    await page.mouse.down();
    for (let i = 0; i < 20; i++) await page.mouse.move(box.x + 60 + 12 * i, box.y + 80 + 9 * i);
    await page.mouse.up();
    await settled(page);
    const dragged = { pixels: await pixels(page), logits: await steps(page) };
    await page.locator("#picture").focus();
    await answered(page, () => page.keyboard.press("Enter"));
    return { before, ...dragged, byKey: { pixels: await pixels(page), logits: await steps(page) } };
  },

  async motion(page) {
    const values = await page.$$eval("#shift-figure input, #merge-figure input", (sliders) => sliders.map((slider) => {
      const texts = [];
      for (let t = 0; t <= Number(slider.max); t++) { slider.value = t; slider.dispatchEvent(new Event("input", { bubbles: true })); texts.push(slider.getAttribute("aria-valuetext")); }
      return texts;
    }));
    await page.locator("#shift-figure input").evaluate((slider) => { slider.value = 0; });
    await page.locator("#shift-figure .play").click();
    return { values, after: Number(await page.locator("#shift-figure input").inputValue()) };
  },

  async reach(page) {
    return page.evaluate(() => [1, 3, 5].map((upto) => {
      const [H, W] = minswin.blocks()[upto].grid;
      return [...minswin.reachOf(minswin.blocks(), upto, (H / 2 - 1) * W + W / 2 - 1)];
    }));
  },

  async star(page) {
    const at = async () => {
      await page.locator("#points-figure").scrollIntoViewIfNeeded();
      await settled(page);
      return page.$eval("#points-figure polygon", (star) => [Number(star.dataset.x), Number(star.dataset.y)]);
    };
    const before = await at();
    await answered(page, () => page.locator("#samples button").nth(3).click());
    return { before, after: await at(), pixels: await pixels(page) };
  },
};

// What is beyond the edges of the screen, but for what scrolls by itself.
const cutOff = () => {
  const scrolls = (e) => { for (let p = e.parentElement; p; p = p.parentElement) if (["auto", "scroll", "hidden"].includes(getComputedStyle(p).overflowX)) return true; return false; };
  return [...document.querySelectorAll("main *, header *, footer *")].filter((e) => e.checkVisibility() && !e.classList.contains("unseen") && !e.classList.contains("skip"))
    .filter((e) => { const box = e.getBoundingClientRect(); return box.width && (box.right > innerWidth + 1 || box.left < -1) && !scrolls(e); }).map((e) => e.outerHTML.slice(0, 90));
};

// Contrast of each text with what it stands on.
const contrasts = () => {
  const numbers = (text) => { const found = text.match(/[\d.]+/g); return found ? found.map(Number) : [0, 0, 0, 0]; };
  const luminance = ([r, g, b]) => [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (let p = e; p; p = p.parentElement) { const c = numbers(getComputedStyle(p).backgroundColor); if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
  const faint = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!e.checkVisibility() || e.closest("[disabled], .head.off, svg, script, style, .unseen, .skip") || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [luminance(numbers(getComputedStyle(e).color)), luminance(behind(e))], ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push([ratio.toFixed(2), e.outerHTML.slice(0, 90)]);
  }
  return faint;
};

async function open(browser, file, settings, heard) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: "light", ...settings });
  page.on("console", (message) => heard.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => heard.push(`error: ${error.message}`));
  page.on("request", (request) => { if (!/^(file|data|blob):/.test(request.url())) heard.push(`request: ${request.url()}`); });
  await page.goto(`file://${file}`);
  await page.waitForSelector("html[data-ready]", { timeout: 60000 });
  await settled(page);
  return page;
}

(async () => {
  const browser = await chromium.launch({ executablePath, args: QUIET }), results = {}, heard = [];
  for (const [name, walk] of Object.entries(WALKS)) {
    const page = await open(browser, livePage, name === "motion" ? { reducedMotion: "reduce" } : {}, heard);
    results[name] = await limited(walk(page)).catch((error) => ({ error: error.stack }));
    await page.close();
  }
  results.screens = {};
  for (const kind of ["live", "recorded", "vit", "resnet"]) for (const width of [390, 768, 1280]) for (const colorScheme of ["light", "dark"]) {
    const page = await open(browser, `${folder}/${kind}.html`, { viewport: { width, height: 844 }, colorScheme, hasTouch: width === 390 }, heard);
    results.screens[`${kind}, ${width}, ${colorScheme}`] = {
      theme: await page.evaluate(() => document.documentElement.dataset.theme), width: await page.evaluate(() => document.documentElement.scrollWidth),
      cut: await page.evaluate(cutOff), faint: await page.evaluate(contrasts),
      token: await page.evaluate(() => document.querySelector("#picture").getBoundingClientRect().width / Math.max(1, ...minswin.blocks().map(({ grid }) => grid[1]))),
      zoom: await page.locator("#zoom").isVisible(),
    };
    await page.close();
  }
  const other = await open(browser, otherPage, {}, heard);
  await answered(other, () => other.locator("#mask").click());
  results.other = await steps(other);
  await other.close();
  const page = await open(browser, recordedPage, {}, heard);
  await page.keyboard.press("Escape");
  results.recorded = await page.evaluate(() => minswin.blocks().map((block) => [...Array(block.grid[0] * block.grid[1]).keys()].map((token) => {
    const shares = minswin.sharesOf(block, -1, token), { tokens } = minswin.neighbourhood(block, token), map = new Array(block.grid[0] * block.grid[1]).fill(0);
    tokens.forEach((key, k) => { if (key >= 0) map[key] = shares[k]; });
    return map;
  })));
  results.heard = heard;
  await browser.close();
  process.stdout.write(JSON.stringify(results));
})();
