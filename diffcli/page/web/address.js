// @ts-check
/** The settings of the page in the fragment of its address, so that a link shares them. */

/** Fields by the names that they have in the address. @type {Map<string, Field>} */
const fields = new Map();

const WRITE_DELAY_MS = 100;
/** @type {number | undefined} */
let writing;

/** @typedef {{get: () => string, set: (text: string) => void}} Field */

/**
 * Keep a field in the address, and read it from there now.
 *
 * @param {string} name
 * @param {Field} field
 */
export function keep(name, field) {
  fields.set(name, field);
  const text = settings().get(name);
  if (text !== null) field.set(text);
}

/**
 * Keep an input element.
 *
 * @param {string} name
 * @param {HTMLInputElement | HTMLSelectElement} element
 */
export function keepElement(name, element) {
  const before = element.value;
  const isNumber = element instanceof HTMLInputElement;
  keep(name, {
    get: () => element.value,
    set: (text) => {
      // A slider would go to its middle.
      if (isNumber && !(text.trim() && Number.isFinite(Number(text)))) return;
      element.value = text;
      // A list has no value if it has no such entry.
      if (!element.value) element.value = before;
    },
  });
}

/**
 * Keep a label by its number.
 *
 * @param {string} name
 * @param {import("./view.js").LabelChoice} choice
 */
export function keepLabel(name, choice) {
  keep(name, {
    get: () => String(choice.value),
    set: (text) => {
      choice.value = Number(text);
    },
  });
}

/** Write all fields into the address soon: while a slider moves, browsers would refuse to. */
export function writeAddress() {
  clearTimeout(writing);
  writing = window.setTimeout(write, WRITE_DELAY_MS);
}

function write() {
  const written = new URLSearchParams();
  for (const [name, field] of fields) written.set(name, field.get());
  history.replaceState(null, "", `#${written}`);
}

/** Read all fields from the address, which has changed. */
export function readAddress() {
  const read = settings();
  for (const [name, field] of fields) {
    const text = read.get(name);
    if (text !== null) field.set(text);
  }
}

function settings() {
  return new URLSearchParams(location.hash.slice(1));
}
