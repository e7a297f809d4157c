import { css, DASHES, ink, mapColour, REGIONS, shade, SINK } from "./colours.js";
import { outlines } from "./raster.js";
import { number, share, visible } from "./words.js";

const WIDTH = 480, MARGIN = 16, FONT = "Helvetica, Arial, sans-serif";

/**
 * What is on screen as a figure: rectangles, frames, some of them dashed, texts and at most one picture, on white, which every kind of file is
 * written from.
 *
 * @returns {{width: number, height: number, items: Object[]}}
 */
export function sceneOf({ header, view, current, state }, sentence) {
  const scene = { width: WIDTH + 2 * MARGIN, height: 0, items: [] };
  const body = header.grid === null ? tokens(scene, header, view, current) : patches(scene, header, view, current, state);
  let y = body + 14;
  if (current.values) y = bar(scene, header, current, y);
  if (current.regions) y = key(scene, current.regions.weights, y);
  for (const line of wrapped(sentence, 11, WIDTH)) {
    scene.items.push({ kind: "text", x: MARGIN, y: y + 9, size: 11, text: line, fill: "#222222", behind: "#ffffff" });
    y += 15;
  }
  scene.height = Math.ceil(y + MARGIN - 6);
  return scene;
}

function patches(scene, header, view, shown, { over }) {
  const [rows, columns] = header.grid;
  const side = Math.max(1, Math.floor(WIDTH / columns)), height = side * rows; // whole, so that no seam is seen between patches
  const opacity = view.picture === null ? 1 : over, sinks = [];
  if (view.picture !== null) {
    scene.items.push({ kind: "picture", x: MARGIN, y: MARGIN, width: side * columns, height, canvas: shown.values ? grey(view.picture) : plain(view.picture) });
  }
  view.patches.forEach((k, place) => {
    const at = { x: MARGIN + (place % columns) * side, y: MARGIN + Math.floor(place / columns) * side };
    const rect = { kind: "rect", ...at, width: side, height: side };
    if (shown.values) {
      scene.items.push({ ...rect, fill: css(mapColour(share(shown, k))), opacity });
    }
    const frame = { kind: "frame", ...at, width: side, height: side };
    if (k === shown.start) scene.frame = frame;
    if (k in header.sinks) sinks.push({ ...frame, stroke: SINK, thickness: 2, dashes: DASHES });
  });
  scene.items.push(...sinks);
  if (scene.frame) scene.items.push({ ...scene.frame, stroke: "#000000", thickness: 4 }, { ...scene.frame, stroke: "#ffffff", thickness: 2 });
  const states = view.patches.map((k) => shown.regions?.states[k] ?? -1);
  for (const { state, x1, y1, x2, y2 } of outlines(states, rows, columns)) {
    const fill = REGIONS[state % REGIONS.length], at = { x: MARGIN + x1 * side, y: MARGIN + y1 * side };
    scene.items.push({ kind: "rect", x: at.x - 1, y: at.y - 1, width: (x2 - x1) * side + 2, height: (y2 - y1) * side + 2, fill, opacity: 1 });
  }
  for (const { state, token } of shown.regions?.marks ?? []) {
    const place = view.patches.indexOf(token);
    if (place < 0) continue;
    const x = MARGIN + ((place % columns) + 0.35) * side, y = MARGIN + (Math.floor(place / columns) + 0.5) * side + 5;
    scene.items.push({ kind: "text", x, y, size: 14, text: String(state + 1), fill: "#000000", behind: "#ffffff" });
  }
  return MARGIN + height;
}

function tokens(scene, header, view, shown) {
  const size = 12, line = 24;
  let x = MARGIN, y = MARGIN;
  view.texts.forEach((given, k) => {
    const state = shown.regions?.states[k] ?? -1, label = visible(given.trim() || given);
    const text = state >= 0 ? `${label} ${state + 1}` : label, width = Math.min(WIDTH, measured(text, size)) + 8;
    if (x + width > MARGIN + WIDTH && x > MARGIN) [x, y] = [MARGIN, y + line];
    let fill = "#ffffff";
    if (state >= 0) fill = REGIONS[state % REGIONS.length];
    else if (shown.values) fill = css(shade(share(shown, k), false));
    scene.items.push({ kind: "rect", x, y, width, height: line - 4, fill, opacity: 1 });
    if (k === shown.start) scene.items.push({ kind: "frame", x, y, width, height: line - 4, stroke: "#1f5fbf", thickness: 2 });
    if (k in header.sinks) scene.items.push({ kind: "frame", x, y, width, height: line - 4, stroke: SINK, thickness: 1.5, dashes: DASHES });
    const dark = [1, 3, 5].map((at) => parseInt(fill.slice(at, at + 2), 16));
    scene.items.push({ kind: "text", x: x + 4, y: y + 14, size, text, fill: ink(dark), behind: fill });
    x += width + 3;
  });
  return y + line;
}

function bar(scene, header, shown, y) {
  const colour = header.grid === null ? (share) => shade(share, false) : mapColour;
  const text = { kind: "text", y: y + 9, size: 11, fill: "#555555", behind: "#ffffff" };
  scene.items.push({ ...text, x: MARGIN, text: number(shown.least) }, { ...text, x: MARGIN + 208, text: `${number(shown.most)}${shown.clipped ? " and more" : ""}` });
  for (let k = 0; k < 64; k++) {
    scene.items.push({ kind: "rect", x: MARGIN + 42 + 2.5 * k, y, width: 2.6, height: 10, fill: css(colour(k / 63)), opacity: 1 });
  }
  return y + 22;
}

function key(scene, weights, y) {
  weights.forEach((weight, k) => {
    const x = MARGIN + (k % 6) * 80, row = y + Math.floor(k / 6) * 16;
    scene.items.push({ kind: "rect", x, y: row, width: 10, height: 10, fill: REGIONS[k % REGIONS.length], opacity: 1 });
    const text = `${k + 1}: ${(100 * weight).toFixed(1)} %`;
    scene.items.push({ kind: "text", x: x + 15, y: row + 9, size: 11, text, fill: "#555555", behind: "#ffffff" });
  });
  return y + Math.ceil(weights.length / 6) * 16 + 6;
}

/** The picture as it is seen under a map. */
const grey = (picture) => plain(picture, "grayscale(1)");

function plain(picture, filter = "none") {
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d");
  context.filter = filter;
  context.drawImage(picture, 0, 0);
  return canvas;
}

const ruler = () => (ruler.context ??= document.createElement("canvas").getContext("2d"));

function measured(text, size) {
  ruler().font = `${size}px ${FONT}`;
  return ruler().measureText(text).width;
}

function wrapped(text, size, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) === "" ? word : `${lines.at(-1)} ${word}`;
    if (lines.at(-1) !== "" && measured(longer, size) > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

/** The scene painted on a new canvas, `scale` pixels to a unit. */
export function painted({ width, height, items }, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, height);
  for (const item of items) {
    context.globalAlpha = item.opacity ?? 1;
    if (item.kind === "picture") context.drawImage(item.canvas, item.x, item.y, item.width, item.height);
    else if (item.kind === "text") {
      context.fillStyle = item.fill;
      context.font = `${item.size}px ${FONT}`;
      context.fillText(item.text, item.x, item.y);
    } else if (item.kind === "rect") {
      context.fillStyle = item.fill;
      context.fillRect(item.x, item.y, item.width, item.height);
    } else {
      context.strokeStyle = item.stroke;
      context.lineWidth = item.thickness;
      context.setLineDash(item.dashes ?? []);
      context.strokeRect(item.x, item.y, item.width, item.height);
    }
  }
  return canvas;
}
