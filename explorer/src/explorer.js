import { mapColour, REGIONS, shade } from "./colours.js";
import { element } from "./element.js";
import { exportMenu } from "./export.js";
import { HeadGrid } from "./head_grid.js";
import { ImageView } from "./image_view.js";
import { Legend } from "./legend.js";
import { MethodsView } from "./methods_view.js";
import { panel } from "./panel.js";
import { accuracy } from "./accuracy.js";
import { Readout } from "./readout.js";
import { firstChoices, ofHead } from "./state.js";
import { TextView } from "./text_view.js";
import { visible } from "./words.js";

/** The explorer: the state, and the views and controls that show and change it. */
export class Explorer {
  constructor(root, header, arrays, { state, onState, signal, prefix }) {
    Object.assign(this, { root, header, onState, signal });
    this.readout = new Readout(header, arrays);
    this.arrays = arrays;
    this.state = { ...firstChoices(header), ...state };
    this.pinned = (state.from ?? null) !== null || this.state.output !== null;
    this.state.from ??= this.state.output === null ? header.first.from : this.state.output - 1;
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
        } else if (k !== this.probe) told.look(k);
      },
      pin: (k) => {
        if (state.view !== "bounce") return;
        this.pinned = !(this.pinned && k === state.from);
        this.probe = null;
        this.set({ from: k, output: null });
      },
      go: (k) => {
        if (state.view === "bounce") {
          this.pinned = true;
          this.set({ from: k, output: null });
        } else told.look(k);
      },
      look: (k) => {
        this.probe = k;
        this.draw();
      },
      leave: () => {
        this.probe = null;
        this.draw();
      },
      free: () => {
        this.pinned = false;
        this.probe = null;
        this.set({ output: null });
      },
      explain: (k) => {
        const again = k === state.output;
        this.pinned = !again;
        this.probe = null;
        this.set(again ? { output: null } : { output: k, from: k - 1 });
      },
    };
    this.view = header.grid === null ? new TextView(header, this.readout.texts, told) : new ImageView(header, told);
    this.grid = new HeadGrid(this.readout, {
      select: (head) => this.set(head === null ? { heads: "mean", head: null } : { heads: "one", head, target: null, maps: ofHead(state.maps) }),
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
    const { header, controls, view } = this;
    return element("header", {}, element("h1", {}, visible(header.title)), view.finder ?? null, controls.theme.node);
  }

  body() {
    const { header, controls, view, grid } = this, text = header.grid === null;
    const several = header.layers.length > 1;
    const stage = [
      element("div", { class: "picks" }, controls.view.node, view.starts),
      view.node,
      element("div", { class: "under" }, this.legend.node, this.key, this.caption),
    ];
    const walk = [controls.n.node, header.image === null ? null : controls.over.node, exportMenu(this)];
    const chain = [
      element("h2", {}, "Chain"),
      header.targets.length ? controls.target.node : null,
      controls.maps.node,
      controls.direction.node,
      controls.heads.node,
      several ? controls.layers.node : null,
      several ? controls.depth.node : null,
      controls.damping.node,
    ];
    const heads = [
      element("h2", {}, "Heads"),
      element("div", { class: "head-grid" }, grid.node, element("div", { class: "under" }, grid.enlarged, grid.caption, element("div", { class: "named" }, "|λ₂|", this.shades.node))),
    ];
    const section = (name, label, ...parts) => element("section", { class: name, "aria-label": label }, ...parts);
    const sections = text
      ? [section("stage wide", "Map", stage), section("side", "Walk and chain", walk, chain), section("side", "Heads", heads)]
      : [section("stage", "Map", stage, walk), section("side", "Chain and heads", chain, heads)];
    return element(
      "div",
      { class: text ? "columns of-text" : "columns" },
      sections,
      this.methods === null ? null : section("wide", "Methods", element("h2", {}, "Methods side by side"), this.methods.node),
    );
  }

  foot() {
    const sinks = Object.entries(this.header.sinks).map(([k, told]) => element("p", {}, `${this.readout.label(k)} is an attention sink: it ${told}.`));
    const more = sinks.splice(3);
    return element(
      "footer",
      {},
      sinks,
      more.length ? element("details", {}, element("summary", {}, `${more.length} more attention sinks`), more) : null,
      element("p", {}, accuracy(this.header, this.readout.attention.heads.length)),
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
    const { what } = this.readout.attention.held(state);
    const fixed = state.view === "states" || state.view === "method"; // no chain of the page is walked
    controls.damping.show(state.damping, fixed);
    controls.over.show(state.over);
    controls.direction.show(state.direction, () => fixed);
    controls.maps.show(state.maps, () => fixed || state.target !== null);
    controls.depth.show(state.depth, () => fixed || (state.heads === "one" && state.maps !== "contributions") || state.target !== null || what === "all");
    controls.heads.show(state.heads, (heads) => state.view === "method" || (state.maps === "contributions" && !fixed) || state.target !== null || (fixed && heads === "one"));
    controls.layers.show(state.heads === "one" ? null : state.layers, fixed || state.heads === "one" || state.target !== null || what === "all");
    controls.target.show(state.target, () => fixed);
    controls.theme.show(state.theme);
    this.view.draw(shown, { over: state.over, dark: this.isDark, description, output: state.output });
    this.legend.node.hidden = shown.regions !== null || shown.missing !== null;
    if (!this.legend.node.hidden) this.legend.draw(shown.most, shown.least, shown.clipped);
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
