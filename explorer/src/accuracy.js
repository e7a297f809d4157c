import { number } from "./words.js";

const share = (value) => `${number(100 * value)} %`;

/** What a page holds, how exact that is, and how to get more, in words. */
export function accuracy({ maps, contributions, layers, labels, room }, heads) {
  const held = {
    heads: `the attention of all ${heads} heads`,
    layers: "the mean attention of each layer, once for each weighting of its heads, but not that of single heads",
    means: "the mean attention of each layer, but not that of single heads, and no other weighting of the heads",
    all: "the mean attention of all layers, once for each weighting of the heads, but not that of single layers or heads",
    none: "no attention from token to token",
  }[maps.what];
  const parts = [`This page holds ${layers.length} layers, ${labels.length} tokens, |\u2060λ₂\u2060| and TokenRank of all ${heads} heads, and ${held}.`];
  if (maps.what !== "none") parts.push(`Attention is ${rounded(maps)}`);
  if (contributions !== null) parts.push(`Contributions are ${rounded(contributions)}`);
  if (maps.what !== "heads" || maps.levels < 255) parts.push(`Nothing finer fits into ${number(room / 1e6)} MB; ac.explore(…, max_mb=…) makes a larger page.`);
  return parts.join(" ");
}

function rounded({ kept, levels, error, misplaced }) {
  const how = kept ? `kept for the ${kept} strongest tokens of each row, the rest spread evenly,` : `rounded to ${levels + 1} steps:`;
  return `${how} on average ${share(misplaced)} of what a token attends to is in another place, and no probability is off by more than ${number(error)}.`;
}
