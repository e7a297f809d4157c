import { mapColour, REGIONS } from "./colours.js";
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

/** A small canvas of regions: the colour of each patch's first, the stronger the more it belongs there. */
export function territory(states, shares, rows, columns) {
  const pixels = new ImageData(columns, rows);
  for (let k = 0; k < rows * columns; k++) {
    if (states[k] < 0) continue;
    const colour = REGIONS[states[k] % REGIONS.length];
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    pixels.data.set([r, g, b, Math.round(255 * (0.15 + 0.7 * shares[k]))], 4 * k);
  }
  return painted(pixels);
}

function painted(pixels) {
  const canvas = document.createElement("canvas");
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
