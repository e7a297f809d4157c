import { INFINITE } from "./words.js";

/** What is chosen in a page, and how a link says it. */
export const START = Object.freeze({
  view: "bounce", // "bounce" | "rank" | "states" | "method"
  from: null, // token where the walk starts; null: the first patch of interest
  n: 2,
  direction: "incoming",
  damping: 1,
  heads: "mean", // a weighting, or "one"
  head: null, // [layer, head] of "one"
  maps: "attention", // or "balanced", or "contributions"
  layers: null, // the first and the last, or null for all
  depth: "even", // what layers count: "even" | "late"
  output: null, // the token of the output that is explained
  target: null, // number of a class, or null for plain attention
  method: 0, // number of the method that is shown
  over: 0.75, // how much of the picture the map covers
  theme: "auto",
});

/** What a page shows first, but for the start of the walk. */
export const firstChoices = ({ first: { from, ...choices } }) => ({ ...START, ...choices });

/** The state as the part of an address after #; what is as at the start is left out. */
export function toHash(state, header) {
  const parts = new URLSearchParams(), first = firstChoices(header);
  for (const [name, value] of Object.entries(state)) {
    if (JSON.stringify(value) !== JSON.stringify(first[name])) parts.set(name, Array.isArray(value) ? value.join(".") : String(value));
  }
  return parts.toString();
}

/** The state that a link asks for, as far as this page has it. */
export function fromHash(hash, header) {
  const given = new URLSearchParams(hash.replace(/^#/, "")), found = {};
  const whole = (text, most) => (/^\d+$/.test(text ?? "") && Number(text) < most ? Number(text) : null);
  const among = (name, options) => options.includes(given.get(name)) && (found[name] = given.get(name));
  const within = (name, least, most) => {
    const value = Number.parseFloat(given.get(name));
    if (value >= least && value <= most) found[name] = value;
  };
  among("view", ["bounce", "rank", "states", ...(header.methods.length ? ["method"] : [])]);
  among("direction", ["incoming", "outgoing"]);
  among("heads", header.weightings);
  among("maps", ["attention", "balanced", ...(header.contributions === null ? [] : ["contributions"])]);
  among("depth", ["even", "late"]);
  among("theme", ["auto", "light", "dark"]);
  within("damping", 0.5, 1);
  within("over", 0, 1);
  found.from = whole(given.get("from"), header.labels.length);
  found.n = whole(given.get("n"), INFINITE + 1) ?? START.n;
  found.method = whole(given.get("method"), header.methods.length) ?? START.method;
  found.target = whole(given.get("target"), header.targets.length);
  if (given.get("layers") === "null") found.layers = null;
  const [first, last] = (given.get("layers") ?? "").split(".").map((text) => whole(text, header.layers.length));
  if (first !== null && last >= first) found.layers = first === 0 && last === header.layers.length - 1 ? null : [first, last];
  const output = Number(given.get("output") ?? Number.NaN);
  if (given.get("output") === "null") found.output = null;
  else if (header.outputs.includes(output)) Object.assign(found, { output, from: found.from ?? output - 1 });
  const state = { ...firstChoices(header), ...found };
  const [layer, head] = (given.get("head") ?? "").split(".").map((text, k) => whole(text, k ? Infinity : header.layers.length));
  if (layer === null || head === null || !(head < header.layers[layer]?.heads)) return state;
  return { ...state, head: [layer, head], heads: "one", target: null, maps: ofHead(state.maps) };
}

/** The maps on which a single head is walked: contributions have no heads. */
export const ofHead = (maps) => (maps === "contributions" ? "attention" : maps);
