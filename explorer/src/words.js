/** Numbers and tokens in words. */

export const INFINITE = 21; // the place of n = ∞ on the slider

/** A probability, with three digits that count. */
export function number(value) {
  if (value === 0) return "0";
  if (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

export const steps = (n) => (n === INFINITE ? "∞" : String(n));

/** Text in which every character can be seen: pictures of control characters, escapes of lone surrogates. */
export function visible(text) {
  return text
    .replace(/[\0-\x1f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/\x7f/g, "␡")
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);
}

/** The place of the greatest value. */
export function greatest(values) {
  let best = 0;
  for (let k = 1; k < values.length; k++) if (values[k] > values[best]) best = k;
  return best;
}

/** Where a token's value is between the first and the last colour, from 0 to 1. */
export const share = ({ values, least, most }, k) => (most > least ? (values[k] - least) / (most - least) : 0);
