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
    const m = this.states.length, values = new Float32Array(m);
    addDense(values, this.arrays.vectors, place, 1, m, 1);
    return values;
  }

  /** The weight of every head of a layer, as `head_weights`. */
  weights(layer, weighting) {
    const second = this.heads.flatMap((one, k) => (one.layer === layer ? [Math.min(1, Math.max(0, this.arrays.lambda2[k]))] : []));
    const raw = second.map((value) => ({ mean: 1, lambda2: value, "inverse-lambda2": 1 - value })[weighting]);
    const sum = raw.reduce((total, value) => total + value, 0);
    return raw.map((value) => (sum > 0 ? value / sum : 1 / raw.length));
  }

  /** What the page says of the maps of a choice, and the arrays that hold them. */
  held({ maps }) {
    const { header, arrays } = this;
    if (maps !== "contributions") return { ...header.maps, arrays };
    const own = (name) => arrays[`contributions.${name}`];
    return { ...header.contributions, arrays: { maps: own("maps"), outside: own("outside") } };
  }

  /** Why the maps of a choice are not in this page; null where they are. */
  missing({ maps, layers, heads, target }) {
    const { what } = this.held({ maps });
    if (target !== null) return null;
    if (what === "none") return "This page has no room for maps; TokenRank of each head is what it holds.";
    if (maps === "contributions") return null;
    if (heads === "one" && what !== "heads") return "Maps of single heads did not fit into this page; their TokenRank did.";
    if (heads !== "mean" && what === "means") return "Only the plain mean of the heads fitted into this page.";
    if (layers !== null && heads !== "one" && what === "all") return "Maps of single layers did not fit into this page; their mean did.";
    return null;
  }

  /**
   * The chain of a choice, or null where its maps are missing or it cannot be reversed.
   *
   * @param {{maps: string, layers: number[] | null, depth: string, heads: string, head: number[] | null, target: number | null,
   *   direction: string}} choice as in state.js.
   */
  chain(choice) {
    if (this.missing(choice) !== null) return null;
    const parts = this.parts(choice), { arrays, kept } = this.held(choice);
    const n = this.tokens, m = this.states.length, e = this.header.outside.length;
    const matrix = new Float32Array(n * m), outside = new Float32Array(m * e);
    const total = parts.reduce((sum, { weight }) => sum + weight, 0);
    for (const { index, weight } of parts) {
      if (weight === 0) continue;
      if (choice.target !== null) addDense(matrix, this.arrays.targets, index, n, m, 1);
      else if (kept) this.addSparse(matrix, index, weight / total);
      else addDense(matrix, arrays.maps, index, n, m, weight / total);
      if (choice.target !== null) continue;
      for (let k = 0, at = index * m * e; k < m * e; k++, at++) outside[k] += (weight / total) * arrays.outside[at];
    }
    const chain = new Chain(matrix, this.states, n), outgoing = choice.direction === "outgoing";
    const turned = outgoing ? chain.reversed(outside, this.header.outside) : chain;
    if (choice.maps !== "balanced" || choice.target !== null || turned === null) return turned;
    return turned.balanced(this.header.causal && !outgoing);
  }

  /** Which of the page's maps a choice is made of, and how much each counts. */
  parts({ maps, layers, depth, heads, head, target }) {
    if (target !== null) return [{ index: target, weight: 1 }];
    if (heads === "one" && maps !== "contributions") return [{ index: this.place(...head), weight: 1 }];
    const count = this.header.layers.length, [first, last] = layers ?? [0, count - 1];
    const { what } = this.held({ maps });
    if (what === "all") return [{ index: this.header.weightings.indexOf(heads), weight: 1 }];
    const depths = this.header.depths.slice(first, last + 1), late = depth === "late" && depths.some((one) => one > 0);
    return depths.flatMap((share, k) => {
      const layer = first + k, weight = late ? share : 1;
      if (what === "means") return [{ index: layer, weight }];
      if (what === "layers") return [{ index: this.header.weightings.indexOf(heads) * count + layer, weight }];
      return this.weights(layer, heads).map((own, one) => ({ index: this.place(layer, one), weight: own * weight }));
    });
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
