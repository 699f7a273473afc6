// @ts-check
/** The network of the model, a U-Net conditioned on the timestep and the label. */

const CHANNELS_PER_GROUP = 16;
const EPSILON = 1e-5;
const MAX_PERIOD = 10_000;

/**
 * @typedef {object} Architecture
 * @property {number} image_channels
 * @property {number} image_height
 * @property {number} image_width
 * @property {number} num_classes
 * @property {number} patch_size
 * @property {number[]} channels of each level, the finest first
 * @property {number[]} blocks of each level
 * @property {number} embedding_dim
 */

/**
 * Features: the values of a channel are consecutive, row by row.
 *
 * @typedef {object} Features
 * @property {Float32Array} data
 * @property {number} channels
 * @property {number} height
 * @property {number} width
 */

/** @typedef {Map<string, Float32Array>} Weights by their names in the checkpoint */

/** What the model's checkpoint describes; it computes what `diffcli/core/unet.py` computes. */
export class Network {
  /**
   * @param {Architecture} config
   * @param {Weights} weights
   */
  constructor(config, weights) {
    this.config = config;
    this.weights = weights;
    /** The label that means "no label". */
    this.noLabel = config.num_classes;
  }

  /**
   * The prediction for one image.
   *
   * @param {Float32Array} image noisy, (C, H, W)
   * @param {number} t timestep
   * @param {number} label 0 .. num_classes, the last one meaning "no label"
   * @returns {Float32Array} (C, H, W)
   */
  predict(image, t, label) {
    const { image_channels, image_height, image_width, patch_size, channels } = this.config;
    const embedding = silu(this.#embedding(t, label));
    /** @type {Features} */
    let x = { data: image, channels: image_channels, height: image_height, width: image_width };
    x = this.#convolve("stem", unshuffle(x, patch_size));
    const deepest = channels.length - 1;
    const skips = [];
    for (let level = 0; level < deepest; level++) {
      x = this.#stage(`down_stages.${level}`, x, embedding);
      skips.push(x);
      x = this.#convolve(`downs.${level}`, x, 3, 2);
    }
    x = this.#stage("middle", x, embedding);
    for (let level = deepest - 1; level >= 0; level--) {
      const up = shuffle(this.#convolve(`ups.${level}`, x, 1), 2);
      const skip = skips[level].data;
      x = { ...up, data: up.data.map((value, i) => value + skip[i]) };
      x = this.#stage(`up_stages.${level}`, x, embedding);
    }
    return shuffle(this.#convolve("head", silued(this.#norm("norm", x))), patch_size).data;
  }

  /**
   * The embedding of timestep and label.
   *
   * @param {number} t
   * @param {number} label
   */
  #embedding(t, label) {
    const hidden = silu(this.#linear("time_embedding.1", sinusoids(t, this.config.embedding_dim)));
    const time = this.#linear("time_embedding.3", hidden);
    const table = this.#get("label_embedding.weight");
    return time.map((value, i) => value + table[label * time.length + i]);
  }

  /**
   * @param {string} name
   * @param {Features} x
   * @param {Float32Array} embedding
   */
  #stage(name, x, embedding) {
    for (let block = 0; this.weights.has(`${name}.blocks.${block}.conv1.weight`); block++) {
      x = this.#residual(`${name}.blocks.${block}`, x, embedding);
    }
    return x;
  }

  /**
   * @param {string} name
   * @param {Features} x
   * @param {Float32Array} embedding
   */
  #residual(name, x, embedding) {
    const h = this.#convolve(`${name}.conv1`, silued(this.#norm(`${name}.norm1`, x)));
    const modulation = this.#linear(`${name}.modulation`, embedding);
    const scale = modulation.subarray(0, x.channels).map((value) => 1 + value);
    const shift = modulation.subarray(x.channels);
    const branch = this.#convolve(`${name}.conv2`, silued(groupNorm(h, scale, shift)));
    const before = x.data;
    return { ...branch, data: branch.data.map((value, i) => value + before[i]) };
  }

  /**
   * @param {string} name
   * @param {Features} x
   */
  #norm(name, x) {
    return groupNorm(x, this.#get(`${name}.weight`), this.#get(`${name}.bias`));
  }

  /**
   * @param {string} name
   * @param {Float32Array} x
   */
  #linear(name, x) {
    return linear(x, this.#get(`${name}.weight`), this.#get(`${name}.bias`));
  }

  /**
   * @param {string} name
   * @param {Features} x
   * @param {number} [size] of the square of inputs to an output
   * @param {number} [stride]
   */
  #convolve(name, x, size = 3, stride = 1) {
    return convolve(x, this.#get(`${name}.weight`), this.#get(`${name}.bias`), size, stride);
  }

  /** @param {string} name */
  #get(name) {
    const tensor = this.weights.get(name);
    if (!tensor) throw new Error(`the model has no ${name}`);
    return tensor;
  }
}

