// Runs what a page computes: reads [function, arguments] pairs as JSON, writes the results.
import { readFileSync } from "node:fs";

import * as diffusion from "../../diffcli/page/web/diffusion.js";
import * as layers from "../../diffcli/page/web/network.js";
import { idealEstimate } from "../../diffcli/page/web/plane.js";
import { MersenneTwister, randn } from "../../diffcli/page/web/random.js";
import { decodeWeights } from "../../diffcli/page/web/weights.js";

const { page, calls } = JSON.parse(readFileSync(0, "utf-8"));
const floats = (values) => Float32Array.from(values);
let denoiser;
if (page) {
  const { model, weights } = page;
  const network = new layers.Network(model.architecture, decodeWeights(weights, model.tensors));
  const schedule = new diffusion.Schedule(model.alphas_cumprod);
  denoiser = new diffusion.Denoiser(network, schedule, model.prediction_type);
}

const FUNCTIONS = {
  randn: (seed, sizes) => {
    const twister = new MersenneTwister(seed);
    return sizes.map((size) => [...randn(twister, size)]);
  },
  convolve: (x, weight, bias, size, stride) =>
    layers.convolve({ ...x, data: floats(x.data) }, floats(weight), floats(bias), size, stride),
  groupNorm: (x, scale, shift) =>
    layers.groupNorm({ ...x, data: floats(x.data) }, floats(scale), floats(shift)),
  silu: (x) => [...layers.silu(floats(x))],
  linear: (x, weight, bias) => [...layers.linear(floats(x), floats(weight), floats(bias))],
  unshuffle: (x, side) => layers.unshuffle({ ...x, data: floats(x.data) }, side),
  shuffle: (x, side) => layers.shuffle({ ...x, data: floats(x.data) }, side),
  sinusoids: (t, dim) => [...layers.sinusoids(t, dim)],
  schedule: (name, T) => diffusion.SCHEDULES[name](T),
  stepPlan: diffusion.stepPlan,
  predict: (image, t, label) => [...denoiser.network.predict(floats(image), t, label)],
  generate: (request) => {
    const init = request.init && floats(request.init);
    return [...diffusion.generate(denoiser, { ...request, init })];
  },
  labelTimesteps: (count) => diffusion.labelTimesteps(denoiser.schedule, count),
  posterior: (image, rounds) => [...diffusion.posterior(denoiser, floats(image), rounds)].pop().posterior,
  idealEstimate: (alphasCumprod, points, t, x) =>
    idealEstimate(new diffusion.Schedule(alphasCumprod), points, t, x),
};

const plain = (_, value) => (value instanceof Float32Array ? [...value] : value);
const results = calls.map(([name, ...given]) => FUNCTIONS[name](...given));
process.stdout.write(JSON.stringify(results, plain));
