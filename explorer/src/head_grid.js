import { css, shade } from "./colours.js";
import { element, prepared, token } from "./element.js";
import { heat, paintBars } from "./raster.js";
import { number } from "./words.js";

const LEFT = 26, TOP = 18; // pixels of the numbers beside the cells
const HIGH = 560, COMPACT = 480; // of all cells together, of an image and of a text
const ASIDE = 176, NARROW = 400; // of the enlarged head, and of a page that has it below
const CHOSEN = "#e69f00"; // no colour of the frames

/** Layers × heads in the colour of |λ₂|, of an image with each head's own TokenRank; one is enlarged beside them. */
export class HeadGrid {
  constructor(readout, told) {
    const { attention } = readout, { layers } = attention.header;
    Object.assign(this, { readout, attention, told });
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
    this.enlarged = element("canvas", { class: "enlarged", "aria-hidden": "true" });
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
    this.enlarge();
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
      this.caption.textContent = `${this.drawn ? "Each cell is a head's own TokenRank; its frame is |λ₂|." : "The colour of a head is its |λ₂|."} Point at one to enlarge it; choose one to walk on it alone.`;
      return;
    }
    const second = this.attention.arrays.lambda2[this.attention.place(...one)];
    const most = this.attention.header.grid === null ? `; its TokenRank is greatest at ${this.strongest(one).join(", ")}` : "";
    this.caption.textContent = `${this.attention.header.layers[one[0]].name}, head ${one[1]}: |λ₂| = ${number(second)}${most}`;
  }

  /** TokenRank of a head of a text, over the states; zero where jumps lead, and at attention sinks. */
  others(one) {
    const { states, header } = this.attention;
    return this.attention.vector(this.attention.place(...one)).map((value, j) => (j === header.rank.jump || states[j] in header.sinks ? 0 : value));
  }

  /** The three tokens of the greatest of these. */
  strongest(one) {
    const values = this.others(one), places = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 3);
    return places.map((j) => this.readout.label(this.attention.states[j]));
  }

  /** Draws the head that is pointed at, else the chosen one, large: its TokenRank on the image, or along the text. */
  enlarge() {
    const one = this.probe ?? this.selected, { grid } = this.attention.header;
    this.enlarged.hidden = one === null;
    if (one === null) return;
    const place = this.attention.place(...one), width = 160, height = grid === null ? 72 : Math.round((160 * grid[0]) / grid[1]);
    const context = prepared(this.enlarged, width, height);
    this.enlarged.style.cssText = `width:${width}px;height:${height}px`;
    context.imageSmoothingEnabled = false;
    if (grid !== null) context.drawImage(this.picture(place), 0, 0, width, height);
    else {
      context.fillStyle = token(this.enlarged, "--soft");
      paintBars(context, this.others(one), 0, 1, width, height - 1);
    }
  }

  draw(selected, dark) {
    this.selected = selected;
    const wide = this.node.parentNode.clientWidth, room = wide - LEFT - (wide < NARROW ? 0 : ASIDE), [tall, high] = this.attention.header.grid === null ? [24, COMPACT] : [64, HIGH];
    this.side = Math.max(6, Math.min(tall, Math.floor(room / this.columns), Math.max(14, Math.floor(high / this.rows))));
    this.drawn = this.attention.header.grid !== null && this.side >= 16; // large enough for a picture in each
    const width = LEFT + this.side * this.columns, height = TOP + this.side * this.rows;
    this.canvas.style.setProperty("width", `${width}px`);
    this.canvas.style.setProperty("height", `${height}px`);
    const context = prepared(this.canvas, width, height);
    context.fillStyle = token(this.canvas, "--soft");
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
      const frame = Math.max(2, Math.round(this.side / 12)), gap = this.side > 24 ? 2 : this.side > 9 ? 1 : 0;
      context.fillStyle = css(shade(this.attention.arrays.lambda2[place], dark));
      context.fillRect(x + gap, y + gap, this.side - 2 * gap, this.side - 2 * gap);
      if (!this.drawn) return;
      const inner = this.side - 2 * (gap + frame);
      context.drawImage(this.pictures[place], x + gap + frame, y + gap + frame, inner, inner);
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
    this.enlarge();
  }
}
