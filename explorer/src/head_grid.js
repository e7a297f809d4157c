import { css, shade } from "./colours.js";
import { element, prepared, token } from "./element.js";
import { heat, paintBars } from "./raster.js";
import { number } from "./words.js";

const LEFT = 26, TOP = 18;
const CHOSEN = "#e69f00"; // no colour of the frames

/** Layers × heads: each head's own TokenRank, in a frame of its |λ₂|. */
export class HeadGrid {
  constructor(attention, told) {
    this.attention = attention;
    this.told = told;
    const { layers } = attention.header;
    this.rows = layers.length;
    this.columns = Math.max(...layers.map(({ heads }) => heads));
    this.probe = null;
    this.canvas = element("canvas", {
      class: "heads",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "grid of heads",
      on: {
        pointermove: (event) => this.point(this.at(event)),
        pointerleave: () => this.point(null),
        click: (event) => this.select(this.at(event)),
        keydown: (event) => this.key(event),
      },
    });
    this.caption = element("p", { class: "caption", "aria-live": "polite" });
    this.node = element("div", { class: "scroll" }, this.canvas);
    this.pictures = attention.heads.map((_, place) => this.picture(place));
  }

  /** A small canvas of a head's stationary vector on the image grid; null where there is none. */
  picture(place) {
    const { header, states } = this.attention;
    if (header.grid === null) return null;
    const values = this.attention.vector(place);
    const whole = new Float32Array(header.labels.length);
    states.forEach((k, j) => (whole[k] = values[j]));
    const patches = header.roles.flatMap((role, k) => (role === "patch" ? [whole[k]] : []));
    return heat(patches, ...header.grid, values.reduce((a, b) => Math.max(a, b), 0));
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const head = Math.floor((event.clientX - box.left - LEFT) / this.side);
    const layer = Math.floor((event.clientY - box.top - TOP) / this.side);
    return this.attention.place(layer, head) < 0 ? null : [layer, head];
  }

  point(one) {
    if (String(one) === String(this.probe)) return;
    this.probe = one;
    this.describe();
  }

  select(one) {
    if (one !== null) this.told.select(String(one) === String(this.selected) ? null : one);
  }

  key(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Escape") this.told.select(null);
    else if (event.key in steps) {
      const [layer, head] = this.selected ?? [0, 0];
      const next = this.selected === null ? [0, 0] : [layer + steps[event.key][0], head + steps[event.key][1]];
      if (this.attention.place(...next) >= 0) this.told.select((this.selected = next));
    } else return;
    event.preventDefault();
  }

  describe() {
    const one = this.probe ?? this.selected;
    if (one === null) {
      this.caption.textContent = "Each cell is a head's own TokenRank; its frame is |λ₂|. Choose one to walk on it alone.";
      return;
    }
    const second = this.attention.arrays.lambda2[this.attention.place(...one)];
    this.caption.textContent = `${this.attention.header.layers[one[0]].name}, head ${one[1]}: |λ₂| = ${number(second)}`;
  }

  draw(selected, dark) {
    this.selected = selected;
    const room = this.node.clientWidth - LEFT;
    this.side = Math.max(14, Math.min(64, Math.floor(room / this.columns)));
    const width = LEFT + this.side * this.columns, height = TOP + this.side * this.rows;
    this.canvas.style.setProperty("width", `${width}px`);
    this.canvas.style.setProperty("height", `${height}px`);
    const context = prepared(this.canvas, width, height);
    const soft = token(this.canvas, "--soft"), fill = token(this.canvas, "--paper");
    context.fillStyle = soft;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    const every = Math.ceil(18 / this.side);
    for (let head = 0; head < this.columns; head += every) {
      context.fillText(String(head), LEFT + (head + 0.5) * this.side, TOP / 2 - 1);
    }
    context.textAlign = "right";
    for (let layer = 0; layer < this.rows; layer += every) {
      context.fillText(String(layer), LEFT - 8, TOP + (layer + 0.5) * this.side);
    }
    context.imageSmoothingEnabled = false;
    this.attention.heads.forEach(({ layer, head }, place) => {
      const x = LEFT + head * this.side, y = TOP + layer * this.side;
      const frame = Math.max(2, Math.round(this.side / 12)), gap = this.side > 24 ? 2 : 1;
      context.fillStyle = css(shade(this.attention.arrays.lambda2[place], dark));
      context.fillRect(x + gap, y + gap, this.side - 2 * gap, this.side - 2 * gap);
      const inner = this.side - 2 * (gap + frame);
      const picture = this.pictures[place], [left, top] = [x + gap + frame, y + gap + frame];
      if (picture !== null) context.drawImage(picture, left, top, inner, inner);
      else {
        context.fillStyle = fill;
        context.fillRect(left, top, inner, inner);
        context.fillStyle = soft;
        paintBars(context, this.attention.vector(place), left, top + 1, inner, inner - 1);
      }
    });
    if (selected !== null) {
      const [layer, head] = selected;
      context.strokeStyle = CHOSEN;
      context.lineWidth = 4;
      context.strokeRect(LEFT + head * this.side + 1, TOP + layer * this.side + 1, this.side - 2, this.side - 2);
    }
    const label = selected === null ? "no head chosen" : `layer ${selected[0]}, head ${selected[1]} chosen`;
    this.canvas.setAttribute("aria-label", `${this.rows} layers by ${this.columns} heads; ${label}`);
    this.describe();
  }
}
