// @ts-check
/** The page: the model, its worker, and the parts that are shown one at a time. */

import { keep, readAddress, writeAddress } from "./address.js";
import { mountDraw } from "./draw.js";
import { Engine } from "./engine.js";
import { mountNoise } from "./noise.js";
import { mountPlane } from "./plane.js";
import { mountTime } from "./time.js";
import { find } from "./view.js";

/** @param {string} id of an element that holds data */
function text(id) {
  return find(id, HTMLScriptElement).textContent ?? "";
}

/** @param {string} message */
function fail(message) {
  const place = find("failure", HTMLElement);
  place.textContent = `The page has failed: ${message}`;
  place.hidden = false;
}

function start() {
  /** @type {import("./worker.js").Description} */
  const model = JSON.parse(text("model"));
  const source = new Blob([text("worker")], { type: "text/javascript" });
  const engine = new Engine(new Worker(URL.createObjectURL(source)), fail);
  engine.ask(
    { kind: "load", channel: "load", description: model, weights: text("weights").trim() },
    () => {},
  );
  describe(model);
  const noise = mountNoise(engine, model);
  /** @type {Float32Array | null} */
  let drawn = null;
  const users = ["noise-use", "draw-use"].map((id) => find(id, HTMLButtonElement));
  const draw = mountDraw(engine, model, (image) => {
    drawn = image;
    for (const button of users) button.disabled = !image;
  });
  const parts = { draw, noise, time: mountTime(model), plane: mountPlane() };
  const tabs = mountTabs(parts);
  for (const button of users) {
    button.addEventListener("click", () => {
      tabs.show("noise");
      if (drawn) noise.use(drawn);
    });
  }
  window.addEventListener("resize", () => tabs.refresh());
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tabs.refresh);
  window.addEventListener("hashchange", () => {
    readAddress();
    tabs.refresh();
  });
  tabs.refresh();
}

/** @param {import("./worker.js").Description} model */
function describe(model) {
  const count = model.class_names.length;
  const labels = count === 1 ? "one label" : `${count} labels`;
  const { image_width: width, image_height: height } = model.architecture;
  const parameters = model.tensors.reduce((sum, { count }) => sum + count, 0);
  find("about", HTMLElement).textContent =
    `This file holds a diffusion model of ${parameters.toLocaleString("en")} parameters that draws ` +
    `pictures of ${width} × ${height} pixels with ${labels}, trained on ${model.dataset}. ` +
    "It runs here, in your browser; nothing is sent anywhere.";
  find("version", HTMLElement).textContent = `diffcli ${model.version}`;
}

/**
 * @typedef {object} Part
 * @property {() => void} refresh draw all that the part shows
 * @property {() => void} [stop] end what moves in it, since another part is shown
 */

/** @param {Record<string, Part>} parts by the names of their sections */
function mountTabs(parts) {
  const names = Object.keys(parts);
  let shown = names[0];
  keep("part", {
    get: () => shown,
    set: (name) => {
      if (names.includes(name)) shown = name;
    },
  });

  function refresh() {
    for (const name of names) {
      find(name, HTMLElement).hidden = name !== shown;
      const tab = find(`tab-${name}`, HTMLButtonElement);
      tab.setAttribute("aria-selected", String(name === shown));
      tab.tabIndex = name === shown ? 0 : -1;
    }
    parts[shown].refresh();
    writeAddress();
  }

  /** @param {string} name */
  function show(name) {
    if (name !== shown) parts[shown].stop?.();
    shown = name;
    refresh();
  }

  for (const [i, name] of names.entries()) {
    const tab = find(`tab-${name}`, HTMLButtonElement);
    tab.addEventListener("click", () => show(name));
    tab.addEventListener("keydown", ({ key }) => {
      const way = key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0;
      if (!way) return;
      const next = names[(i + way + names.length) % names.length];
      show(next);
      find(`tab-${next}`, HTMLButtonElement).focus();
    });
  }
  return { refresh, show };
}

try {
  start();
} catch (error) {
  fail(String(error));
}
