/** Header and arrays of a page, and how they get out of its bytes. */

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
  return Object.fromEntries(names.map((name, k) => [name, new TYPES[header.sections[name].type](buffers[k])]));
}
