// @ts-check
/** The model's weights, as the page carries them: integers of 16 bits in base64. */

/**
 * @typedef {object} Tensor
 * @property {string} name in the checkpoint
 * @property {number} count of its numbers
 * @property {number} scale what the integers are multiplied with
 */

/**
 * @param {string} base64 of little-endian integers
 * @param {Tensor[]} tensors in the order in which they stand there
 * @returns {import("./network.js").Weights}
 */
export function decodeWeights(base64, tensors) {
  const binary = atob(base64);
  const weights = new Map();
  let position = 0;
  for (const { name, count, scale } of tensors) {
    const tensor = new Float32Array(count);
    for (let i = 0; i < count; i++, position += 2) {
      const low = binary.charCodeAt(position);
      // The shifts extend the sign of the upper half.
      const high = (binary.charCodeAt(position + 1) << 24) >> 16;
      tensor[i] = (high | low) * scale;
    }
    weights.set(name, tensor);
  }
  return weights;
}
