import { element, prepared } from "./element.js";
import { number } from "./words.js";

/** The bar of colours with the numbers at its ends. */
export class Legend {
  constructor(colour) {
    this.colour = colour;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.low = element("span", {});
    this.high = element("span", {});
    this.node = element("div", { class: "legend" }, this.low, this.canvas, this.high);
  }

  /** Draws the bar; `clipped` says that some values are above the last colour. */
  draw(greatest, least = 0, clipped = false) {
    this.low.textContent = number(least);
    this.high.textContent = clipped ? `${number(greatest)} and more` : number(greatest);
    const width = this.canvas.clientWidth || 160, height = 10;
    const context = prepared(this.canvas, width, height);
    for (let x = 0; x < width; x++) {
      const [r, g, b] = this.colour(x / (width - 1));
      context.fillStyle = `rgb(${r} ${g} ${b})`;
      context.fillRect(x, 0, 1.5, height);
    }
  }
}
