// @ts-check
/** The part of the page that shows diffusion of points in a plane, where the best denoiser is known. */

import { keep, keepElement, writeAddress } from "./address.js";
import { SAMPLERS, SCHEDULES, Schedule, softmax } from "./diffusion.js";
import { MersenneTwister, randn } from "./random.js";
import { colour, find, sharp, short } from "./view.js";

/** @typedef {[number, number]} Point */

const T = 300;
const REACH = 2.2;
const ARROWS = 19;
const PARTICLES = 300;
const PARTICLES_PER_TRAIL = 6;
const STEPS_PER_FRAME = 3;
const KEY_STEP = 0.1;
const MOST_OWN = 500;

/** Data sets, within [-1, 1]. @type {Record<string, Point[]>} */
const DATA_SETS = {
  spiral: along(160, (u) => polar(0.1 + 0.9 * u, 4 * Math.PI * u)),
  rings: [
    ...along(100, (u) => polar(1, 2 * Math.PI * u)),
    ...along(50, (u) => polar(0.45, 2 * Math.PI * u)),
  ],
  "four points": along(4, (u) => polar(0.9, 2 * Math.PI * u + Math.PI / 4)),
};
const OWN = "own points";

/** Where an arrow key moves the cross. @type {Record<string, Point>} */
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/**
 * The best estimate of x_0 for points that are all equally likely: the mean of the points,
 * weighted by the probability that each is the one in x_t.
 *
 * @param {Schedule} schedule
 * @param {Point[]} points at least one
 * @param {number} t
 * @param {Point} x
 * @returns {Point}
 */
export function idealEstimate(schedule, points, t, [x, y]) {
  const [alpha, sigma] = [schedule.alpha(t), schedule.sigma(t)];
  const shares = softmax(
    points.map(([a, b]) => -((x - alpha * a) ** 2 + (y - alpha * b) ** 2) / (2 * sigma ** 2)),
  );
  return [
    points.reduce((sum, point, i) => sum + shares[i] * point[0], 0),
    points.reduce((sum, point, i) => sum + shares[i] * point[1], 0),
  ];
}

