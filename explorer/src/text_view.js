import { css, ink, REGIONS, shade } from "./colours.js";
import { element } from "./element.js";
import { found, number, share, short, visible } from "./words.js";

/** The tokens of a text in line, shaded; pointing, touching or the arrow keys name one, and a search finds some. */
export class TextView {
  constructor(header, texts, told) {
    Object.assign(this, { header, texts, told, colours: [], named: 0, hits: [], hit: -1 });
    this.spans = texts.map((text, k) => {
      const sink = header.sinks[k], words = text.replaceAll("\n", "↵\n") || (header.labels[k] ? "" : "·"); // a part of a character shows nothing
      const classes = ["token", sink && "sink", header.roles[k] === "special" && "special", header.outputs.includes(k) && "output"];
      const span = element("span", { class: classes.filter(Boolean).join(" "), id: `${told.prefix}-${k}`, role: "option", "data-token": k }, seen(words));
      if (sink) span.setAttribute("title", `an attention sink: it ${sink}`);
      return span;
    });
    const named = (event, tell) => {
      const span = event.target.closest(".token");
      if (span !== null) tell(Number(span.dataset.token));
    };
    this.node = element(
      "div",
      {
        class: "text-view",
        tabindex: "0",
        role: "listbox",
        on: {
          pointerover: (event) => named(event, told.point),
          pointerdown: (event) => named(event, told.pin),
          pointerleave: () => told.leave(),
          keydown: (event) => this.key(event),
        },
      },
      this.spans,
    );
    this.outputs = header.outputs.map((k) =>
      element("button", { type: "button", class: "chip", on: { click: () => told.explain(k) } }, short(texts[k])),
    );
    this.starts = element("div", { class: "chips", role: "group", "aria-label": "Explain the output" }, element("span", {}, "Output"), this.outputs);
    this.starts.hidden = !this.outputs.length;
    this.count = element("output", {});
    this.field = element("input", {
      type: "search",
      "aria-label": "Search for a token",
      placeholder: "Search",
      on: {
        input: () => this.search(),
        keydown: (event) => event.key === "Enter" && this.next(event.shiftKey ? -1 : 1),
      },
    });
    this.finder = element("div", { class: "finder" }, this.field, this.count);
  }

  load() {}

  search() {
    for (const k of this.hits.flat()) this.spans[k].classList.remove("hit");
    [this.hits, this.hit] = [found(this.texts, this.field.value), -1];
    for (const k of this.hits.flat()) this.spans[k].classList.add("hit");
    this.count.textContent = this.field.value ? `${this.hits.length} found` : "";
    if (this.hits.length) this.spans[this.hits[0][0]].scrollIntoView({ block: "nearest" });
  }

  /** Names the next place that was found, and its value; the walk still starts where it did. */
  next(step) {
    if (!this.hits.length) return;
    this.hit = (this.hit + step + this.hits.length + (this.hit < 0 && step < 0 ? 1 : 0)) % this.hits.length;
    this.count.textContent = `${this.hit + 1} of ${this.hits.length}`;
    const [k] = this.hits[this.hit];
    this.spans[k].scrollIntoView({ block: "nearest" });
    this.told.look(k);
  }

  go(k) {
    this.named = k;
    this.spans[k].scrollIntoView({ block: "nearest" });
    this.told.go(k);
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" || event.key === " ") this.told.pin(this.named);
    else if (event.key === "Escape") this.told.free();
    else if (event.key in steps) this.go(Math.min(this.spans.length - 1, Math.max(0, this.named + steps[event.key])));
    else return;
    event.preventDefault();
  }

  draw(shown, { dark, description, output }) {
    const before = this.named;
    this.named = shown.probe ?? shown.start ?? 0;
    this.spans.forEach((span, k) => {
      const [background, strength] = this.colour(shown, k, dark);
      const states = shown.regions?.states, state = states && states[k] !== states[k - 1] ? states[k] : -1; // said where it begins
      const drawn = `${background} ${strength} ${state} ${k === shown.start} ${k === shown.probe} ${k === output}`;
      if (this.colours[k] === drawn) return;
      this.colours[k] = drawn;
      span.style.cssText = `background:${background};color:${strength}`;
      if (state >= 0) span.dataset.state = state + 1;
      else delete span.dataset.state;
      span.classList.toggle("start", k === shown.start);
      span.classList.toggle("probe", k === shown.probe);
      span.classList.toggle("explained", k === output);
    });
    this.spans[before].removeAttribute("aria-selected");
    this.spans[this.named].setAttribute("aria-selected", "true");
    if (shown.probe !== null && shown.values && !(shown.probe in this.header.sinks)) this.spans[shown.probe].title = number(shown.values[shown.probe]);
    this.outputs.forEach((chip, k) => chip.setAttribute("aria-pressed", String(this.header.outputs[k] === output)));
    this.node.setAttribute("aria-label", description);
    this.node.setAttribute("aria-activedescendant", this.spans[this.named].id);
  }

  colour(shown, k, dark) {
    if (shown.regions && shown.regions.states[k] >= 0) {
      const colour = REGIONS[shown.regions.states[k] % REGIONS.length];
      return [colour, ink([1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)))];
    }
    if (!shown.values) return ["transparent", "inherit"];
    const background = shade(share(shown, k), dark);
    return [css(background), ink(background)];
  }
}

/** As `visible`, but for line breaks, which break the line. */
const seen = (text) => text.split("\n").map(visible).join("\n");
