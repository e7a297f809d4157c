import { element, prepared } from "./element.js";
import { DASHES, REGIONS, SINK } from "./colours.js";
import { heat, outlines } from "./raster.js";

/** The image with a map over it; pointing, touching or the arrow keys name a patch. */
export class ImageView {
  /**
   * @param {Object} header of the page.
   * @param {{point: Function, pin: Function, leave: Function}} told what is pointed at, by token.
   */
  constructor(header, told) {
    this.header = header;
    [this.rows, this.columns] = header.grid;
    this.patches = header.roles.flatMap((role, k) => (role === "patch" ? [k] : []));
    this.others = header.roles.flatMap((role, k) => (role === "patch" ? [] : [k]));
    this.picture = null;
    this.canvas = element("canvas", {
      class: "map",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "attention map",
      style: { "aspect-ratio": `${this.columns} / ${this.rows}` },
      on: {
        pointermove: (event) => this.at(event, told.point),
        pointerdown: (event) => this.at(event, told.pin),
        pointerleave: () => told.leave(),
        keydown: (event) => this.key(event, told),
      },
    });
    this.chips = this.others.map((k) =>
      element(
        "button",
        { type: "button", class: k in header.sinks ? "chip sink" : "chip", on: { click: () => told.pin(k), pointerenter: () => told.point(k) } },
        header.labels[k],
      ),
    );
    this.starts = element("div", { class: "chips", role: "group", "aria-label": "Start at" }, element("span", {}, "Start at"), this.chips);
    this.node = element("div", { class: "image-view" }, this.canvas);
  }

  /** Loads the picture, if there is one; then calls back. */
  load(done) {
    if (this.header.image === null) return;
    const image = new Image();
    image.onload = () => {
      this.picture = image;
      done();
    };
    image.src = this.header.image;
  }

  at(event, tell) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * this.rows);
    if (row < 0 || column < 0 || row >= this.rows || column >= this.columns) return;
    tell(this.patches[row * this.columns + column]);
  }

  key(event, told) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Enter" || event.key === " ") told.pin(this.named);
    else if (event.key === "Escape") told.free();
    else if (event.key in steps) {
      const at = Math.max(0, this.patches.indexOf(this.named));
      const row = Math.min(this.rows - 1, Math.max(0, Math.floor(at / this.columns) + steps[event.key][0]));
      const column = Math.min(this.columns - 1, Math.max(0, (at % this.columns) + steps[event.key][1]));
      told.go((this.named = this.patches[row * this.columns + column]));
    } else return;
    event.preventDefault();
  }

  /** Draws what is shown: see `Shown` in explorer.js. */
  draw(shown, { over, description }) {
    this.named = shown.probe ?? shown.start ?? this.patches[0];
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (!width) return;
    const context = prepared(this.canvas, width, height);
    if (this.picture !== null) {
      context.filter = shown.values ? "grayscale(1)" : "none";
      context.drawImage(this.picture, 0, 0, width, height);
      context.filter = "none";
    }
    const on = (values) => this.patches.map((k) => values[k]);
    context.imageSmoothingEnabled = false;
    if (shown.regions) {
      const { states, marks } = shown.regions;
      for (const { state, x1, y1, x2, y2 } of outlines(on(states), this.rows, this.columns)) {
        context.strokeStyle = REGIONS[state % REGIONS.length];
        context.lineWidth = 3;
        context.lineCap = "round";
        context.beginPath();
        context.moveTo((x1 * width) / this.columns, (y1 * height) / this.rows);
        context.lineTo((x2 * width) / this.columns, (y2 * height) / this.rows);
        context.stroke();
      }
      for (const { state, token: k } of marks) this.mark(context, this.patches.indexOf(k), String(state + 1));
    } else if (shown.values) {
      context.globalAlpha = this.picture === null ? 1 : over;
      context.drawImage(heat(on(shown.values), this.rows, this.columns, shown.most, shown.least), 0, 0, width, height);
      context.globalAlpha = 1;
    }
    for (const k in this.header.sinks) this.frame(context, this.patches.indexOf(Number(k)), SINK, 2, DASHES);
    if (shown.start !== null) this.frame(context, this.patches.indexOf(shown.start), "#ffffff", 2.5);
    if (shown.probe !== null) this.frame(context, this.patches.indexOf(shown.probe), "#8fd3ff", 2);
    this.canvas.setAttribute("aria-label", description);
    this.starts.hidden = !this.chips.length || shown.start === null;
    this.chips.forEach((chip, k) => chip.setAttribute("aria-pressed", String(this.others[k] === shown.start)));
  }

  cell(place) {
    const width = this.canvas.clientWidth / this.columns, height = this.canvas.clientHeight / this.rows;
    return [(place % this.columns) * width, Math.floor(place / this.columns) * height, width, height];
  }

  frame(context, place, colour, thickness, dashes = []) {
    if (place < 0) return;
    context.setLineDash(dashes);
    const [x, y, width, height] = this.cell(place);
    context.strokeStyle = "#000000";
    context.lineWidth = thickness + 2;
    context.strokeRect(x, y, width, height);
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    context.strokeRect(x, y, width, height);
    context.setLineDash([]);
  }

  mark(context, place, text) {
    if (place < 0) return;
    const [x, y, width, height] = this.cell(place);
    context.font = "600 15px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = "#ffffff";
    context.strokeText(text, x + width / 2, y + height / 2);
    context.fillStyle = "#000000";
    context.fillText(text, x + width / 2, y + height / 2);
  }
}
