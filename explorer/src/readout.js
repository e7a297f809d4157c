import { Attention } from "./attention.js";
import { greatest, INFINITE, isolated, number, short, spelled, visible } from "./words.js";

const WEIGHTED = { mean: "their mean", lambda2: "λ₂", "inverse-lambda2": "1 − λ₂" };

/**
 * @typedef {Object} Shown what the view draws.
 * @property {ArrayLike<number> | null} values of every token.
 * @property {number} least the value of the first colour, and most, that of the last.
 * @property {{states, shares, marks} | null} regions in their place.
 * @property {number | null} start the token that the walk starts at.
 * @property {number | null} probe the token that is pointed at beside it.
 * @property {string} title what it is, in words.
 * @property {boolean} clipped whether a token that is left out of the scale has more than the last colour.
 * @property {string | null} missing why there is nothing.
 */

/** What a state of the page means in numbers and in words. */
export class Readout {
  constructor(header, arrays) {
    Object.assign(this, { header, arrays, attention: new Attention(header, arrays), chains: new Map(), texts: spelled(header) });
  }

  /** The chain that is chosen, and its stationary vectors by damping and jump; kept while it is among the last few. */
  chain({ maps, layers, depth, heads, head, target, direction }) {
    const chosen = { maps, layers, depth, heads, head, target, direction };
    const key = JSON.stringify(chosen);
    if (!this.chains.has(key)) {
      if (this.chains.size >= 8) this.chains.delete(this.chains.keys().next().value);
      this.chains.set(key, { chain: this.attention.chain(chosen), ranks: new Map() });
    }
    return this.chains.get(key);
  }

  /** The state where jumps lead: the token that predicts the chosen output; else as the page has it. */
  jump({ output }) {
    return output === null ? this.header.rank.jump : this.header.states.indexOf(output - 1);
  }

  /** The damping at n = ∞, where a walk needs some. */
  rankDamping({ damping }) {
    return damping < 1 ? damping : this.header.rank.damping;
  }

  rank(state) {
    const found = this.chain(state), damping = this.rankDamping(state), jump = this.jump(state);
    const key = `${damping} ${jump}`;
    if (!found.ranks.has(key)) found.ranks.set(key, found.chain.stationary(damping, jump));
    return found.ranks.get(key);
  }

  /** @returns {Shown} */
  shown(state, probe) {
    const { header } = this;
    const nothing = { values: null, least: 0, most: 0, regions: null, start: null, probe, title: "", clipped: false, missing: null };
    if (state.view === "states") return { ...nothing, ...this.regions(state) };
    if (state.view === "method") return { ...nothing, ...this.scores(state) };
    const ranked = state.view === "rank" || state.n === INFINITE;
    const start = state.view === "rank" ? null : state.from;
    const { chain } = this.chain(state);
    if (chain === null) {
      if (ranked && state.heads === "one" && state.direction === "incoming" && state.damping === 1 && state.target === null && state.maps === "attention") {
        return { ...nothing, ...this.ranking(state, this.vectorOf(state.head)), start };
      }
      const missing = this.attention.missing(state) ?? "A token that no state attends to cannot be walked from backwards.";
      return { ...nothing, start, missing };
    }
    if (ranked) {
      const { vector, residual } = this.rank(state);
      const doubt = residual > 1e-6 ? `, not settled (one more step moves ${number(residual)})` : "";
      return { ...nothing, ...this.ranking(state, vector, doubt), start };
    }
    const values = chain.bounce(state.from, state.n, state.damping, this.jump(state));
    const many = state.n === 1 ? "1 bounce" : `${state.n} bounces`;
    const title = `${many} ${state.direction === "incoming" ? "from" : "backwards from"} ${this.name(state.from)}${this.about(state)}`;
    return { ...nothing, values, ...this.top(values, state.from), start, title };
  }

  /**
   * The token of the greatest value that is no attention sink, nor where a walk through a text starts; its value, which has the
   * last colour; and whether one of those has a greater one.
   */
  top(values, start = null) {
    const { sinks, causal } = this.header;
    const others = values.map((value, k) => (k in sinks || (causal && k === start) ? 0 : value));
    const best = greatest(others), all = greatest(values);
    return others[best] > 0 ? { best, most: values[best], clipped: values[best] < values[all] } : { best: all, most: values[all], clipped: false };
  }

