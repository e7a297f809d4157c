/** Header and arrays of a page, and how they get out of its bytes. */

const PACKED = 15; // the greatest code of which a byte holds two
const TYPES = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };

/** What Python wrote into a document: the header, and name → compressed bytes. */
export function readPage(document) {
  const header = JSON.parse(document.getElementById("header").textContent);
  const sections = {};
  for (const script of document.querySelectorAll("script[data-section]")) {
    sections[script.dataset.section] = fromBase64(script.textContent);
  }
  return { header, sections };
}

function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let k = 0; k < binary.length; k++) bytes[k] = binary.charCodeAt(k);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** name → typed array of the sections that a header describes. */
export async function openSections({ header, sections }) {
  const names = Object.keys(header.sections);
  const buffers = await Promise.all(names.map((name) => inflated(sections[name])));
  const arrays = Object.fromEntries(names.map((name, k) => [name, new TYPES[header.sections[name].type](buffers[k])]));
  for (const [described, name] of [[header.maps, "maps"], [header.contributions, "contributions.maps"]]) {
    if (!(name in arrays)) continue;
    const n = header.states.length, length = header.triangle ? (n * (n + 1)) / 2 : n;
    if (described.levels <= PACKED) arrays[name] = unpacked(arrays[name], length);
    if (header.triangle) arrays[name] = squared(arrays[name], n);
  }
  return arrays;
}

/** Codes of square maps, row after row, of which the lower triangles are given, column after column. */
export function squared(entries, n) {
  const count = (entries.length * 2) / (n * (n + 1)), codes = new Uint8Array(count * n * n);
  for (let map = 0, at = 0; map < count; map++) {
    for (let j = 0; j < n; j++) for (let i = j; i < n; i++) codes[(map * n + i) * n + j] = entries[at++];
  }
  return codes;
}

/** Codes of rows of a length, of which each byte holds two: the first in its upper half. */
export function unpacked(pairs, length) {
  const half = Math.ceil(length / 2), rows = pairs.length / half, codes = new Uint8Array(rows * length);
  for (let row = 0, at = 0, pair = 0; row < rows; row++, at += length, pair += half) {
    for (let k = 0; k < length; k++) codes[at + k] = k % 2 ? pairs[pair + (k >> 1)] & 15 : pairs[pair + (k >> 1)] >> 4;
  }
  return codes;
}
