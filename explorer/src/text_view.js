import { css, ink, REGIONS, shade } from "./colours.js";
import { element } from "./element.js";
import { number, share, visible } from "./words.js";

/** Tokens in line, shaded; pointing, touching or the arrow keys name one. */
export class TextView {
  constructor(header, told) {
    this.spans = header.labels.map((label, k) =>
      element("span", { class: "token", id: `${told.prefix}-${k}`, role: "option", "data-token": k }, element("bdi", {}, visible(label)), element("small")),
    );
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
          keydown: (event) => this.key(event, told),
        },
      },
      this.spans,
    );
    this.colours = [];
  }

  load() {}

  key(event, told) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" || event.key === " ") told.pin(this.named);
    else if (event.key === "Escape") told.free();
    else if (event.key in steps) {
      told.go((this.named = Math.min(this.spans.length - 1, Math.max(0, this.named + steps[event.key]))));
    } else return;
    event.preventDefault();
  }

  draw(shown, { dark, description }) {
    this.named = shown.probe ?? shown.start ?? 0;
    this.spans.forEach((span, k) => {
      const [background, strength] = this.colour(shown, k, dark);
      const drawn = `${background} ${strength} ${k === shown.start} ${k === shown.probe}`;
      if (this.colours[k] === drawn) return;
      this.colours[k] = drawn;
      span.style.setProperty("background", background);
      span.style.setProperty("color", strength);
      span.lastChild.textContent = shown.regions?.states[k] >= 0 ? String(shown.regions.states[k] + 1) : "";
      span.classList.toggle("start", k === shown.start);
      span.classList.toggle("probe", k === shown.probe);
      span.setAttribute("aria-selected", String(k === this.named));
      if (shown.values) span.setAttribute("title", number(shown.values[k]));
    });
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
