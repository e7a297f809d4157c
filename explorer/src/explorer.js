import { mapColour, REGIONS, shade } from "./colours.js";
import { element } from "./element.js";
import { exportMenu } from "./export.js";
import { HeadGrid } from "./head_grid.js";
import { ImageView } from "./image_view.js";
import { Legend } from "./legend.js";
import { MethodsView } from "./methods_view.js";
import { panel } from "./panel.js";
import { Readout } from "./readout.js";
import { START } from "./state.js";
import { TextView } from "./text_view.js";
import { number, visible } from "./words.js";

/** The explorer: the state, and the views and controls that show and change it. */
export class Explorer {
  constructor(root, header, arrays, { state, onState, signal, prefix }) {
    Object.assign(this, { root, header, onState, signal });
    this.readout = new Readout(header, arrays);
    this.arrays = arrays;
    this.state = { ...START, ...state };
    this.state.from ??= this.readout.beginning();
    this.pinned = state.from !== null && state.from !== undefined;
    this.probe = null;
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

  /** Whether the page is dark now. */
  get isDark() {
    return this.state.theme === "auto" ? this.dark.matches : this.state.theme === "dark";
  }

  set(changes) {
    if ("view" in changes) this.probe = null;
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
    this.grid = new HeadGrid(this.readout.attention, {
      select: (head) => this.set(head === null ? { heads: "mean", head: null } : { heads: "one", head, target: null }),
    });
    this.methods = header.methods.length ? new MethodsView(header, this.arrays, {
      select: (method) => this.set({ view: "method", method }),
    }) : null;
    this.legend = new Legend((share) => (header.grid === null ? shade(share, this.isDark) : mapColour(share)));
    this.shades = new Legend((share) => shade(share, this.isDark));
    this.caption = element("p", { class: "caption reading", role: "status" });
    this.key = element("ul", { class: "key" });
    this.controls = panel(header, state, (changes) => this.set(changes));
    this.root.replaceChildren(this.top(), this.body(), this.foot());
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
    const { maps, layers, labels, sinks } = this.header;
    const heads = this.readout.attention.heads.length;
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
      ...Object.entries(sinks).map(([k, told]) => element("p", {}, `${visible(labels[k])} is an attention sink: it ${told}.`)),
      element("p", {}, `This page holds ${layers.length} layers, ${labels.length} tokens; TokenRank and |\u2060λ₂\u2060| of all ${heads} heads; ${whose}${rows}${accuracy}.${passed}`),
    );
  }

  render() {
    const { state, controls } = this;
    this.root.dataset.theme = state.theme;
    const shown = this.readout.shown(state, this.probe);
    const description = this.readout.sentence(shown);
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
