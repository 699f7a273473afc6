// @ts-check
/** Noise schedule, denoiser and samplers, as in `diffcli/core`. */

import { MersenneTwister, randn } from "./random.js";

const COSINE_OFFSET = 0.008;
const MAX_BETA = 0.999;

/**
 * From `alpha` and `sigma` to `a` and `b`: the network predicts `a * x_0 + b * epsilon`.
 *
 * @type {Record<string, (alpha: number, sigma: number) => [number, number]>}
 */
const PREDICTION_TYPES = {
  epsilon: () => [0, 1],
  x0: () => [1, 0],
  v_prediction: (alpha, sigma) => [-sigma, alpha],
  flow: () => [-1, 1],
};

/** A discrete diffusion process: `x_t = alpha_t * x_0 + sigma_t * epsilon` (Ho et al. 2020). */
export class Schedule {
  /** @param {number[]} alphasCumprod of timesteps 0 .. T - 1 */
  constructor(alphasCumprod) {
    this.alphasCumprod = alphasCumprod;
  }

  /** T. */
  get numTimesteps() {
    return this.alphasCumprod.length;
  }

  /** @param {number} t timestep, -1 meaning clean */
  alpha(t) {
    return t < 0 ? 1 : Math.sqrt(this.alphasCumprod[t]);
  }

  /** @param {number} t timestep, -1 meaning clean */
  sigma(t) {
    return t < 0 ? 0 : Math.sqrt(1 - this.alphasCumprod[t]);
  }

  /** The ratio of the powers of signal and noise, infinite if clean. @param {number} t */
  snr(t) {
    return (this.alpha(t) / this.sigma(t)) ** 2;
  }

  /** The increase of `log(alpha / sigma)` in a step. @param {number} t @param {number} s */
  stepSize(t, s) {
    return Math.log((this.alpha(s) * this.sigma(t)) / (this.alpha(t) * this.sigma(s)));
  }

  /**
   * @param {Float32Array} x0
   * @param {number} t
   * @param {Float32Array} epsilon
   */
  addNoise(x0, t, epsilon) {
    const [alpha, sigma] = [this.alpha(t), this.sigma(t)];
    return x0.map((value, i) => alpha * value + sigma * epsilon[i]);
  }
}

/**
 * The `alphas_cumprod` of the schedules of `diffcli/core/schedule.py`, for comparison.
 *
 * @type {Record<string, (numTimesteps: number) => number[]>}
 */
export const SCHEDULES = {
  linear: (T) => ofBetas(linearBetas(T)),
  "linear-rescaled": (T) => ofBetas(linearBetas(T).map((beta) => (beta * 1000) / T)),
  cosine: (T) =>
    ofShares(T, (u) => Math.cos(((u + COSINE_OFFSET) / (1 + COSINE_OFFSET)) * (Math.PI / 2)) ** 2),
  "rectified-flow": (T) => ofShares(T, (u) => (1 - u) ** 2 / ((1 - u) ** 2 + u ** 2)),
};

/** @param {number} T */
function linearBetas(T) {
  const [first, last] = [1e-4, 0.02];
  return Array.from({ length: T }, (_, t) => first + ((last - first) * t) / Math.max(T - 1, 1));
}

/** @param {number[]} betas */
function ofBetas(betas) {
  let product = 1;
  return betas.map((beta) => (product *= 1 - Math.min(beta, MAX_BETA)));
}

/**
 * @param {number} T
 * @param {(u: number) => number} share of the signal's power at a share of the time
 */
function ofShares(T, share) {
  return ofBetas(
    Array.from({ length: T }, (_, t) => 1 - share((t + 1) / T) / share(t / T)),
  );
}

/**
 * The steps of a sampler, see `step_plan` of `diffcli/core/schedule.py`.
 *
 * @param {number} numTimesteps T
 * @param {number} numSteps N, 1 .. T
 * @param {number} spacing above 1, steps are shorter at high noise levels
 * @returns {[number, number][]} pairs (t, s), s = -1 meaning clean
 */