export function mountPlane() {
  const schedule = new Schedule(SCHEDULES.cosine(T));
  const canvas = find("plane-field", HTMLCanvasElement);
  const t = find("plane-t", HTMLInputElement);
  const data = find("plane-data", HTMLSelectElement);
  const manner = find("plane-sampler", HTMLSelectElement);
  data.append(...[...Object.keys(DATA_SETS), OWN].map((name) => new Option(name)));
  t.max = String(T - 1);
  t.value = String(T - 1);
  keepElement("points", data);
  keepElement("manner", manner);
  /** @type {Point[]} */
  let own = [];
  /** Where the keyboard adds a point. @type {Point} */
  let cross = [0, 0];
  keep("own", {
    get: () => own.map((point) => point.map((value) => value.toFixed(2)).join(",")).join(";"),
    set: (text) => {
      own = readPoints(text);
    },
  });
  let twister = new MersenneTwister(0);
  /** @type {Point[]} */
  let particles = [];
  /** @type {Point[][]} */
  let trails = [];
  let frame = 0;
  /** What the particles move by. */
  let shown = "";
  restart();
  keep("plane-t", {
    get: shownByLink,
    set: (timestep) => {
      if (!/^[0-9]+$/.test(timestep)) return;
      if (timestep !== shownByLink() || chosen() !== shown) show(timestep);
    },
  });

  function chosen() {
    return JSON.stringify([points(), manner.value]);
  }

  function points() {
    return data.value === OWN ? own : DATA_SETS[data.value];
  }

  function restart() {
    stop();
    shown = chosen();
    twister = new MersenneTwister(0);
    const noise = randn(twister, 2 * PARTICLES);
    particles = Array.from({ length: PARTICLES }, (_, i) => [noise[2 * i], noise[2 * i + 1]]);
    trails = particles.filter((_, i) => i % PARTICLES_PER_TRAIL === 0).map((first) => [first]);
    t.value = String(T - 1);
  }

  /** Particles on their way are not kept: a link shows them where they begin. */
  function shownByLink() {
    return particles.length ? String(T - 1) : t.value;
  }

  /** @param {string} timestep */
  function show(timestep) {
    restart();
    t.value = timestep;
    if (t.value === String(T - 1)) return;
    // Where the particles would be is a matter of chance; the field alone is shown.
    particles = [];
    trails = [];
  }

  function step() {
    const from = Number(t.value);
    const to = from - 1;
    const sum = SAMPLERS[manner.value]({ schedule, t: from, s: to, before: 0, variance: "beta-tilde", eta: 1 });
    const noise = randn(twister, 2 * PARTICLES);
    particles = particles.map((particle, i) => {
      const x0 = idealEstimate(schedule, points(), from, particle);
      /** @param {0 | 1} axis */
      const moved = (axis) =>
        sum.x * particle[axis] + sum.x0 * x0[axis] + sum.noise * noise[2 * i + axis];
      return [moved(0), moved(1)];
    });
    for (const [i, trail] of trails.entries()) trail.push(particles[i * PARTICLES_PER_TRAIL]);
    t.value = String(Math.max(0, to));
    return to >= 0;
  }

  function animate() {
    let more = true;
    for (let i = 0; i < STEPS_PER_FRAME && more; i++) more = step();
    draw();
    frame = more ? requestAnimationFrame(animate) : 0;
    if (!more) find("plane-play", HTMLButtonElement).textContent = "Play";
  }

  function stop() {
    cancelAnimationFrame(frame);
    frame = 0;
    find("plane-play", HTMLButtonElement).textContent = "Play";
  }

  function play() {
    if (frame) return stop();
    if (!points().length) return;
    if (t.value === "0") restart();
    find("plane-play", HTMLButtonElement).textContent = "Stop";
    frame = requestAnimationFrame(animate);
  }

  function draw() {
    const { pen, width, height } = sharp(canvas);
    const { scale, place } = frameOf(width, height);
    const timestep = Number(t.value);
    find("plane-t-value", HTMLElement).textContent =
      `${timestep}, ᾱ = ${short(schedule.alphasCumprod[timestep])}`;
    if (points().length) drawArrows(pen, place, timestep, scale);
    pen.fillStyle = colour("second");
    for (const point of points()) dot(pen, place(point), 3);
    pen.strokeStyle = pen.fillStyle = colour("accent");
    pen.globalAlpha = 0.25;
    pen.lineWidth = 1;
    for (const trail of trails) {
      pen.beginPath();
      for (const point of trail) pen.lineTo(...place(point));
      pen.stroke();
    }
    pen.globalAlpha = 0.9;
    for (const particle of particles) dot(pen, place(particle), 2);
    pen.globalAlpha = 1;
    if (document.activeElement === canvas) drawCross(pen, place(cross));
  }

  /**
   * The score times sigma, minus the estimate of the noise: towards where the data is denser.
   *
   * @param {CanvasRenderingContext2D} pen
   * @param {(point: Point) => Point} place
   * @param {number} timestep
   * @param {number} scale pixels per unit
   */
  function drawArrows(pen, place, timestep, scale) {
    const [alpha, sigma] = [schedule.alpha(timestep), schedule.sigma(timestep)];
    const gap = (2 * REACH) / ARROWS;
    pen.strokeStyle = colour("faint");
    pen.globalAlpha = 0.6;
    for (let i = 0; i < ARROWS * ARROWS; i++) {
      const x = -REACH + gap * ((i % ARROWS) + 0.5);
      const y = -REACH + gap * (Math.floor(i / ARROWS) + 0.5);
      const [a, b] = idealEstimate(schedule, points(), timestep, [x, y]);
      const [dx, dy] = [(alpha * a - x) / sigma, (alpha * b - y) / sigma];
      const length = Math.hypot(dx, dy);
      const shown = (gap * 0.8 * Math.min(1, length)) / (length || 1);
      arrow(pen, place([x, y]), [dx * shown * scale, -dy * shown * scale]);
    }
    pen.globalAlpha = 1;
  }

  data.addEventListener("input", () => {
    restart();
    refresh();
  });
  manner.addEventListener("input", () => {
    restart();
    refresh();
  });
  t.addEventListener("input", () => {
    show(t.value);
    refresh();
  });
  // Not when the pointer goes down: on a phone, a swipe over the plane scrolls the page.
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const { point } = frameOf(box.width, box.height);
    chooseOwn([...points(), point(event.clientX - box.left, event.clientY - box.top)]);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (move) {
      /** @param {0 | 1} axis */
      const moved = (axis) => Math.max(-REACH, Math.min(REACH, cross[axis] + KEY_STEP * move[axis]));
      cross = [moved(0), moved(1)];
      draw();
    } else if (event.key === "Enter" || event.key === " ") {
      chooseOwn([...points(), cross]);
    } else if (event.key === "Backspace" || event.key === "Delete") {
      chooseOwn(points().slice(0, -1));
    } else {
      return;
    }
    event.preventDefault();
  });
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
  find("plane-play", HTMLButtonElement).addEventListener("click", () => {
    if (!particles.length) {
      restart();
      writeAddress();
    }
    play();
  });
  find("plane-restart", HTMLButtonElement).addEventListener("click", () => {
    restart();
    refresh();
  });

  /** @param {Point[]} chosen of which a link keeps the first ones */
  function chooseOwn(chosen) {
    own = chosen.slice(0, MOST_OWN);
    data.value = OWN;
    restart();
    refresh();
  }

  function refresh() {
    writeAddress();
    draw();
  }
  return { refresh, stop };
}

