import { css } from "./colours.js";
import { breakable, element, prepared, token } from "./element.js";
import { bars, heat, sized } from "./raster.js";
import { number } from "./words.js";

/** Colours of curves, told apart in grey too; dashes tell them apart once more. */
const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];

/** Methods side by side, each with its scores and its perturbation curve. */
export class MethodsView {
  constructor(header, arrays, told) {
    this.header = header;
    const n = header.labels.length;
    this.methods = header.methods.map(({ name, curve }, k) => {
      const values = arrays.methods.subarray(k * n, (k + 1) * n);
      return { name, curve, values, area: curve === null ? null : area(curve) };
    });
    this.figures = this.methods.map(({ name, area }, k) =>
      element(
        "button",
        {
          class: "method",
          type: "button",
          title: `Show the scores of ${name} above`,
          on: { click: () => told.select(k), pointerenter: () => this.point(k), pointerleave: () => this.point(null) },
        },
        element("canvas", { "aria-hidden": "true" }),
        element("i"),
        element("span", { class: "told" }, element("b", {}, breakable(name)), area === null ? null : `area ${number(area)}`),
      ),
    );
    this.curves = element("canvas", { class: "curves", role: "img" });
    this.curves.setAttribute("aria-label", this.described());
    this.pointed = null;
    const what = header.grid === null ? "tokens" : "patches";
    const drawn = this.methods.some(({ curve }) => curve !== null);
    this.node = element(
      "div",
      { class: "methods" },
      element("div", { class: "maps" }, this.figures),
      drawn
        ? element(
            "div",
            { class: "plot" },
            this.curves,
            element("p", { class: "caption" }, `Probability of the class as the ${what} that a method ranks highest are taken out first. A smaller area is better.`),
          )
        : null,
    );
  }

  described() {
    const areas = this.methods.filter(({ area }) => area !== null).map(({ name, area }) => `${name} ${number(area)}`);
    return `Deletion curves; areas: ${areas.join(", ")}`;
  }

  point(k) {
    this.pointed = k;
    this.drawCurves();
  }

  draw(dark, selected) {
    this.dark = dark;
    this.figures.forEach((figure, k) => figure.setAttribute("aria-pressed", String(k === selected)));
    const { header } = this;
    const patches = header.roles.flatMap((role, k) => (role === "patch" ? [k] : []));
    this.figures.forEach((figure, k) => {
      const canvas = figure.firstChild, { values } = this.methods[k];
      const width = canvas.clientWidth;
      if (!width) return;
      if (header.grid === null) return bars(canvas, values, width, 36);
      const [rows, columns] = header.grid;
      const least = Math.min(0, ...values), shown = patches.map((at) => values[at] - least);
      const context = sized(canvas, width, (width * rows) / columns);
      context.imageSmoothingEnabled = false;
      context.drawImage(heat(shown, rows, columns, Math.max(...shown)), 0, 0, width, (width * rows) / columns);
    });
    this.drawCurves();
  }

  drawCurves() {
    const { header } = this;
    const width = this.curves.clientWidth, height = this.curves.clientHeight;
    if (!width || !height) return;
    const context = prepared(this.curves, width, height);
    const left = 44, bottom = 34, top = 8, right = 8;
    const drawn = this.methods.flatMap((method, k) => (method.curve === null ? [] : [{ ...method, k }]));
    const most = Math.max(...drawn.flatMap(({ curve }) => curve.scores), 1e-9);
    const least = Math.min(0, ...drawn.flatMap(({ curve }) => curve.scores));
    const x = (fraction) => left + fraction * (width - left - right);
    const y = (score) => height - bottom - ((score - least) / (most - least)) * (height - bottom - top);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = token(this.curves, "--soft");
    context.strokeStyle = token(this.curves, "--line");
    context.lineWidth = 1;
    context.textBaseline = "middle";
    for (const share of [0, 0.5, 1]) {
      const score = least + share * (most - least);
      context.textAlign = "right";
      context.fillText(number(score), left - 6, y(score));
      context.beginPath();
      context.moveTo(left, y(score));
      context.lineTo(width - right, y(score));
      context.stroke();
      context.textAlign = share === 1 ? "right" : share === 0 ? "left" : "center";
      context.fillText(`${100 * share} %`, x(share), height - bottom + 12);
    }
    context.textAlign = "center";
    context.fillText(`${header.grid === null ? "tokens" : "patches"} taken out`, x(0.5), height - 6);
    for (const { curve, k } of drawn) {
      context.globalAlpha = this.pointed === null || this.pointed === k ? 1 : 0.2;
      context.strokeStyle = this.dark ? lighter(LINES[k % LINES.length]) : LINES[k % LINES.length];
      context.setLineDash(DASHES[Math.floor(k / LINES.length) % DASHES.length]);
      context.lineWidth = this.pointed === k ? 3 : 2;
      context.beginPath();
      curve.fractions.forEach((fraction, i) => context.lineTo(x(fraction), y(curve.scores[i])));
      context.stroke();
      this.figures[k].style.setProperty("--mark", context.strokeStyle);
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
  }
}

/** The mean height of a curve, by the trapezoidal rule. */
export function area({ fractions, scores }) {
  let sum = 0;
  for (let k = 1; k < fractions.length; k++) sum += ((fractions[k] - fractions[k - 1]) * (scores[k] + scores[k - 1])) / 2;
  return sum / (fractions.at(-1) - fractions[0]);
}

function lighter(hex) {
  const mixed = [1, 3, 5].map((at) => Math.round(0.65 * parseInt(hex.slice(at, at + 2), 16) + 0.35 * 255));
  return css(mixed);
}
