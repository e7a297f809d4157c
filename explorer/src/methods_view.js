import { css } from "./colours.js";
import { element, prepared, token } from "./element.js";
import { heat } from "./raster.js";
import { number } from "./words.js";

/** Colours of curves, told apart in grey too; dashes tell them apart once more. */
const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];

/** Methods side by side, each with its scores and its perturbation curve. */
export class MethodsView {
  constructor(header, arrays, told) {
    this.header = header;
    const n = header.labels.length;
    const patches = header.roles.flatMap((role, k) => (role === "patch" ? [k] : []));
    this.methods = header.methods.map(({ name, curve }, k) => {
      const values = arrays.methods.subarray(k * n, (k + 1) * n);
      const low = header.grid === null ? 0 : Math.min(...patches.map((at) => values[at]));
      return { name, curve, values, low: Math.min(low, 0), area: curve === null ? null : area(curve) };
    });
    this.figures = this.methods.map(({ name, values, area }, k) => {
      const canvas = header.grid === null ? null : element("canvas", { role: "img", "aria-label": `${name}, its map` });
      const line = header.grid === null ? element("canvas", { class: "strip", role: "img", "aria-label": `${name}, its scores` }) : null;
      return element(
        "figure",
        { class: "method", on: { pointerenter: () => this.point(k), pointerleave: () => this.point(null) } },
        canvas ?? line,
        element("figcaption", {}, element("b", {}, name), area === null ? null : element("span", {}, `area ${number(area)}`)),
      );
    });
    this.curves = element("canvas", { class: "curves", role: "img" });
    this.curves.setAttribute("aria-label", this.described());
    this.pointed = null;
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
            element("p", { class: "caption" }, "Score of the class as the patches a method ranks highest are taken out first. Lower is better."),
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

  draw(dark) {
    this.dark = dark;
    const { header } = this;
    const patches = header.roles.flatMap((role, k) => (role === "patch" ? [k] : []));
    this.figures.forEach((figure, k) => {
      const canvas = figure.firstChild, { values } = this.methods[k];
      const shown = header.grid === null ? [...values] : patches.map((at) => values[at]);
      const least = Math.min(0, ...shown), moved = shown.map((value) => value - least);
      const most = Math.max(...moved), width = canvas.clientWidth;
      if (!width) return;
      const [rows, columns] = header.grid ?? [1, shown.length];
      const height = header.grid === null ? 28 : (width * rows) / columns;
      canvas.style.setProperty("height", `${height}px`);
      const context = prepared(canvas, width, height);
      context.imageSmoothingEnabled = false;
      context.drawImage(heat(moved, rows, columns, most), 0, 0, width, height);
    });
    this.drawCurves();
  }

  drawCurves() {
    const width = this.curves.clientWidth, height = this.curves.clientHeight;
    if (!width || !height) return;
    const context = prepared(this.curves, width, height);
    const left = 36, bottom = 34, top = 8, right = 8;
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
    context.fillText("patches removed", x(0.5), height - 6);
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