export function stepPlan(numTimesteps, numSteps, spacing) {
  const starts = Array.from({ length: numSteps }, (_, i) => {
    const exact = Math.floor(numTimesteps * (i / numSteps) ** spacing + 1e-9);
    return numTimesteps - 1 - Math.min(Math.max(exact, i), numTimesteps - numSteps + i);
  });
  return starts.map((t, i) => [t, i + 1 < numSteps ? starts[i + 1] : -1]);
}

/** @typedef {{predict: (image: Float32Array, t: number, label: number) => Float32Array, noLabel: number, config: import("./network.js").Architecture}} Predictor */

/** Estimates the clean image from a network's prediction. */
export class Denoiser {
  /**
   * @param {Predictor} network
   * @param {Schedule} schedule
   * @param {string} predictionType a name in `PREDICTION_TYPES`
   */
  constructor(network, schedule, predictionType) {
    this.network = network;
    this.schedule = schedule;
    this.predicted = PREDICTION_TYPES[predictionType];
  }

  /**
   * The estimate of x_0, clipped to [-1, 1], with classifier-free guidance.
   *
   * @param {Float32Array} x noisy image
   * @param {number} t
   * @param {number} label
   * @param {number} [guidance] 1 is plain conditional, 0 ignores the label
   */
  estimate(x, t, label, guidance = 1) {
    const [alpha, sigma] = [this.schedule.alpha(t), this.schedule.sigma(t)];
    const [a, b] = this.predicted(alpha, sigma);
    const determinant = alpha * b - sigma * a;
    const prediction = this.#guided(x, t, label, guidance);
    return prediction.map((value, i) => clip((b * x[i] - sigma * value) / determinant));
  }

  /**
   * @param {Float32Array} x
   * @param {number} t
   * @param {number} label
   * @param {number} guidance
   */
  #guided(x, t, label, guidance) {
    const { network } = this;
    if (guidance === 0) return network.predict(x, t, network.noLabel);
    const conditional = network.predict(x, t, label);
    if (guidance === 1) return conditional;
    const without = network.predict(x, t, network.noLabel);
    return conditional.map((value, i) => without[i] + guidance * (value - without[i]));
  }
}

/** @param {number} value */
function clip(value) {
  return Math.min(1, Math.max(-1, value));
}

/**
 * A step as a sum: `x_s = x * x_t + x0 * x̂_0 + before * x̂_0 of the step before + noise * z`.
 *
 * @typedef {object} Sum
 * @property {number} x
 * @property {number} x0
 * @property {number} before
 * @property {number} noise
 */

/**
 * @typedef {object} Place
 * @property {Schedule} schedule
 * @property {number} t
 * @property {number} s -1 meaning clean
 * @property {number} before the step size of the step before, 0 if there is none
 * @property {string} variance of ddpm: beta or beta-tilde
 * @property {number} eta of dpmpp-sde: how much noise it adds, 0 .. 1
 */

/**
 * Each sampler of `diffcli/core/samplers.py`, where their sources are, as the sum of a step.
 *
 * @type {Record<string, (place: Place) => Sum>}
 */
