/** Numbers and tokens in words. */

export const INFINITE = 21; // the place of n = ∞ on the slider

/** A probability, with three digits that count. */
export function number(value) {
  if (value === 0) return "0";
  if (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

export const steps = (n) => (n === INFINITE ? "∞" : String(n));

/** Text in which every character can be seen: pictures of control characters, escapes of lone surrogates and turns of direction. */
export function visible(text) {
  return text
    .replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`)
    .replace(/[\0-\x1f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\x7f/g, "␡")
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);
}

/** Text that does not turn the direction of the numbers beside it: one that is read from the right is isolated. */
export const isolated = (text) => (/[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(text) ? `\u2068${text}\u2069` : text);

/** The place of the greatest value. */
export function greatest(values) {
  let best = 0;
  for (let k = 1; k < values.length; k++) if (values[k] > values[best]) best = k;
  return best;
}

/** Where a token's value is between the first and the last colour, from 0 to 1. */
export const share = ({ values, least, most }, k) => (most > least ? (values[k] - least) / (most - least) : 0);

/** The character by which byte-level tokenizers write a byte, as GPT-2 does; and the byte of each character. */
const BYTES = new Map();
for (let byte = 0, next = 256; byte < 256; byte++) {
  const own = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  BYTES.set(String.fromCodePoint(own ? byte : next++), byte);
}

/** The texts of the tokens of a page as they stand in its text: spaces and line breaks for the marks of tokenizers. */
export function spelled({ labels, grid }) {
  if (grid !== null) return labels;
  const some = (pattern) => labels.some((label) => pattern.test(label));
  if (some(/[ĠĊ]/)) {
    const decoder = new TextDecoder(); // a character of several tokens is where its last byte is
    return labels.map((label) => {
      const bytes = [...label].map((c) => BYTES.get(c));
      return bytes.includes(undefined) ? label : decoder.decode(Uint8Array.from(bytes), { stream: true });
    });
  }
  if (some(/▁/)) return labels.map((label) => label.replaceAll("▁", " "));
  if (some(/^[ \n]|[ \n]$/)) return labels;
  return labels.map((label, k) => (label.startsWith("##") ? label.slice(2) : k ? ` ${label}` : label));
}

/** The text of a token by itself, on one line: white space only where there is nothing else. */
export const short = (text) => visible(text.trim() || text.replaceAll("\n", "↵").replaceAll(" ", "␣")) || "·";

/** The tokens of each place where a text has what is searched for, in order; capitals and small letters are the same. */
export function found(texts, wanted) {
  const ends = [];
  let whole = "";
  for (const text of texts) ends.push((whole += text.toLowerCase()).length);
  const places = [], needle = wanted.toLowerCase();
  for (let at = whole.indexOf(needle); needle && at >= 0; at = whole.indexOf(needle, at + needle.length)) {
    places.push(texts.flatMap((_, k) => (ends[k] > at && (k ? ends[k - 1] : 0) < at + needle.length ? [k] : [])));
  }
  return places;
}