/**
 * From points of the plane to places in a canvas, and back.
 *
 * @param {number} width
 * @param {number} height
 */
function frameOf(width, height) {
  const scale = Math.min(width, height) / (2 * REACH);
  return {
    scale,
    /** @param {Point} point @returns {Point} */
    place: ([x, y]) => [width / 2 + x * scale, height / 2 - y * scale],
    /** @param {number} left @param {number} top @returns {Point} */
    point: (left, top) => [(left - width / 2) / scale, (height / 2 - top) / scale],
  };
}

/**
 * The points in an address, which is a stranger's data; without those that are none.
 *
 * @param {string} text
 */
function readPoints(text) {
  /** @type {Point[]} */
  const read = [];
  for (const part of text.split(";").slice(0, MOST_OWN)) {
    const match = /^(-?\d\.\d\d),(-?\d\.\d\d)$/.exec(part);
    if (match) read.push([Number(match[1]), Number(match[2])]);
  }
  return read;
}

/**
 * @param {number} count
 * @param {(u: number) => Point} at a place for a share of the way
 */
function along(count, at) {
  return Array.from({ length: count }, (_, i) => at(i / count));
}

/**
 * @param {number} radius
 * @param {number} angle
 * @returns {Point}
 */
function polar(radius, angle) {
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Point} place
 * @param {number} radius
 */
function dot(pen, [x, y], radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Point} place
 */
function drawCross(pen, [x, y]) {
  pen.strokeStyle = colour("second");
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(x - 8, y);
  pen.lineTo(x + 8, y);
  pen.moveTo(x, y - 8);
  pen.lineTo(x, y + 8);
  pen.stroke();
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {Point} from
 * @param {Point} way
 */
function arrow(pen, [x, y], [dx, dy]) {
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x + dx, y + dy);
  pen.moveTo(x + dx * 0.6 - dy * 0.2, y + dy * 0.6 + dx * 0.2);
  pen.lineTo(x + dx, y + dy);
  pen.lineTo(x + dx * 0.6 + dy * 0.2, y + dy * 0.6 - dx * 0.2);
  pen.stroke();
}
