import { mapColour } from "./colours.js";
import { prepared, token } from "./element.js";

/** A canvas of this size on the page, ready to be drawn on. */
export function sized(canvas, width, height) {
  canvas.style.setProperty("height", `${height}px`);
  return prepared(canvas, width, height);
}

/** Values as bars on a canvas, the greatest of those that share a pixel. */
export function bars(canvas, values, width, height) {
  const context = sized(canvas, width, height);
  context.fillStyle = token(canvas, "--fill");
  context.fillRect(0, 0, width, height);
  context.fillStyle = token(canvas, "--soft");
  paintBars(context, values, 0, 0, width, height);
}

export function paintBars(context, values, x, y, width, height) {
  const places = Math.min(values.length, Math.max(1, Math.floor(width / 2)));
  const tops = new Float64Array(places);
  values.forEach((value, k) => {
    const at = Math.floor((k * places) / values.length);
    tops[at] = Math.max(tops[at], value);
  });
  const most = tops.reduce((a, b) => Math.max(a, b), 0);
  if (!(most > 0)) return;
  const step = width / places, gap = step > 3 ? 1 : 0;
  tops.forEach((top, k) => {
    const tall = (height * top) / most;
    context.fillRect(x + k * step, y + height - tall, step - gap, tall);
  });
}

/** A small canvas of values on a grid, one pixel each, in the colours of a map. */
export function heat(values, rows, columns, most, least = 0) {
  const pixels = new ImageData(columns, rows);
  for (let k = 0; k < rows * columns; k++) {
    const [r, g, b] = mapColour(most > least ? (values[k] - least) / (most - least) : 0);
    pixels.data.set([r, g, b, 255], 4 * k);
  }
  return painted(pixels);
}

/** The sides of patches where another state begins, drawn a little inside of the patch: ends in patches, and the state. */
export function outlines(states, rows, columns) {
  const lines = [], inset = 0.06;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const state = states[row * columns + column];
      if (state < 0) continue;
      const other = (r, c) => r < 0 || c < 0 || r >= rows || c >= columns || states[r * columns + c] !== state;
      const left = column + inset, right = column + 1 - inset, top = row + inset, bottom = row + 1 - inset;
      const [above, below, before, after] = [other(row - 1, column), other(row + 1, column), other(row, column - 1), other(row, column + 1)];
      const x1 = before ? left : column, x2 = after ? right : column + 1, y1 = above ? top : row, y2 = below ? bottom : row + 1;
      if (above) lines.push({ state, x1, y1: top, x2, y2: top });
      if (below) lines.push({ state, x1, y1: bottom, x2, y2: bottom });
      if (before) lines.push({ state, x1: left, y1, x2: left, y2 });
      if (after) lines.push({ state, x1: right, y1, x2: right, y2 });
    }
  }
  return lines;
}

function painted(pixels) {
  const canvas = document.createElement("canvas");
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