  ranking(state, values, doubt = "") {
    const jump = this.jump(state), last = jump === this.header.states.length - 1 ? "the last token" : this.name(this.header.states[jump] ?? 0);
    const jumps = jump === null ? "" : `, jumps to ${last}`;
    const about = this.about({ ...state, damping: 1 }), way = state.direction === "incoming" ? "" : ", backwards";
    const title = `TokenRank (n = ∞), damping ${number(this.rankDamping(state))}${jumps}${way}${about}${doubt}`;
    return { values, ...this.top(values, state.output === null ? null : state.output - 1), title };
  }

  /** What is chosen other than at the start, in words that follow a title. */
  about({ maps, target, heads, head, layers, depth, damping, output }) {
    const { header } = this, one = heads === "one" && maps !== "contributions";
    const parts = [
      output !== null && `before it wrote ${this.name(output)}`,
      target === null && maps !== "attention" && maps,
      target !== null && `for ${visible(header.targets[target])}`,
      target === null && one && `${header.layers[head?.[0]]?.name}, head ${head?.[1]}`,
      target === null && maps !== "contributions" && heads !== "one" && heads !== "mean" && `heads by ${WEIGHTED[heads]}`,
      target === null && !one && layers !== null && (layers[0] === layers[1] ? `layer ${layers[0]}` : `layers ${layers.join(" to ")}`),
      target === null && !one && depth === "late" && "late layers count more",
      damping < 1 && `damping ${damping}`,
    ].filter(Boolean);
    return parts.length ? `, ${parts.join(", ")}` : "";
  }

  /** The scores of the chosen method; where some are negative, colours begin at the least. */
  scores({ method }) {
    const n = this.header.labels.length, values = this.arrays.methods.subarray(method * n, (method + 1) * n);
    const { name } = this.header.methods[method];
    return { values, least: Math.min(0, ...values), most: values[greatest(values)], title: `Scores of ${name}` };
  }

  /** The stationary vector of a head, over all tokens. */
  vectorOf(head) {
    const values = new Float64Array(this.header.labels.length);
    this.attention.vector(this.attention.place(...head)).forEach((value, j) => {
      values[this.header.states[j]] = value;
    });
    return values;
  }

  /** The metastable states of the mean over all layers, under the chosen weighting. */
  regions(state) {
    const { header, arrays } = this;
    const heads = state.heads === "one" ? "mean" : state.heads;
    const which = header.regions.findIndex((one) => one.heads === heads);
    const { weights, missing } = header.regions[which];
    if (missing) return { missing: `No metastable states: ${missing}.` };
    const columns = header.regions.reduce((sum, one) => sum + (one.weights?.length ?? 0), 0);
    const first = header.regions.slice(0, which).reduce((sum, one) => sum + (one.weights?.length ?? 0), 0);
    const n = header.labels.length, states = new Int32Array(n).fill(-1), shares = new Float64Array(n);
    header.states.forEach((k, j) => {
      const row = arrays.regions.subarray(j * columns + first, j * columns + first + weights.length);
      states[k] = greatest(row);
      shares[k] = row[states[k]];
    });
    const marks = weights.flatMap((_, one) => {
      const own = header.states.filter((k) => states[k] === one);
      return own.length ? [{ state: one, token: own.reduce((a, b) => (shares[b] > shares[a] ? b : a)) }] : [];
    });
    const title = `${weights.length} metastable states of all layers, heads by ${WEIGHTED[heads]}`;
    return { regions: { states, shares, marks, weights }, title };
  }

  label(k) {
    const { labels, grid } = this.header, character = this.texts.slice(k).find(Boolean);
    if (!this.texts[k] && labels[k] && character) return `a part of “${isolated(short([...character][0]))}”`;
    const label = short(this.texts[k]);
    return grid === null ? `“${isolated(label)}”` : label;
  }

  name(k) {
    return this.label(k) + (k in this.header.sinks ? " (an attention sink)" : "");
  }

  /** What is shown, in a sentence, with the numbers. */
  sentence(shown) {
    if (shown.missing) return shown.missing;
    const { probe } = shown;
    if (shown.regions) {
      const { states, shares } = shown.regions;
      const inside = probe !== null && states[probe] >= 0;
      return `${shown.title}.${inside ? ` ${this.name(probe)} belongs to state ${states[probe] + 1} by ${number(shares[probe])}.` : ""}`;
    }
    const top = shown.best ?? greatest(shown.values);
    const at = probe === null ? "" : ` At ${this.name(probe)}: ${number(shown.values[probe])}.`;
    const clipped = shown.clipped ? ` ${this.header.causal ? "Attention sinks, and the token where the walk starts," : "Attention sinks"} are left out of the scale.` : "";
    return `${shown.title}: greatest ${number(shown.values[top])} at ${this.name(top)}.${at}${clipped}`;
  }
}
