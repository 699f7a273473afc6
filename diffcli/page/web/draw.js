// @ts-check
/** The part of the page that draws pictures of labels, step by step. */

import { keepElement, keepLabel, writeAddress } from "./address.js";
import { SAMPLERS, Schedule } from "./diffusion.js";
import { readSeed } from "./random.js";
import { LabelChoice, find, shapeOf, short, showImage } from "./view.js";

/** @typedef {import("./diffusion.js").Step} Step */

const SECONDS_PER_STEP = 0.35;
const MOST_STEPS = 100;
const FIRST_LABEL = 3;
const OTHER_LABEL = 8;

/** What each sampler does, in one sentence. @type {Record<string, string>} */
const SAMPLER_TEXTS = {
  ddpm: "Mixes the noisy picture and the estimate, and adds noise: many small steps.",
  ddim: "Goes straight towards the estimate and adds no noise.",
  dpmpp: "Like ddim, but extrapolates from the last two estimates.",
  "dpmpp-sde": "Extrapolates like dpmpp, and adds noise, which reduces earlier errors.",
  consistency: "For distilled models: draws a finished picture, and noises it again.",
};

/**
 * @param {import("./engine.js").Engine} engine
 * @param {import("./worker.js").Description} model
 * @param {(image: Float32Array | null) => void} onDrawn called with a finished picture, and with
 *   none when another is begun
 */
