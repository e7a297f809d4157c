import { Attention } from "./attention.js";
import { mapColour, REGIONS, shade } from "./colours.js";
import { choice, several, slider } from "./controls.js";
import { element } from "./element.js";
import { exportMenu } from "./export.js";
import { HeadGrid } from "./head_grid.js";
import { ImageView } from "./image_view.js";
import { Legend } from "./legend.js";
import { MethodsView } from "./methods_view.js";
import { START } from "./state.js";
import { TextView } from "./text_view.js";
import { greatest, INFINITE, number, steps, visible } from "./words.js";

/**
 * @typedef {Object} Shown what the view draws.
 * @property {ArrayLike<number> | null} values of every token.
 * @property {number} least the value of the first colour, and most, that of the last.
 * @property {{states, shares, marks} | null} regions in their place.
 * @property {number | null} start the token that the walk starts at.
 * @property {number | null} probe the token that is pointed at beside it.
 * @property {string} title what it is, in words.
 * @property {string | null} missing why there is nothing.
 */

/** The explorer: the state, what is computed of it, and the views that show it. */
export class Explorer {
  constructor(root, header, arrays, { state, onState, signal, prefix }) {
    Object.assign(this, { root, header, onState, signal });
    this.attention = new Attention(header, arrays);
    this.arrays = arrays;
    this.state = { ...START, ...state };
    this.state.from ??= this.beginning();
    this.pinned = state.from !== null && state.from !== undefined;
    this.probe = null;
    this.chains = new Map();
    this.waiting = false;
    this.build(prefix);
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.draw(), { signal });
    const watch = new ResizeObserver(() => this.draw());
    watch.observe(root);
    signal.addEventListener("abort", () => watch.disconnect());
    this.view.load(() => this.draw());
    this.draw();
  }

  /** Where a walk starts when nothing was pointed at: the patch of the greatest TokenRank, the last token of a decoder. */
  beginning() {
    const { header, attention } = this;
    if (header.causal) return header.states.at(-1);
    const sum = new Float64Array(attention.states.length);
    attention.heads.forEach((_, place) => attention.vector(place).forEach((value, j) => (sum[j] += value)));
    return header.states[greatest(sum)];
  }

  /** Whether the page is dark now. */
  get isDark() {
    return this.state.theme === "auto" ? this.dark.matches : this.state.theme === "dark";
  }

  set(changes) {
    Object.assign(this.state, changes);
    this.onState({ ...this.state, from: this.pinned ? this.state.from : null });
    this.draw();
  }

  /** Draws before the next frame, once however often it is asked for. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (!this.signal.aborted) this.render();
    });
  }

  /** The chain that is chosen, and its stationary vectors by damping; kept while it is among the last few. */
  chain() {
    const { layers, heads, head, target, direction } = this.state;
    const chosen = { layers, heads, head, target, direction };
    const key = JSON.stringify(chosen);
    if (!this.chains.has(key)) {
      if (this.chains.size >= 8) this.chains.delete(this.chains.keys().next().value);
      this.chains.set(key, { chain: this.attention.chain(chosen), ranks: new Map() });
    }
    return this.chains.get(key);
  }

  /** The damping at n = ∞, where a walk needs some. */
  get rankDamping() {
    return this.state.damping < 1 ? this.state.damping : this.header.rank.damping;
  }

  rank() {
    const found = this.chain(), damping = this.rankDamping;
    if (!found.ranks.has(damping)) {
      found.ranks.set(damping, found.chain.stationary(damping, this.header.rank.jump));
    }
    return found.ranks.get(damping);
  }

  /** @returns {Shown} */
  shown() {
    const { state, header, probe } = this;
    const nothing = { values: null, least: 0, most: 0, regions: null, start: null, probe, title: "", missing: null };
    if (state.view === "states") return { ...nothing, ...this.regions() };
    if (state.view === "method") return { ...nothing, ...this.scores() };
    const ranked = state.view === "rank" || state.n === INFINITE;
    const start = state.view === "rank" ? null : state.from;
    const { chain } = this.chain();
    if (chain === null) {
      const choice = { ...state };
      if (ranked && state.heads === "one" && state.direction === "incoming" && state.damping === 1 && state.target === null) {
        return { ...nothing, ...this.ranking(this.fromVector()), start };
      }
      const missing = this.attention.missing(choice) ?? "A token that no state attends to cannot be walked from backwards.";
      return { ...nothing, start, missing };
    }
    if (ranked) {
      const { vector, residual } = this.rank();
      const doubt = residual > 1e-6 ? `, not settled (one more step moves ${number(residual)})` : "";
      return { ...nothing, ...this.ranking(vector, doubt), start };
    }
    const values = chain.bounce(state.from, state.n, state.damping, header.rank.jump);
    const many = state.n === 1 ? "1 bounce" : `${state.n} bounces`;
    const title = `${many} ${state.direction === "incoming" ? "from" : "backwards from"} ${this.name(state.from)}`;
    return { ...nothing, values, most: values[greatest(values)], start, title };
  }

  ranking(values, doubt = "") {
    const jumps = this.header.rank.jump === null ? "" : ", jumps to the last token";
    const title = `TokenRank (n = ∞), damping ${number(this.rankDamping)}${jumps}${doubt}`;
    return { values, most: values[greatest(values)], title };
  }

  /** The scores of the chosen method; where some are negative, colours begin at the least. */
  scores() {
    const { name, values } = this.methods.methods[this.state.method];
    return { values, least: Math.min(0, ...values), most: values[greatest(values)], title: `Scores of ${name}` };
  }

  fromVector() {
    const values = new Float64Array(this.header.labels.length);
    this.attention.vector(this.attention.place(...this.state.head)).forEach((value, j) => {
      values[this.header.states[j]] = value;
    });
    return values;
  }

  /** The metastable states of the mean over all layers, under the chosen weighting. */
  regions() {
    const { header, arrays, state } = this;
    const heads = state.heads === "one" ? "mean" : state.heads;
    const which = header.regions.findIndex((one) => one.heads === heads);
    const { weights, missing } = header.regions[which];
    if (missing) return { missing: `No metastable states: ${missing}.` };
    const columns = header.regions.reduce((sum, one) => sum + (one.weights?.length ?? 0), 0);
    const first = header.regions.slice(0, which).reduce((sum, one) => sum + (one.weights?.length ?? 0), 0);
    const n = header.labels.length, states = new Int32Array(n), shares = new Float64Array(n);
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

  name(k) {
    const label = visible(this.header.labels[k]);
    return this.header.grid === null ? `“${label}”` : label;
  }

  /** What is shown, in a sentence, with the numbers. */
  sentence(shown) {
    if (shown.missing) return shown.missing;
    const { probe } = shown;
    if (shown.regions) {
      const at = probe === null ? "" : ` ${this.name(probe)} belongs to state ${shown.regions.states[probe] + 1} by ${number(shown.regions.shares[probe])}.`;
      return `${shown.title}.${at}`;
    }
    const top = greatest(shown.values);
    const at = probe === null ? "" : ` At ${this.name(probe)}: ${number(shown.values[probe])}.`;
    return `${shown.title}: greatest ${number(shown.values[top])} at ${this.name(top)}.${at}`;
  }

  build(prefix) {
    const { header, state } = this;
    const told = {
      prefix,
      point: (k) => {
        if (!this.pinned && state.view === "bounce") {
          if (k !== state.from) this.set({ from: k });
        } else if (k !== this.probe) {
          this.probe = k;
          this.draw();
        }
      },
      pin: (k) => {
        if (state.view !== "bounce") return;
        this.pinned = !(this.pinned && k === state.from);
        this.probe = null;
        this.set({ from: k });
      },
      go: (k) => {
        if (state.view === "bounce") {
          this.pinned = true;
          this.set({ from: k });
        } else {
          this.probe = k;
          this.draw();
        }
      },
      leave: () => {
        this.probe = null;
        this.draw();
      },
      free: () => {
        this.pinned = false;
        this.probe = null;
        this.set({});
      },
    };
    this.view = header.grid === null ? new TextView(header, told) : new ImageView(header, told);
    this.grid = new HeadGrid(this.attention, {
      select: (head) => this.set(head === null ? { heads: "mean", head: null } : { heads: "one", head, target: null }),
    });
    this.methods = header.methods.length ? new MethodsView(header, this.arrays, { select: (method) => this.set({ view: "method", method }) }) : null;
    this.legend = new Legend((share) => (header.grid === null ? shade(share, this.isDark) : mapColour(share)));
    this.shades = new Legend((share) => shade(share, this.isDark));
    this.caption = element("p", { class: "caption reading", role: "status" });
    this.key = element("ul", { class: "key" });
    this.makeControls();
    this.root.replaceChildren(this.top(), this.body(), this.foot());
  }

  makeControls() {
    const { header } = this;
    this.controls = {
      view: choice(
        "Show",
        [
          { value: "bounce", text: "Bounces" },
          { value: "rank", text: "TokenRank" },
          { value: "states", text: "States", title: "metastable states: tokens that a walk rarely leaves" },
          ...(header.methods.length ? [{ value: "method", text: "Method" }] : []),
        ],
        (view) => {
          this.probe = null;
          this.set({ view });
        },
      ),
      n: slider("Bounces", { least: 0, most: INFINITE, step: 1, describe: (n) => `n = ${steps(n)}` }, (n) => this.set({ n })),
      damping: slider("Damping", { least: 0.5, most: 1, step: 0.01, describe: (value) => (value === 1 ? "none" : value.toFixed(2)) }, (damping) => this.set({ damping })),
      over: slider("Map opacity", { least: 0, most: 1, step: 0.05, describe: (value) => `${Math.round(100 * value)} %` }, (over) => this.set({ over })),
      direction: choice(
        "Direction",
        [
          { value: "incoming", text: "Incoming", title: "where attention goes" },
          { value: "outgoing", text: "Outgoing", title: "where attention comes from: the reversed chain" },
        ],
        (direction) => this.set({ direction }),
      ),
      heads: choice(
        "Heads",
        [
          { value: "mean", text: "Mean" },
          { value: "lambda2", text: "λ₂", title: "slow mixing counts more" },
          { value: "inverse-lambda2", text: "1 − λ₂", title: "fast mixing counts more" },
          { value: "one", text: "One head", title: "choose one in the grid" },
        ],
        (heads) => this.set(heads === "one" ? { heads, head: this.state.head ?? [header.layers.length - 1, 0] } : { heads, head: null }),
      ),
      layers: several("Layers", header.layers.map(({ name }) => name), (layers) => this.set({ layers })),
      target: choice(
        "Explain",
        [{ value: null, text: "Attention" }, ...header.targets.map((name, value) => ({ value, text: name }))],
        (target) => this.set(target === null ? { target } : { target, heads: this.state.heads === "one" ? "mean" : this.state.heads, head: null }),
      ),
      theme: choice(
        "Theme",
        [
          { value: "auto", text: "Auto" },
          { value: "light", text: "Light" },
          { value: "dark", text: "Dark" },
        ],
        (theme) => this.set({ theme }),
      ),
    };
  }

  top() {
    return element("header", {}, element("h1", {}, visible(this.header.title)), this.controls.theme.node);
  }

  body() {
    const { header, controls } = this;
    return element(
      "div",
      { class: "columns" },
      element(
        "section",
        { class: "stage", "aria-label": "Map" },
        controls.view.node,
        this.view.node,
        element("div", { class: "under" }, this.legend.node, this.key, this.caption),
        controls.n.node,
        header.image === null ? null : controls.over.node,
        exportMenu(this),
      ),
      element(
        "section",
        { class: "side" },
        element("h2", {}, "Chain"),
        header.targets.length ? controls.target.node : null,
        controls.direction.node,
        controls.heads.node,
        controls.layers.node,
        controls.damping.node,
        element("h2", {}, "Heads"),
        this.grid.node,
        element("div", { class: "under" }, element("div", { class: "named" }, "|λ₂|", this.shades.node), this.grid.caption),
      ),
      this.methods === null
        ? null
        : element("section", { class: "wide" }, element("h2", {}, "Methods side by side"), this.methods.node),
    );
  }

  foot() {
    const { maps, layers, labels } = this.header;
    const heads = this.attention.heads.length;
    const whose = {
      heads: `the maps of all ${heads} heads`,
      layers: "of each layer the means of its heads, once for each weighting",
      all: "the mean of all layers, once for each weighting",
      none: "no maps",
    }[maps.what];
    const rows = maps.kept ? `, of each row the ${maps.kept} largest entries and the rest spread evenly` : "";
    const accuracy = maps.what === "none" ? "" : `, on ${maps.levels + 1} levels; greatest error of a probability ${number(maps.error)}`;
    const passed = maps.passed.length ? ` Did not fit: ${maps.passed.join("; ")}.` : "";
    return element(
      "footer",
      {},
      element("p", {}, `This page holds ${layers.length} layers, ${labels.length} tokens; TokenRank and |\u2060λ₂\u2060| of all ${heads} heads; ${whose}${rows}${accuracy}.${passed}`),
    );
  }

  render() {
    const { state, controls, header } = this;
    this.root.dataset.theme = state.theme;
    const shown = this.shown();
    const description = this.sentence(shown);
    this.current = shown;
    controls.view.show(state.view);
    controls.n.show(state.n, state.view !== "bounce");
    const fixed = state.view === "states" || state.view === "method"; // no chain of the page is walked
    controls.damping.show(state.damping, fixed);
    controls.over.show(state.over);
    controls.direction.show(state.direction, () => fixed);
    controls.heads.show(state.heads, (heads) => state.view === "method" || state.target !== null || (fixed && heads === "one"));
    controls.layers.show(state.heads === "one" ? null : state.layers, fixed || state.heads === "one" || state.target !== null);
    controls.target.show(state.target, () => fixed);
    controls.theme.show(state.theme);
    this.view.draw(shown, { over: state.over, dark: this.isDark, description });
    this.legend.node.hidden = shown.regions !== null || shown.missing !== null;
    if (!this.legend.node.hidden) this.legend.draw(shown.most, shown.least);
    this.showKey(shown);
    this.caption.textContent = description;
    const look = `${state.head} ${state.view} ${state.method} ${this.isDark} ${this.root.clientWidth}`;
    if (look !== this.look) {
      this.look = look;
      this.grid.draw(state.head, this.isDark);
      this.shades.draw(1);
      this.methods?.draw(this.isDark, state.view === "method" ? state.method : null);
    }
  }

  showKey(shown) {
    const weights = shown.regions?.weights ?? [];
    this.key.hidden = !weights.length;
    this.key.replaceChildren(
      ...weights.map((weight, k) =>
        element(
          "li",
          {},
          element("i", { style: { background: REGIONS[k % REGIONS.length] } }),
          `${k + 1}: ${(100 * weight).toFixed(1)} %`,
        ),
      ),
    );
  }
}

const WEIGHTED = { mean: "their mean", lambda2: "λ₂", "inverse-lambda2": "1 − λ₂" };
