// @ts-check
/** The part of the page that noises a picture, and shows what the network sees in it. */

import { keep, keepElement, keepLabel, writeAddress } from "./address.js";
import { Schedule } from "./diffusion.js";
import { shapeOf } from "./draw.js";
import { MersenneTwister, randn, readSeed } from "./random.js";
import { LabelChoice, drawBars, find, short, showImage } from "./view.js";

const BRUSH_RADIUS = 1.7;
const BINS = 48;
const HISTOGRAM_RANGE = 3;
const POSTERIOR_ROUNDS = 8;
const MOST_BARS = 20;
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
  const picture = find("noise-picture", HTMLCanvasElement);
  const status = find("noise-status", HTMLElement);
  let image = new Float32Array(channels * height * width).fill(-1);
  let seed = 0;
  let asked = "";
  /** @type {{label: number, share: number}[]} */
  let bars = [];
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

  function noised() {
    const noise = randn(new MersenneTwister(seed), image.length);
    return schedule.addNoise(image, Number(t.value), noise);
  }

  function refresh() {
    writeAddress();
    asked = settings();
    engine.cancel("noise-draw");
    const timestep = Number(t.value);
    const x = noised();
    showImage(picture, image, shape);
    showImage(find("noise-x", HTMLCanvasElement), x, shape);
    find("noise-t-value", HTMLElement).textContent =
      `${timestep}: x = ${short(schedule.alpha(timestep))} · x₀ + ` +
      `${short(schedule.sigma(timestep))} · ε, ᾱ = ${short(schedule.alphasCumprod[timestep])}, ` +
      `SNR = ${short(schedule.snr(timestep))}`;
    drawHistogram(x);
    engine.ask(
      { kind: "estimate", channel: "estimate", image: x, t: timestep, label: label.value },
      (estimate) => showImage(find("noise-estimate", HTMLCanvasElement), estimate, shape),
    );
  }

  /** @param {Float32Array} x */
  function drawHistogram(x) {
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
    engine.ask(
      { kind: "draw", channel: "noise-draw", request },
      (/** @type {import("./diffusion.js").Step} */ step) => {
        showImage(find("noise-x", HTMLCanvasElement), step.x, shape);
        showImage(find("noise-estimate", HTMLCanvasElement), step.x0, shape);
        status.textContent = step.s < 0 ? "denoised" : `t = ${step.s}`;
      },
    );
  }

  function guess() {
    const job = { channel: "posterior", image, rounds: POSTERIOR_ROUNDS };
    status.textContent = "comparing how well each label explains the picture";
    engine.ask(
      { kind: "posterior", ...job },
      (/** @type {number[]} */ found) => {
        bars = found
          .map((share, i) => ({ label: i, share }))
          .sort((a, b) => b.share - a.share)
          .slice(0, MOST_BARS)
          .sort((a, b) => a.label - b.label);
        drawPosterior();
      },
      () => {
        const best = bars.reduce((a, b) => (b.share > a.share ? b : a));
        status.textContent = `most probable label: ${names[best.label]}`;
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
    bars = [];
    status.textContent = "";
    find("noise-posterior", HTMLCanvasElement).width = 0;
    engine.cancel("posterior");
    refresh();
  }

  /** @param {PointerEvent} event */
  function paint(event) {
    const box = picture.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width - 0.5;
    const y = ((event.clientY - box.top) / box.height) * height - 0.5;
    const painted = image.slice();
    for (let i = 0; i < height * width; i++) {
      const distance = Math.hypot((i % width) - x, Math.floor(i / width) - y);
      const ink = 2 * Math.min(1, Math.max(0, BRUSH_RADIUS - distance)) - 1;
      for (let channel = 0; channel < channels; channel++) {
        const at = channel * height * width + i;
        painted[at] = Math.max(painted[at], ink);
      }
    }
    use(painted);
  }

  /** @param {File | undefined} file */
  async function open(file) {
    if (!file) return;
    try {
      use(await readPicture(file, shape));
    } catch {
      status.textContent = "this file is no picture that the browser can read";
    }
  }

  picture.addEventListener("pointerdown", (event) => {
    picture.setPointerCapture(event.pointerId);
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
    "noise-clear": () => use(new Float32Array(image.length).fill(-1)),
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
  const file = find("noise-file", HTMLInputElement);
  file.addEventListener("change", () => open(file.files?.[0]));

  return {
    refresh: () => {
      // The charts alone depend on the size and the colours of the page.
      if (asked === settings()) drawHistogram(noised());
      else refresh();
      drawPosterior();
    },
    use,
  };
}

/**
 * A picture in the size and the colours of the model; transparency becomes white.
 *
 * @param {File} file
 * @param {import("./view.js").Shape} shape
 */
async function readPicture(file, [channels, height, width]) {
  const bitmap = await createImageBitmap(file);
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d");
  if (!pen) throw new Error("this browser has no canvas");
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
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
