// @ts-check
/**
 * The model in a thread of its own, so that the page stays responsive while it computes.
 *
 * A message is a job for a channel; a new job of a channel ends the one before.  Answers carry
 * the number of their job.
 */

import { Denoiser, Schedule, generate, posterior } from "./diffusion.js";
import { Network } from "./network.js";
import { decodeWeights } from "./weights.js";

/**
 * @typedef {object} Description
 * @property {string | null} name of a shipped model, as the command line knows it
 * @property {import("./network.js").Architecture} architecture
 * @property {number[]} alphas_cumprod
 * @property {string} schedule_name
 * @property {string} prediction_type
 * @property {{sampler: string, steps: number, guidance_scale: number, guidance_interval: [number, number] | null, spacing: number, variance: string, eta: number}} sampling
 * @property {string[]} class_names
 * @property {import("./weights.js").Tensor[]} tensors
 * @property {boolean} is_distilled
 * @property {boolean} gives_likelihood whether labels can be compared by it
 * @property {string} dataset
 * @property {string} version
 */

/**
 * @typedef {object} Job
 * @property {"load" | "draw" | "estimate" | "posterior" | "cancel"} kind
 * @property {string} channel
 * @property {number} number
 * @property {Description} [description]
 * @property {string} [weights]
 * @property {import("./diffusion.js").Request} [request]
 * @property {Float32Array} [image]
 * @property {number} [t]
 * @property {number} [label]
 * @property {number} [rounds]
 */

/** @type {Denoiser} */
let denoiser;

/** The number of the latest job of each channel. @type {Map<string, number>} */
const latest = new Map();

self.onmessage = async ({ data }) => {
  /** @type {Job} */
  const job = data;
  latest.set(job.channel, job.number);
  const found = answers(job);
  try {
    for (;;) {
      // Newer jobs of the channel, which have arrived, are received first.
      await new Promise((resume) => setTimeout(resume));
      if (latest.get(job.channel) !== job.number) return;
      const { value, done } = found.next();
      self.postMessage({ number: job.number, answer: value, done });
      if (done) return;
    }
  } catch (error) {
    self.reportError(error);
  }
};

/**
 * @param {Job} job
 * @returns {Generator<unknown, void>}
 */
function* answers({ kind, description, weights, request, image, t = 0, label = 0, rounds = 8 }) {
  if (kind === "load" && description && weights) {
    const network = new Network(
      description.architecture,
      decodeWeights(weights, description.tensors),
    );
    const schedule = new Schedule(description.alphas_cumprod);
    denoiser = new Denoiser(network, schedule, description.prediction_type);
  }
  if (kind === "draw" && request) yield* generate(denoiser, request);
  if (kind === "estimate" && image) yield denoiser.estimate(image, t, label);
  if (kind === "posterior" && image) yield* posterior(denoiser, image, rounds);
}
