// @ts-check
/** The part of the page that noises a picture, and shows what the network sees in it. */

import { keep, keepElement, keepLabel, writeAddress } from "./address.js";
import { Schedule } from "./diffusion.js";
import { MersenneTwister, randn, readSeed } from "./random.js";
import { LabelChoice, drawBars, find, shapeOf, short, showImage } from "./view.js";

/** In pixels of the picture; of large pictures, a share of their side. */
const BRUSH_RADIUS = 1.7;
const BRUSH_SHARE = 1 / 16;
const BINS = 48;
const HISTOGRAM_RANGE = 3;
const POSTERIOR_ROUNDS = 8;
const MOST_BARS = 20;
const SMALLEST_SHARE = 0.005;
const STEPS_FROM_HERE = 16;

/**
 * @param {import("./engine.js").Engine} engine
 * @param {import("./worker.js").Description} model
 */
export function mountNoise(engine, model) {
  const { architecture, sampling } = model;
  const shape = shapeOf(architecture);
  const [channels, height, width] = shape;
  const schedule = new Schedule(model.alphas_cumprod);
  const t = find("noise-t", HTMLInputElement);
  const ink = find("noise-ink", HTMLSelectElement);
  const picture = find("noise-picture", HTMLCanvasElement);
  const noisy = find("noise-x", HTMLCanvasElement);
  const status = find("noise-status", HTMLElement);
  let seed = 0;
  let asked = "";
  /** The number of changes of the picture: one that is read for long must not replace a newer. */
  let changes = 0;
  /** What is shown as x. */
  let x = new Float32Array();
  /** Whether that is on its way back from the noise, and the status says where. */
  let denoises = false;
  /** Where the pointer was last, while it paints. @type {[number, number] | null} */
  let last = null;
  /** @type {{label: number, share: number}[]} */
  let bars = [];
  // Digits are white on black, most other drawings are dark on paper.
  ink.value = channels === 1 ? "white" : "black";
  keepElement("ink", ink);
  let image = blank();
  t.max = String(schedule.numTimesteps - 1);
  t.value = String(Math.round(schedule.numTimesteps * 0.4));
  const names = [...model.class_names, "no label"];
  const label = new LabelChoice(find("noise-label", HTMLSpanElement), "Label ", names, refresh);
  label.value = names.length - 1;
  keepElement("noise-t", t);
  keepLabel("noise-label", label);
  keep("noise-seed", {
    get: () => String(seed),
    set: (text) => {
      seed = readSeed(text);
    },
  });

  /** What is asked for besides the picture, as text. */
  function settings() {
    return JSON.stringify([t.value, label.value, seed]);
  }

  /** A picture of the ground that the ink is seen on. */
  function blank() {
    return new Float32Array(channels * height * width).fill(ink.value === "white" ? -1 : 1);
  }

  /** @param {Float32Array<ArrayBuffer>} values @param {string} caption */
  function showX(values, caption) {
    x = values;
    showImage(noisy, x, shape);
    noisy.setAttribute("aria-label", caption);
    find("noise-x-caption", HTMLElement).textContent = caption;
    drawHistogram();
  }

  function refresh() {
    writeAddress();
    asked = settings();
    engine.cancel("noise-draw");
    if (denoises) status.textContent = "";
    denoises = false;
    const timestep = Number(t.value);
    const noise = randn(new MersenneTwister(seed), image.length);
    showImage(picture, image, shape);
    showX(schedule.addNoise(image, timestep, noise), "x: with noise");
    find("noise-t-value", HTMLElement).textContent =
      `${timestep}: x = ${short(schedule.alpha(timestep))} · x₀ + ` +
      `${short(schedule.sigma(timestep))} · ε, ᾱ = ${short(schedule.alphasCumprod[timestep])}, ` +
      `SNR = ${short(schedule.snr(timestep))}`;
    engine.ask(
      { kind: "estimate", channel: "estimate", image: x, t: timestep, label: label.value },
      (estimate) => showImage(find("noise-estimate", HTMLCanvasElement), estimate, shape),
    );
  }

  function drawHistogram() {
    const counts = Array.from({ length: BINS }, () => 0);
    for (const value of x) {
      const bin = Math.floor(((value / HISTOGRAM_RANGE + 1) / 2) * BINS);
      counts[Math.min(BINS - 1, Math.max(0, bin))]++;
    }
    const canvas = find("noise-histogram", HTMLCanvasElement);
    drawBars(canvas, counts, Math.max(...counts), (i) => (i % 8 ? "" : edge(i)));
  }

  /** @param {number} bin */
  function edge(bin) {
    return short((2 * HISTOGRAM_RANGE * bin) / BINS - HISTOGRAM_RANGE);
  }

  function denoise() {
    const start = Number(t.value) + 1;
    const request = {
      label: label.value,
      seed,
      sampler: sampling.sampler,
      steps: Math.min(start, Math.max(sampling.steps, model.is_distilled ? 1 : STEPS_FROM_HERE)),
      guidance: 1,
      interval: null,
      spacing: sampling.spacing,
      variance: sampling.variance,
      eta: sampling.eta,
      init: image,
      start,
    };
    engine.cancel("posterior");
    denoises = true;
    engine.ask(
      { kind: "draw", channel: "noise-draw", request },
      (/** @type {import("./diffusion.js").Step & {x: Float32Array<ArrayBuffer>}} */ step) => {
        status.textContent = step.s < 0 ? "denoised" : `t = ${step.s}`;
        showX(step.x, `x: ${status.textContent}`);
        showImage(find("noise-estimate", HTMLCanvasElement), step.x0, shape);
      },
    );
  }

  function guess() {
    engine.cancel("noise-draw");
    denoises = false;
    engine.ask(
      { kind: "posterior", channel: "posterior", image, rounds: POSTERIOR_ROUNDS },
      (/** @type {import("./diffusion.js").Compared} */ { round, labels, posterior }) => {
        status.textContent =
          `comparing how well each label explains the picture: round ${round + 1} of ` +
          `${POSTERIOR_ROUNDS}, ${labels} of ${model.class_names.length}`;
        if (!posterior) return;
        bars = posterior
          .map((share, i) => ({ label: i, share }))
          .sort((a, b) => b.share - a.share)
          .slice(0, MOST_BARS)
          .sort((a, b) => a.label - b.label);
        drawPosterior();
      },
      () => {
        const best = bars
          .filter(({ share }) => share >= SMALLEST_SHARE)
          .sort((a, b) => b.share - a.share)
          .slice(0, 2)
          .map(({ label, share }) => `${names[label]} (${percent(share)})`);
        status.textContent = `most probable label: ${best.join(", then ")}`;
      },
    );
  }

  function drawPosterior() {
    const canvas = find("noise-posterior", HTMLCanvasElement);
    const shares = bars.map(({ share }) => share);
    if (bars.length) drawBars(canvas, shares, 1, (i) => names[bars[i].label]);
  }

  /** @param {Float32Array<ArrayBuffer>} other */
  function use(other) {
    image = other;
    changes++;
    bars = [];
    status.textContent = "";
    find("noise-posterior", HTMLCanvasElement).width = 0;
    engine.cancel("posterior");
    refresh();
  }

  /** @param {PointerEvent} event */
  function paint(event) {
    const box = picture.getBoundingClientRect();
    /** @type {[number, number]} */
    const here = [
      ((event.clientX - box.left) / box.width) * width - 0.5,
      ((event.clientY - box.top) / box.height) * height - 0.5,
    ];
    const radius = Math.max(BRUSH_RADIUS, Math.min(height, width) * BRUSH_SHARE);
    const colour = ink.value === "white" ? 1 : -1;
    const painted = image.slice();
    for (let i = 0; i < height * width; i++) {
      const away = distance([i % width, Math.floor(i / width)], last ?? here, here);
      const share = Math.min(1, Math.max(0, radius - away));
      const level = colour * (2 * share - 1);
      for (let channel = 0; channel < channels; channel++) {
        const at = channel * height * width + i;
        painted[at] = colour * Math.max(colour * painted[at], colour * level);
      }
    }
    last = here;
    use(painted);
  }

  /** @param {File | undefined} file */
  async function open(file) {
    if (!file) return;
    engine.cancel("posterior");
    const number = ++changes;
    try {
      const read = await readPicture(file, shape);
      if (number === changes) use(read);
    } catch {
      if (number === changes) status.textContent = "this file is no picture that the browser can read";
    }
  }

  picture.addEventListener("pointerdown", (event) => {
    picture.setPointerCapture(event.pointerId);
    last = null;
    paint(event);
  });
  picture.addEventListener("pointermove", (event) => {
    if (event.buttons) paint(event);
  });
  picture.addEventListener("dragover", (event) => event.preventDefault());
  picture.addEventListener("drop", (event) => {
    event.preventDefault();
    open(event.dataTransfer?.files[0]);
  });
  t.addEventListener("input", refresh);
  const actions = {
    "noise-clear": () => use(blank()),
    "noise-new": () => {
      seed = (seed + 1) % 2 ** 32;
      refresh();
    },
    "noise-denoise": denoise,
    "noise-guess": guess,
  };
  for (const [id, action] of Object.entries(actions)) {
    find(id, HTMLButtonElement).addEventListener("click", action);
  }
  ink.addEventListener("input", writeAddress);
  for (const part of ["noise-guess", "noise-posterior-part"]) {
    find(part, HTMLElement).hidden = !model.gives_likelihood;
  }
  const file = find("noise-file", HTMLInputElement);
  file.addEventListener("change", () => {
    open(file.files?.[0]);
    file.value = ""; // so that the same file is a change again
  });

  return {
    refresh: () => {
      // The charts alone depend on the size and the colours of the page.
      if (asked === settings()) drawHistogram();
      else refresh();
      drawPosterior();
    },
    use,
  };
}

/** @param {number} share */
function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/**
 * How far a point is from a segment.
 *
 * @param {[number, number]} point
 * @param {[number, number]} from
 * @param {[number, number]} to
 */
function distance([x, y], [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const along = ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1);
  const nearest = Math.min(1, Math.max(0, along));
  return Math.hypot(x - x0 - nearest * dx, y - y0 - nearest * dy);
}

/**
 * A picture in the size and the colours of the model; transparency becomes white.
 *
 * @param {File} file
 * @param {import("./view.js").Shape} shape
 */
async function readPicture(file, [channels, height, width]) {
  const bitmap = await createImageBitmap(file);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  if (!pen) throw new Error("this browser has no canvas");
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  bitmap.close();
  const { data } = pen.getImageData(0, 0, width, height);
  const count = height * width;
  const image = new Float32Array(channels * count);
  for (let i = 0; i < count; i++) {
    const [red, green, blue] = data.subarray(4 * i);
    const colours = channels === 3 ? [red, green, blue] : [0.299 * red + 0.587 * green + 0.114 * blue];
    for (const [channel, value] of colours.entries()) image[channel * count + i] = value / 127.5 - 1;
  }
  return image;
}
