import { mapColour, REGIONS } from "./colours.js";

/** A small canvas of values on a grid, one pixel each, in the colours of a map. */
export function heat(values, rows, columns, most) {
  const pixels = new ImageData(columns, rows);
  for (let k = 0; k < rows * columns; k++) {
    const [r, g, b] = mapColour(most > 0 ? values[k] / most : 0);
    pixels.data.set([r, g, b, 255], 4 * k);
  }
  return painted(pixels);
}

/** A small canvas of regions: the colour of each patch's first, the stronger the more it belongs there. */
export function territory(states, shares, rows, columns) {
  const pixels = new ImageData(columns, rows);
  for (let k = 0; k < rows * columns; k++) {
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