/**
 * The sinusoidal embedding of a timestep (Vaswani et al. 2017): sines, then cosines.
 *
 * @param {number} t
 * @param {number} dim even
 */
export function sinusoids(t, dim) {
  const half = dim / 2;
  const embedding = new Float32Array(dim);
  for (let i = 0; i < half; i++) {
    const frequency = Math.exp((-i * Math.log(MAX_PERIOD)) / Math.max(half - 1, 1));
    const angle = Math.fround(t * Math.fround(frequency));
    embedding[i] = Math.sin(angle);
    embedding[half + i] = Math.cos(angle);
  }
  return embedding;
}

/** @param {Float32Array} x */
export function silu(x) {
  return x.map((value) => value / (1 + Math.exp(-value)));
}

/** @param {Features} x */
function silued(x) {
  return { ...x, data: silu(x.data) };
}

/**
 * @param {Float32Array} x (inputs)
 * @param {Float32Array} weight (outputs, inputs)
 * @param {Float32Array} bias (outputs)
 */
export function linear(x, weight, bias) {
  return bias.map((value, output) => {
    const start = output * x.length;
    for (let i = 0; i < x.length; i++) value += weight[start + i] * x[i];
    return value;
  });
}

/**
 * Group normalisation (Wu & He 2018), then a scale and a shift for each channel.
 *
 * @param {Features} x
 * @param {Float32Array} scale
 * @param {Float32Array} shift
 * @returns {Features}
 */
export function groupNorm(x, scale, shift) {
  const positions = x.height * x.width;
  const size = CHANNELS_PER_GROUP * positions;
  const data = new Float32Array(x.data.length);
  for (let start = 0; start < data.length; start += size) {
    let sum = 0;
    let squares = 0;
    for (let i = start; i < start + size; i++) sum += x.data[i];
    const mean = sum / size;
    for (let i = start; i < start + size; i++) squares += (x.data[i] - mean) ** 2;
    const factor = 1 / Math.sqrt(squares / size + EPSILON);
    for (let i = start; i < start + size; i++) {
      const channel = Math.floor(i / positions);
      data[i] = (x.data[i] - mean) * factor * scale[channel] + shift[channel];
    }
  }
  return { ...x, data };
}

/**
 * A convolution that keeps the size, or divides it by its stride; the border is zero.
 *
 * @param {Features} x
 * @param {Float32Array} weight (outputs, inputs, size, size)
 * @param {Float32Array} bias (outputs)
 * @param {number} size 1 or 3
 * @param {number} stride
 * @returns {Features}
 */
export function convolve(x, weight, bias, size, stride) {
  const columns = x.channels * size * size;
  const height = Math.ceil(x.height / stride);
  const width = Math.ceil(x.width / stride);
  const patches = gather(x, size, stride, height, width);
  const data = multiply(patches, weight, bias, height * width, columns);
  return { data, channels: bias.length, height, width };
}

/**
 * The inputs of each output position, one after the other: (positions, inputs * size * size).
 *
 * @param {Features} x
 * @param {number} size
 * @param {number} stride
 * @param {number} height of the output
 * @param {number} width of the output
 */
function gather(x, size, stride, height, width) {
  const pad = (size - 1) / 2;
  const patches = new Float32Array(height * width * x.channels * size * size);
  let next = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      for (let channel = 0; channel < x.channels; channel++) {
        const plane = channel * x.height * x.width;
        for (let dy = -pad; dy < size - pad; dy++) {
          const y = row * stride + dy;
          for (let dx = -pad; dx < size - pad; dx++, next++) {
            const inside = y >= 0 && y < x.height;
            const at = column * stride + dx;
            if (inside && at >= 0 && at < x.width) patches[next] = x.data[plane + y * x.width + at];
          }
        }
      }
    }
  }
  return patches;
}

/**
 * `bias + weight * patches^T`, in tiles of four outputs by four positions: each value that is
 * read serves four products.
 *
 * @param {Float32Array} patches (positions, columns)
 * @param {Float32Array} weight (outputs, columns)
 * @param {Float32Array} bias (outputs), a multiple of four of them or fewer
 * @param {number} positions
 * @param {number} columns
 * @returns {Float32Array} (outputs, positions)
 */
