import { Chain } from "./chain.js";

/** The attention that a page holds: which chain a choice of layers, heads, direction and class makes of it. */
export class Attention {
  constructor(header, arrays) {
    this.header = header;
    this.arrays = arrays;
    this.tokens = header.labels.length;
    this.states = Uint32Array.from(header.states);
    this.heads = [];
    header.layers.forEach(({ heads }, layer) => {
      for (let head = 0; head < heads; head++) this.heads.push({ layer, head });
    });
  }

  /** The place of a head among all heads. */
  place(layer, head) {
    return this.heads.findIndex((one) => one.layer === layer && one.head === head);
  }

  /** The stationary vector of a head, over the states. */
  vector(place) {
    const m = this.states.length;
    return this.arrays.vectors.subarray(place * m, (place + 1) * m);
  }

  /** The weight of every head of a layer, as `head_weights`. */
  weights(layer, weighting) {
    const second = this.heads.flatMap((one, k) => (one.layer === layer ? [Math.min(1, Math.max(0, this.arrays.lambda2[k]))] : []));
    const raw = second.map((value) => ({ mean: 1, lambda2: value, "inverse-lambda2": 1 - value })[weighting]);
    const sum = raw.reduce((total, value) => total + value, 0);
    return raw.map((value) => (sum > 0 ? value / sum : 1 / raw.length));
  }

  /**
   * Why the maps of a choice are not in this page; null where they are.
   *
   * @param {{layers: number[] | null, heads: string, head: number[] | null, target: number | null}} choice
   */
  missing({ layers, heads, target }) {
    const { what } = this.header.maps;
    if (target !== null) return null;
    if (what === "none") return "This page has no room for maps; TokenRank of each head is what it holds.";
    if (heads === "one" && what !== "heads") return "Maps of single heads did not fit into this page; their TokenRank did.";
    if (layers !== null && what === "all") return "Maps of single layers did not fit into this page; their mean did.";
    return null;
  }

  /** The chain of a choice, or null where its maps are missing or it cannot be reversed. */
  chain(choice) {
    if (this.missing(choice) !== null) return null;
    const parts = this.parts(choice);
    const n = this.tokens, m = this.states.length, e = this.header.outside.length;
    const matrix = new Float32Array(n * m), outside = new Float32Array(m * e);
    const total = parts.reduce((sum, { weight }) => sum + weight, 0);
    for (const { index, weight } of parts) {
      if (choice.target !== null) addDense(matrix, this.arrays.targets, index, n, m, 1);
      else if (this.header.maps.kept) this.addSparse(matrix, index, weight / total);
      else addDense(matrix, this.arrays.maps, index, n, m, weight / total);
      if (choice.target !== null) continue;
      const given = this.arrays.outside;
      for (let k = 0, at = index * m * e; k < m * e; k++, at++) outside[k] += (weight / total) * given[at];
    }
    const chain = new Chain(matrix, this.states, n);
    return choice.direction === "outgoing" ? chain.reversed(outside, this.header.outside) : chain;
  }

  /** Which of the page's maps a choice is made of, and how much each counts. */
  parts({ layers, heads, head, target }) {
    if (target !== null) return [{ index: target, weight: 1 }];
    if (heads === "one") return [{ index: this.place(...head), weight: 1 }];
    const all = this.header.layers.map((_, layer) => layer);
    const chosen = layers ?? all;
    const weighting = this.header.weightings.indexOf(heads);
    switch (this.header.maps.what) {
      case "all":
        return [{ index: weighting, weight: 1 }];
      case "layers":
        return chosen.map((layer) => ({ index: weighting * all.length + layer, weight: 1 }));
      default:
        return chosen.flatMap((layer) =>
          this.weights(layer, heads).map((weight, head) => ({ index: this.place(layer, head), weight })),
        );
    }
  }

  addSparse(matrix, index, weight) {
    const { places, values, kept } = this.arrays;
    const n = this.tokens, m = this.states.length, count = this.header.maps.kept;
    for (let i = 0; i < n; i++) {
      const row = index * n + i, rest = (weight * Math.max(0, 1 - kept[row])) / Math.max(1, m - count);
      let sum = 0;
      for (let k = row * count; k < (row + 1) * count; k++) sum += values[k] * values[k];
      for (let j = i * m; j < (i + 1) * m; j++) matrix[j] += rest;
      for (let k = row * count; k < (row + 1) * count; k++) {
        matrix[i * m + places[k]] += (weight * kept[row] * values[k] * values[k]) / sum - rest;
      }
    }
  }
}

/** Adds a map, whose codes are square roots on a scale of each row's own. */
function addDense(matrix, codes, index, rows, columns, weight) {
  for (let i = 0, at = index * rows * columns; i < rows; i++, at += columns) {
    let sum = 0;
    for (let j = 0; j < columns; j++) sum += codes[at + j] * codes[at + j];
    const scale = weight / sum;
    for (let j = 0; j < columns; j++) matrix[i * columns + j] += scale * codes[at + j] * codes[at + j];
  }
}