export const SAMPLERS = {
  ddpm({ schedule, t, s, variance }) {
    const [sigma, next] = [schedule.sigma(t), schedule.sigma(s)];
    const beta = 1 - (schedule.alpha(t) / schedule.alpha(s)) ** 2;
    const deviation = Math.sqrt(beta) * (variance === "beta" ? 1 : next / sigma);
    return {
      x: (Math.sqrt(1 - beta) * next ** 2) / sigma ** 2,
      x0: (schedule.alpha(s) * beta) / sigma ** 2,
      before: 0,
      noise: s < 0 ? 0 : deviation,
    };
  },
  ddim({ schedule, t, s }) {
    const ratio = schedule.sigma(s) / schedule.sigma(t);
    return { x: ratio, x0: schedule.alpha(s) - ratio * schedule.alpha(t), before: 0, noise: 0 };
  },
  dpmpp({ schedule, t, s, before }) {
    const h = schedule.stepSize(t, s);
    const signal = -schedule.alpha(s) * Math.expm1(-h);
    return { x: schedule.sigma(s) / schedule.sigma(t), ...extrapolated(signal, h, before), noise: 0 };
  },
  "dpmpp-sde"({ schedule, t, s, before, eta }) {
    const h = schedule.stepSize(t, s);
    const decay = eta ? Math.exp(-eta * h) : 1; // h may be infinite
    const signal = -schedule.alpha(s) * Math.expm1(-(1 + eta) * h);
    return {
      x: (schedule.sigma(s) / schedule.sigma(t)) * decay,
      ...extrapolated(signal, h, before),
      noise: s < 0 ? 0 : schedule.sigma(s) * Math.sqrt(-Math.expm1(-2 * eta * h)),
    };
  },
  consistency: ({ schedule, s }) => ({
    x: 0,
    x0: schedule.alpha(s),
    before: 0,
    noise: schedule.sigma(s),
  }),
};

/** Those whose steps add noise, which they draw also where its factor is rounded to 0. */
const ADDS_NOISE = new Set(["ddpm", "dpmpp-sde", "consistency"]);

/**
 * The weights of the last two estimates, extrapolated to the middle of a step.
 *
 * @param {number} signal the weight of the extrapolation
 * @param {number} h the step size
 * @param {number} before that of the step before, 0 if there is none
 */
function extrapolated(signal, h, before) {
  const ratio = before && Number.isFinite(h) ? h / (2 * before) : 0;
  return { x0: signal * (1 + ratio), before: -signal * ratio };
}

/**
 * @typedef {object} Request
 * @property {number} label
 * @property {number} seed
 * @property {string} sampler
 * @property {number} steps
 * @property {number} guidance
 * @property {[number, number] | null} interval the timesteps that are guided; null is all
 * @property {number} spacing
 * @property {string} variance
 * @property {number} eta
 * @property {Float32Array} [init] a picture to start from, noised at the first timestep
 * @property {number} [start] the number of timesteps to go through with it, 1 .. T
 */

/**
 * @typedef {object} Step
 * @property {number} t
 * @property {number} s -1 meaning clean
 * @property {Float32Array} [from] the image at t, of the first step; of others, x of the one before
 * @property {Float32Array} x the image at s
 * @property {Float32Array} x0 the estimate that the step used
 * @property {Sum} sum
 */

/**
 * Draw an image, yielding after every step; the same one as `diffcli sample` draws of the seed.
 *
 * @param {Denoiser} denoiser
 * @param {Request} request
 * @returns {Generator<Step>}
 */
export function* generate(denoiser, request) {
  const { schedule } = denoiser;
  const { image_channels, image_height, image_width } = denoiser.network.config;
  const size = image_channels * image_height * image_width;
  const generator = new MersenneTwister(request.seed);
  const { init } = request;
  const timesteps = (init && request.start) || schedule.numTimesteps;
  const plan = stepPlan(timesteps, Math.min(request.steps, timesteps), request.spacing);
  let x = randn(generator, size);
  if (init) x = schedule.addNoise(init, plan[0][0], x);
  let previous = x;
  let before = 0;
  for (const [t, s] of plan) {
    const guided = !request.interval || (request.interval[0] <= t && t <= request.interval[1]);
    const x0 = denoiser.estimate(x, t, request.label, guided ? request.guidance : 1);
    const { variance, eta } = request;
    const sum = SAMPLERS[request.sampler]({ schedule, t, s, before, variance, eta });
    const noise = s >= 0 && ADDS_NOISE.has(request.sampler) ? randn(generator, size) : x;
    const old = previous;
    const from = t === plan[0][0] ? x : undefined;
    x = x.map(
      (value, i) => sum.x * value + sum.x0 * x0[i] + sum.before * old[i] + sum.noise * noise[i],
    );
    yield { t, s, from, x, x0, sum };
    previous = x0;
    before = schedule.stepSize(t, s);
  }
}