export function mountDraw(engine, model, onDrawn) {
  const { sampling, class_names: names } = model;
  const schedule = new Schedule(model.alphas_cumprod);
  const shape = shapeOf(model.architecture);
  const rows = ["draw-first", "draw-second"].map((id) => new Row(id, schedule, shape));
  const seed = find("draw-seed", HTMLInputElement);
  const steps = find("draw-steps", HTMLInputElement);
  const guidance = find("draw-guidance", HTMLInputElement);
  const sampler = find("draw-sampler", HTMLSelectElement);
  const compare = find("draw-compare", HTMLSelectElement);
  const otherGuidance = find("draw-other-guidance", HTMLInputElement);
  const position = find("draw-step", HTMLInputElement);
  /** @type {number | undefined} */
  let timer;
  let asked = "";
  /** Whether the newest step is shown, and the next one when it comes. */
  let follows = true;

  const label = new LabelChoice(find("draw-label", HTMLSpanElement), "Label ", names, draw);
  const other = new LabelChoice(find("draw-other-label", HTMLSpanElement), "Other label ", names, draw);
  sampler.append(...Object.keys(SAMPLERS).map((name) => new Option(name)));
  steps.max = String(Math.max(sampling.steps, Math.min(MOST_STEPS, schedule.numTimesteps)));
  steps.value = String(sampling.steps);
  guidance.max = String(Math.max(sampling.guidance_scale, Number(guidance.max)));
  guidance.value = String(sampling.guidance_scale);
  sampler.value = sampling.sampler;
  label.value = FIRST_LABEL;
  other.value = names.length > OTHER_LABEL ? OTHER_LABEL : 0;
  keepLabel("label", label);
  keepElement("seed", seed);
  keepElement("steps", steps);
  keepElement("guidance", guidance);
  keepElement("sampler", sampler);
  keepElement("compare", compare);
  keepLabel("other-label", other);
  keepElement("other-guidance", otherGuidance);

  /** @returns {import("./diffusion.js").Request} */
  function request() {
    return {
      label: label.value,
      seed: readSeed(seed.value),
      sampler: sampler.value,
      steps: Number(steps.value),
      ...guided(guidance.value),
      spacing: sampling.spacing,
      variance: sampling.variance,
      eta: sampling.eta,
    };
  }

  /** A guidance scale, in the model's interval if it is the model's. @param {string} text */
  function guided(text) {
    const scale = Number(text);
    const interval = scale === sampling.guidance_scale ? sampling.guidance_interval : null;
    return { guidance: scale, interval };
  }

  /** What is asked for, as text. */
  function settings() {
    return JSON.stringify([request(), compare.value, other.value, otherGuidance.value]);
  }

  function draw() {
    stop();
    onDrawn(null);
    writeAddress();
    asked = settings();
    follows = true;
    const wanted = request();
    find("draw-sampler-text", HTMLElement).textContent = SAMPLER_TEXTS[wanted.sampler];
    find("draw-command", HTMLElement).textContent = command(wanted);
    for (const part of ["label", "guidance"]) {
      find(`draw-other-${part}-part`, HTMLElement).hidden = compare.value !== part;
    }
    find("draw-steps-value", HTMLElement).textContent = steps.value;
    find("draw-guidance-value", HTMLElement).textContent = guidance.value;
    find("draw-other-guidance-value", HTMLElement).textContent = otherGuidance.value;
    const second =
      compare.value === "label"
        ? { ...wanted, label: other.value }
        : { ...wanted, ...guided(otherGuidance.value) };
    position.max = String(wanted.steps - 1);
    start(0, wanted);
    rows[1].shown = compare.value !== "none";
    if (rows[1].shown) start(1, second);
    else engine.cancel("draw-1");
  }

  /**
   * @param {number} index of the row
   * @param {import("./diffusion.js").Request} wanted
   */
  function start(index, wanted) {
    const row = rows[index];
    row.clear(`${names[wanted.label]}${guidanceText(wanted)}`);
    engine.ask(
      { kind: "draw", channel: `draw-${index}`, request: wanted },
      (/** @type {Step} */ step) => {
        row.add(step);
        if (index === 0 && follows) position.value = String(row.steps.length - 1);
        show();
      },
      () => {
        if (index === 0) onDrawn(row.steps[row.steps.length - 1].x);
      },
    );
  }

  /** @param {import("./diffusion.js").Request} wanted */
  function command(wanted) {
    const interval = wanted.interval ? ` --guidance-interval ${wanted.interval.join("-")}` : "";
    return (
      `diffcli sample -m ${model.name ?? "MODEL"} ${labelOption(names, wanted.label)} -n 1 ` +
      `--seed ${wanted.seed} ` +
      `--sampler ${wanted.sampler} --steps ${wanted.steps} --guidance ${wanted.guidance}${interval}`
    );
  }

  function show() {
    const index = Number(position.value);
    find("draw-step-value", HTMLElement).textContent = `${index + 1} of ${steps.value}`;
    for (const row of rows) row.show(index);
  }

  function stop() {
    clearInterval(timer);
    timer = undefined;
    find("draw-play", HTMLButtonElement).textContent = "Play";
  }

  function play() {
    if (timer !== undefined) return stop();
    if (position.value === position.max) position.value = "0";
    follows = false;
    find("draw-play", HTMLButtonElement).textContent = "Stop";
    show();
    timer = window.setInterval(() => {
      if (position.value === position.max) return stop();
      const next = Number(position.value) + 1;
      if (next >= rows[0].steps.length) return; // it is not drawn yet
      position.value = String(next);
      show();
    }, SECONDS_PER_STEP * 1000);
  }

  // A slider in steps would round the model's own scale, which may have two decimals.
  guidance.addEventListener("input", () => {
    guidance.value = String(Math.round(10 * Number(guidance.value)) / 10);
  });
  for (const field of [seed, steps, guidance, sampler, compare, otherGuidance]) {
    field.addEventListener("input", draw);
  }
  // What is drawn, if it was out of range.
  seed.addEventListener("change", () => {
    seed.value = String(readSeed(seed.value));
  });
  find("draw-new-seed", HTMLButtonElement).addEventListener("click", () => {
    seed.value = String(Math.floor(Math.random() * 10_000));
    draw();
  });
  find("draw-play", HTMLButtonElement).addEventListener("click", play);
  position.addEventListener("input", () => {
    stop();
    follows = Number(position.value) >= rows[0].steps.length - 1;
    show();
  });
  return { refresh: () => (asked === settings() ? show() : draw()) };
}

/** The steps of one picture. */
class Row {
  /**
   * @param {string} id of its template's copy
   * @param {Schedule} schedule
   * @param {import("./view.js").Shape} shape
   */
  constructor(id, schedule, shape) {
    const template = find("draw-row", HTMLTemplateElement);
    this.place = find(id, HTMLElement);
    this.place.append(template.content.cloneNode(true));
    this.schedule = schedule;
    this.shape = shape;
    /** @type {Step[]} */
    this.steps = [];
  }

