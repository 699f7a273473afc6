// @ts-check
/** The random numbers of the command line: a seed draws the same picture here and there. */

const STATE = 624;
const SHIFT = 397;

/** The seed nearest to what a person or an address says. @param {string} text */
export function readSeed(text) {
  return Math.min(2 ** 32 - 1, Math.max(0, Math.floor(Number(text)) || 0));
}

/** The Mersenne Twister MT19937 (Matsumoto & Nishimura 1998), seeded as torch.manual_seed does. */
export class MersenneTwister {
  /** @param {number} seed 0 .. 2^32 - 1 */
  constructor(seed) {
    this.state = new Uint32Array(STATE);
    this.state[0] = seed;
    for (let i = 1; i < STATE; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(before, 1812433253) + i;
    }
    this.position = STATE;
  }

  /** 32 random bits. */
  next() {
    if (this.position === STATE) this.#refill();
    let bits = this.state[this.position++];
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  }

  /** A number in [0, 1) with the 24 bits of a float32. */
  uniform() {
    return (this.next() & 0xffffff) / 0x1000000;
  }

  #refill() {
    const state = this.state;
    for (let i = 0; i < STATE; i++) {
      const bits = (state[i] & 0x80000000) | (state[(i + 1) % STATE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % STATE] ^ (bits >>> 1) ^ (bits & 1 ? 0x9908b0df : 0);
    }
    this.position = 0;
  }
}

/**
 * Standard normal numbers, as torch.randn draws 16 or more of them on a CPU: by the transform of
 * Box & Muller, in blocks of 16, the last of which may overlap the one before.
 *
 * @param {MersenneTwister} generator
 * @param {number} size at least 16
 */
export function randn(generator, size) {
  const values = new Float32Array(size);
  for (let i = 0; i < size; i++) values[i] = generator.uniform();
  for (let start = 0; start + 16 <= size; start += 16) boxMuller(values, start);
  if (size % 16) {
    for (let i = size - 16; i < size; i++) values[i] = generator.uniform();
    boxMuller(values, size - 16);
  }
  return values;
}

/**
 * @param {Float32Array} values
 * @param {number} start of the block
 */
function boxMuller(values, start) {
  for (let i = start; i < start + 8; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[i]));
    const angle = 2 * Math.PI * values[i + 8];
    values[i] = radius * Math.cos(angle);
    values[i + 8] = radius * Math.sin(angle);
  }
}