// The log-SNR up to which labels are compared, and where they differ most, see
// `diffcli/core/likelihood.py`.
const FINEST = 0;
const CENTRE = -1.6;
const WIDTH = 1.6;

// After two rounds, a label that is less probable than this is left out of the others.
const LEFT_OUT = 1e-6;

/**
 * @typedef {object} Compared
 * @property {number} round
 * @property {number} labels how many are compared in this round
 * @property {number[]} [posterior] by the rounds so far, at the end of one
 */

/**
 * How well each label explains an image: the weighted errors of its estimates, with the same
 * noise and its opposite for all labels (a diffusion classifier, Li et al. 2023).
 *
 * @param {Denoiser} denoiser
 * @param {Float32Array} image clean
 * @param {number} rounds one timestep each
 * @returns {Generator<Compared>} after each label
 */
export function* posterior(denoiser, image, rounds) {
  const { schedule, network } = denoiser;
  const twister = new MersenneTwister(0);
  const errors = Array.from({ length: network.config.num_classes }, () => 0);
  let found = errors.map(() => 1 / errors.length);
  for (const [round, [t, weight]] of labelTimesteps(schedule, rounds).entries()) {
    const epsilon = randn(twister, image.length);
    for (let label = 0; label < errors.length; label++) {
      if (round >= 2 && found[label] < LEFT_OUT) {
        errors[label] = Infinity;
        continue;
      }
      for (const sign of [1, -1]) {
        const x = schedule.addNoise(image, t, epsilon.map((value) => sign * value));
        const estimate = denoiser.estimate(x, t, label);
        let sum = 0;
        for (let i = 0; i < image.length; i++) sum += (image[i] - estimate[i]) ** 2;
        errors[label] += (weight * sum) / 2;
      }
      yield { round, labels: label + 1 };
    }
    found = softmax(errors.map((error) => -error / (round + 1)));
    yield { round, labels: errors.length, posterior: found };
  }
}

/**
 * Timesteps that tell labels apart, with the weights of their terms in the variational bound
 * (Kingma et al. 2021, eq. 13) of the image with noise: evenly spread over a bump in log-SNR,
 * in an order whose first ones are spread as all of them are.
 *
 * @param {Schedule} schedule
 * @param {number} count
 * @returns {[number, number][]}
 */
export function labelTimesteps(schedule, count) {
  const logSnr = schedule.alphasCumprod.map((share) => Math.log(share / (1 - share)));
  const finest = Math.max(FINEST, logSnr[logSnr.length - 1]);
  const density = logSnr.map((value, t) =>
    t && value <= finest
      ? (logSnr[t - 1] - value) * Math.exp(-0.5 * ((value - CENTRE) / WIDTH) ** 2)
      : 0,
  );
  const total = density.reduce((sum, value) => sum + value, 0);
  return Array.from({ length: count }, (_, i) => {
    let left = reversedBits(i + 1) * total;
    let t = 1;
    while (t < density.length - 1 && left >= density[t]) left -= density[t++];
    const weight = (schedule.snr(t - 1) - schedule.snr(t)) / 2;
    return [t, (weight * total) / density[t]];
  });
}

/** The van der Corput sequence: 1/2, 1/4, 3/4, 1/8, ... @param {number} index from 1 */
function reversedBits(index) {
  let [value, bit] = [0, 0.5];
  for (; index; index >>= 1, bit /= 2) value += (index & 1) * bit;
  return value;
}

/** @param {number[]} logits */
export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - most));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((value) => value / total);
}