function multiply(patches, weight, bias, positions, columns) {
  const result = new Float32Array(bias.length * positions);
  const tiled = positions - (positions % 4);
  const outputs = bias.length - (bias.length % 4);
  for (let o = 0; o < outputs; o += 4) {
    for (let p = 0; p < tiled; p += 4) tile(patches, weight, bias, result, o, p, positions, columns);
  }
  for (let o = 0; o < bias.length; o++) {
    for (let p = o < outputs ? tiled : 0; p < positions; p++) {
      let sum = bias[o];
      for (let k = 0; k < columns; k++) sum += weight[o * columns + k] * patches[p * columns + k];
      result[o * positions + p] = sum;
    }
  }
  return result;
}

/**
 * @param {Float32Array} patches
 * @param {Float32Array} weight
 * @param {Float32Array} bias
 * @param {Float32Array} result
 * @param {number} o first output
 * @param {number} p first position
 * @param {number} positions
 * @param {number} columns
 */
function tile(patches, weight, bias, result, o, p, positions, columns) {
  const [w0, w1, w2, w3] = [0, 1, 2, 3].map((i) => (o + i) * columns);
  const [x0, x1, x2, x3] = [0, 1, 2, 3].map((i) => (p + i) * columns);
  let s00 = bias[o], s01 = s00, s02 = s00, s03 = s00;
  let s10 = bias[o + 1], s11 = s10, s12 = s10, s13 = s10;
  let s20 = bias[o + 2], s21 = s20, s22 = s20, s23 = s20;
  let s30 = bias[o + 3], s31 = s30, s32 = s30, s33 = s30;
  for (let k = 0; k < columns; k++) {
    const a = weight[w0 + k], b = weight[w1 + k], c = weight[w2 + k], d = weight[w3 + k];
    const e = patches[x0 + k], f = patches[x1 + k], g = patches[x2 + k], h = patches[x3 + k];
    s00 += a * e; s01 += a * f; s02 += a * g; s03 += a * h;
    s10 += b * e; s11 += b * f; s12 += b * g; s13 += b * h;
    s20 += c * e; s21 += c * f; s22 += c * g; s23 += c * h;
    s30 += d * e; s31 += d * f; s32 += d * g; s33 += d * h;
  }
  const r = o * positions + p;
  const [q, u, v] = [r + positions, r + 2 * positions, r + 3 * positions];
  result[r] = s00; result[r + 1] = s01; result[r + 2] = s02; result[r + 3] = s03;
  result[q] = s10; result[q + 1] = s11; result[q + 2] = s12; result[q + 3] = s13;
  result[u] = s20; result[u + 1] = s21; result[u + 2] = s22; result[u + 3] = s23;
  result[v] = s30; result[v + 1] = s31; result[v + 2] = s32; result[v + 3] = s33;
}

/**
 * Squares of positions become channels.
 *
 * @param {Features} x
 * @param {number} side of the squares
 * @returns {Features}
 */
export function unshuffle(x, side) {
  const height = x.height / side;
  const width = x.width / side;
  const data = new Float32Array(x.data.length);
  for (const [folded, flat] of pairs(x.channels, height, width, side)) data[folded] = x.data[flat];
  return { data, channels: x.channels * side * side, height, width };
}

/**
 * The inverse of `unshuffle`.
 *
 * @param {Features} x
 * @param {number} side of the squares
 * @returns {Features}
 */
export function shuffle(x, side) {
  const channels = x.channels / (side * side);
  const data = new Float32Array(x.data.length);
  for (const [folded, flat] of pairs(channels, x.height, x.width, side)) data[flat] = x.data[folded];
  return { data, channels, height: x.height * side, width: x.width * side };
}

/**
 * Where each value is with squares folded into channels, and without.
 *
 * @param {number} channels
 * @param {number} height of the folded features
 * @param {number} width of the folded features
 * @param {number} side
 * @returns {Generator<[number, number]>}
 */
function* pairs(channels, height, width, side) {
  let folded = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let dy = 0; dy < side; dy++) {
      for (let dx = 0; dx < side; dx++) {
        for (let row = 0; row < height; row++) {
          for (let column = 0; column < width; column++, folded++) {
            const y = channel * height * side + row * side + dy;
            yield [folded, y * width * side + column * side + dx];
          }
        }
      }
    }
  }
}
