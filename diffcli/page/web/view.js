// @ts-check
/** What the parts of the page share: elements, pictures, charts, choices of a label. */

/** @typedef {[number, number, number]} Shape channels, height, width of an image */

/** More labels than these are searched for instead of listed. */
const MANY_LABELS = 20;

/**
 * @param {import("./network.js").Architecture} config
 * @returns {Shape}
 */
export function shapeOf(config) {
  return [config.image_channels, config.image_height, config.image_width];
}

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function find(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${id}`);
  return element;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
function context(canvas) {
  const found = canvas.getContext("2d");
  if (!found) throw new Error("this browser has no canvas");
  return found;
}

/**
 * Show an image, a canvas pixel for each of its own; the style sheet enlarges it.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {Float32Array} image (C, H, W), clipped to [-1, 1]
 * @param {Shape} shape
 */
export function showImage(canvas, image, [channels, height, width]) {
  const pixels = new ImageData(width, height);
  const count = height * width;
  for (let i = 0; i < count; i++) {
    for (let colour = 0; colour < 3; colour++) {
      const value = image[(colour % channels) * count + i];
      pixels.data[4 * i + colour] = toPixel(value);
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  context(canvas).putImageData(pixels, 0, 0);
}

/** The grey level of a value in [-1, 1]; others are clipped. @param {number} value */
function toPixel(value) {
  return Math.round((Math.min(1, Math.max(-1, value)) + 1) * 127.5);
}

/** @param {string} name of a colour of the style sheet */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/**
 * Make a canvas as fine as the screen.
 *
 * @param {HTMLCanvasElement} canvas
 * @returns {{pen: CanvasRenderingContext2D, width: number, height: number}} in CSS pixels
 */
export function sharp(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = context(canvas);
  pen.scale(ratio, ratio);
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1.5;
  return { pen, width, height };
}

/**
 * @typedef {object} Curve
 * @property {number[]} values
 * @property {string} colour of the style sheet
 */

/**
 * Draw curves over timesteps, with a cursor.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {Curve[]} curves each over the whole width
 * @param {[number, number]} range of the values
 * @param {number} cursor 0 .. 1
 */
export function drawCurves(canvas, curves, [low, high], cursor) {
  const { pen, width, height } = sharp(canvas);
  const inset = { left: 34, right: 8, top: 8, bottom: 8 };
  const across = width - inset.left - inset.right;
  const down = height - inset.top - inset.bottom;
  /** @param {number} value */
  const y = (value) => inset.top + ((high - value) / (high - low)) * down;
  pen.fillStyle = colour("faint");
  for (const value of [low, (low + high) / 2, high]) {
    pen.fillRect(inset.left, y(value), across, 1);
    pen.fillText(value.toPrecision(2).replace(/\.0$/, ""), 2, y(value) + 4);
  }
  for (const curve of curves) {
    pen.strokeStyle = colour(curve.colour);
    pen.beginPath();
    for (const [i, value] of curve.values.entries()) {
      const x = inset.left + (i / Math.max(curve.values.length - 1, 1)) * across;
      pen.lineTo(x, y(Math.min(high, Math.max(low, value))));
    }
    pen.stroke();
  }
  pen.fillStyle = colour("text");
  pen.fillRect(inset.left + cursor * across, inset.top, 1, down);
}

/**
 * Draw a bar for each value.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number[]} values
 * @param {number} most the value of a full bar
 * @param {(index: number) => string} name of a bar, may be empty
 */
export function drawBars(canvas, values, most, name) {
  const { pen, width, height } = sharp(canvas);
  const each = width / values.length;
  const below = 18;
  pen.textAlign = "center";
  for (const [i, value] of values.entries()) {
    const bar = Math.min(1, value / most) * (height - below);
    pen.fillStyle = colour("accent");
    pen.fillRect(i * each + each * 0.1, height - below - bar, each * 0.8, bar);
    pen.fillStyle = colour("text");
    pen.fillText(name(i), (i + 0.5) * each, height - 4, each);
  }
}

/**
 * Draw a table of numbers in [-1, 1] as colours, blue over grey to orange.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {(row: number, column: number) => number} value
 */
export function drawHeat(canvas, width, height, value) {
  const pixels = new ImageData(width, height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const v = value(row, column);
      const [from, to] = v < 0 ? [[128, 128, 128], [30, 110, 230]] : [[128, 128, 128], [245, 150, 30]];
      const at = 4 * (row * width + column);
      for (let i = 0; i < 3; i++) pixels.data[at + i] = from[i] + (to[i] - from[i]) * Math.abs(v);
      pixels.data[at + 3] = 255;
    }
  }
  canvas.width = width;
  canvas.height = height;
  context(canvas).putImageData(pixels, 0, 0);
}

/** A number in a few digits. @param {number} value */
export function short(value) {
  if (value === Infinity) return "∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 10_000)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

/** A choice of one label, as a list or, if there are many, a field to search in. */
export class LabelChoice {
  /**
   * @param {HTMLElement} place an empty element
   * @param {string} title
   * @param {string[]} names
   * @param {() => void} onChange
   */
  constructor(place, title, names, onChange) {
    this.names = names;
    this.index = 0;
    const listed = names.length <= MANY_LABELS;
    const field = document.createElement(listed ? "select" : "input");
    const caption = document.createElement("label");
    caption.append(title, field);
    place.replaceChildren(caption);
    this.field = field;
    const options = names.map((name, i) => new Option(name, listed ? String(i) : name));
    if (listed) {
      field.append(...options);
    } else {
      const list = document.createElement("datalist");
      list.id = `${place.id}-names`;
      list.append(...options);
      field.setAttribute("list", list.id);
      place.append(list);
    }
    field.addEventListener("change", () => {
      const index = listed ? Number(field.value) : names.indexOf(field.value);
      if (index >= 0) this.index = index;
      this.value = this.index;
      onChange();
    });
    this.value = 0;
  }

  /** The number of the label. */
  get value() {
    return this.index;
  }

  set value(index) {
    this.index = Math.min(this.names.length - 1, Math.max(0, Math.trunc(index) || 0));
    const listed = this.field instanceof HTMLSelectElement;
    this.field.value = listed ? String(this.index) : this.names[this.index];
  }
}