  get shown() {
    return !this.place.hidden;
  }

  set shown(shown) {
    this.place.hidden = !shown;
  }

  /** @param {string} title */
  clear(title) {
    this.steps = [];
    // What is seen until the first step is of another picture.
    this.place.classList.add("stale");
    this.#part("title").textContent = title;
    this.#part("film").replaceChildren();
  }

  /** @param {Step} step */
  add(step) {
    this.steps.push(step);
    const still = document.createElement("canvas");
    still.setAttribute("role", "img");
    still.setAttribute("aria-label", `the picture after step ${this.steps.length}`);
    showImage(still, step.x, this.shape);
    this.#part("film").append(still);
  }

  /** @param {number} index of the step */
  show(index) {
    const step = this.steps[index];
    if (!step) return;
    this.place.classList.remove("stale");
    showImage(this.#canvas("from"), step.from ?? this.steps[index - 1].x, this.shape);
    showImage(this.#canvas("estimate"), step.x0, this.shape);
    showImage(this.#canvas("to"), step.x, this.shape);
    this.#part("formula").textContent = formula(step);
    this.#part("numbers").replaceChildren(
      ...["timestep", "ᾱ", "SNR"].map((title, i) => {
        const row = document.createElement("tr");
        const cells = [step.t, step.s].map((t) => this.#numbers(t)[i]);
        const head = cell("th", title);
        head.setAttribute("scope", "row");
        row.append(head, ...cells.map((text) => cell("td", text)));
        return row;
      }),
    );
    for (const [i, still] of [...this.#part("film").children].entries()) {
      still.classList.toggle("current", i === index);
    }
  }

  /** @param {number} t */
  #numbers(t) {
    if (t < 0) return ["clean", "1", "∞"];
    return [String(t), short(this.schedule.alphasCumprod[t]), short(this.schedule.snr(t))];
  }

  /** @param {string} name */
  #part(name) {
    const element = this.place.querySelector(`[data-part=${name}]`);
    if (!(element instanceof HTMLElement)) throw new Error(`a row has no ${name}`);
    return element;
  }

  /** @param {string} name */
  #canvas(name) {
    const canvas = this.#part(name);
    if (!(canvas instanceof HTMLCanvasElement)) throw new Error(`${name} is no canvas`);
    return canvas;
  }
}

/** @param {import("./diffusion.js").Request} wanted */
function guidanceText({ guidance, interval }) {
  if (guidance === 1) return "";
  return `, guidance ${guidance}${interval ? ` at t = ${interval.join(" to ")}` : ""}`;
}

/**
 * The option of the command that draws a label.
 *
 * @param {string[]} names
 * @param {number} label
 */
function labelOption(names, label) {
  const name = names[label];
  // A name that a shell or the command would take for something else is not written, unless its
  // number is the name of another label.
  if (/^\w[\w.-]*$/.test(name)) return `--label ${name}`;
  if (!names.includes(String(label))) return `--label ${label}`;
  return `--label='${name.replaceAll("'", "'\\''")}'`;
}

/** @param {"th" | "td"} kind @param {string} text */
function cell(kind, text) {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}

/** The step with its numbers, like "x₂₁₄ = 0.83 · x₂₅₇ + 0.21 · x̂₀ + 0.4 · z". @param {Step} step */
function formula({ t, s, sum }) {
  const terms = [
    [sum.x, `x${lowered(t)}`],
    [sum.x0, "x̂₀"],
    [sum.before, "x̂₀ of the step before"],
    [sum.noise, "z"],
  ];
  const written = terms
    .filter(([factor]) => factor)
    .map(([factor, name]) => `${short(Number(factor))} · ${name}`);
  return `x${s < 0 ? "" : lowered(s)} = ${written.join(" + ").replaceAll("+ -", "− ")}`;
}

/** @param {number} number */
function lowered(number) {
  return [...String(number)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]).join("");
}
