// @ts-check
/** The part of the page that shows timesteps: their embedding, and noise schedules. */

import { keepElement, writeAddress } from "./address.js";
import { SCHEDULES, Schedule } from "./diffusion.js";
import { sinusoids } from "./network.js";
import { drawCurves, drawHeat, find, short } from "./view.js";

const COLOURS = ["first", "second", "third", "fourth"];
const MOST_ROWS = 300;
const LOG_SNR_RANGE = 12;

/** @param {import("./worker.js").Description} model */
export function mountTime(model) {
  const schedule = new Schedule(model.alphas_cumprod);
  const dim = model.architecture.embedding_dim;
  const T = schedule.numTimesteps;
  const rows = Math.min(T, MOST_ROWS);
  /** @param {number} row */
  const timestep = (row) => Math.round((row * (T - 1)) / Math.max(rows - 1, 1));
  const embeddings = Array.from({ length: rows }, (_, row) => sinusoids(timestep(row), dim));
  const t = find("time-t", HTMLInputElement);
  const scale = find("time-scale", HTMLSelectElement);
  t.max = String(T - 1);
  t.value = String(Math.round(T / 3));
  keepElement("t", t);
  keepElement("scale", scale);
  drawHeat(find("time-embedding", HTMLCanvasElement), dim, rows, (row, i) => embeddings[row][i]);
  drawHeat(find("time-similarity", HTMLCanvasElement), rows, rows, (row, column) =>
    similarity(embeddings[row], embeddings[column]),
  );
  listSchedules(model);
  const curves = [...Object.values(SCHEDULES).map((of) => of(T)), model.alphas_cumprod];

  function refresh() {
    writeAddress();
    const chosen = Number(t.value);
    const cursor = chosen / Math.max(T - 1, 1);
    for (const part of ["embedding", "similarity"]) {
      find(`time-${part}-cursor`, HTMLElement).style.top = `${cursor * 100}%`;
    }
    const alphaBar = schedule.alphasCumprod[chosen];
    find("time-t-value", HTMLElement).textContent =
      `${chosen}: ᾱ = ${short(alphaBar)}, α = ${short(schedule.alpha(chosen))}, ` +
      `σ = ${short(schedule.sigma(chosen))}, SNR = ${short(schedule.snr(chosen))}`;
    const here = sinusoids(chosen, dim);
    const values = embeddings.map((other) => similarity(here, other));
    drawCurves(
      find("time-similarity-curve", HTMLCanvasElement),
      [{ values, colour: "accent" }],
      [-1, 1],
      cursor,
    );
    const logarithmic = scale.value === "log-snr";
    drawCurves(
      find("time-schedules", HTMLCanvasElement),
      curves.map((shares, i) => ({
        values: logarithmic ? shares.map((share) => Math.log(share / (1 - share))) : shares,
        colour: COLOURS[i] ?? "text",
      })),
      logarithmic ? [-LOG_SNR_RANGE, LOG_SNR_RANGE] : [0, 1],
      cursor,
    );
  }

  t.addEventListener("input", refresh);
  scale.addEventListener("input", refresh);
  return { refresh };
}

/** @param {import("./worker.js").Description} model */
function listSchedules(model) {
  const names = [...Object.keys(SCHEDULES), `this model (${model.schedule_name})`];
  const items = names.map((name, i) => {
    const item = document.createElement("li");
    item.textContent = name;
    item.style.setProperty("--mark", `var(--${COLOURS[i] ?? "text"})`);
    return item;
  });
  find("time-schedule-names", HTMLUListElement).replaceChildren(...items);
}

/**
 * The cosine of the angle between two embeddings.
 *
 * @param {Float32Array} a
 * @param {Float32Array} b
 */
function similarity(a, b) {
  let sum = 0;
  // Each pair of a sine and a cosine has length 1.
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum / (a.length / 2);
}
