import { button } from "./controls.js";
import { element } from "./element.js";
import { pdf } from "./pdf.js";
import { painted, sceneOf } from "./scene.js";
import { svg } from "./svg.js";
import { INFINITE, visible } from "./words.js";

/** The menu that saves what is on screen. */
export function exportMenu(explorer) {
  const kinds = {
    PNG: () => new Promise((done) => painted(scene(explorer), 3).toBlob(done, "image/png")),
    SVG: () => new Blob([svg(scene(explorer))], { type: "image/svg+xml" }),
    PDF: () => new Blob([pdf(scene(explorer), pictured)], { type: "application/pdf" }),
    CSV: () => new Blob([csv(table(explorer))], { type: "text/csv" }),
    JSON: () => new Blob([JSON.stringify(record(explorer), null, 1)], { type: "application/json" }),
  };
  const buttons = Object.entries(kinds).map(([kind, make]) =>
    button(kind, async () => save(await make(), `${stem(explorer)}.${kind.toLowerCase()}`), { class: "export", title: `Save what is shown as ${kind}` }),
  );
  return element("div", { class: "exports", role: "group", "aria-label": "Save what is shown" }, element("span", {}, "Save as"), buttons);
}

const scene = (explorer) => sceneOf(explorer, explorer.readout.sentence({ ...explorer.current, probe: null }));

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function stem({ header, state }) {
  const what = state.view === "bounce" ? `bounce-${state.n === INFINITE ? "infinity" : state.n}` : state.view;
  return `${header.title.replace(/[^0-9A-Za-z]+/g, "-").replace(/^-|-$/g, "") || "attention"}-${what}`;
}

/** One row for each token. */
export function table({ header, current }) {
  const { regions, values } = current;
  return header.labels.map((label, k) => ({
    token: k,
    label,
    role: header.roles[k],
    ...(regions ? { state: regions.states[k] + 1, share: regions.shares[k] } : {}),
    ...(values ? { value: values[k] } : {}),
  }));
}

/** RFC 4180, with the label as it can be seen. */
export function csv(rows) {
  const cell = (value) => {
    const text = typeof value === "string" ? visible(value) : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const names = Object.keys(rows[0]);
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function record(explorer) {
  const { header, state, current } = explorer;
  const { over, theme, ...choices } = state;
  return {
    title: header.title,
    shown: current.title,
    choices: { ...choices, n: state.n === INFINITE ? "infinity" : state.n, target: header.targets[state.target] ?? null },
    greatest_error: header.maps.error,
    tokens: table(explorer),
  };
}

/** A text that a PDF's own font cannot write, as a picture on the colour behind it. */
function pictured({ text, size, fill, behind }) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const font = `${size * 4}px Helvetica, Arial, sans-serif`;
  context.font = font;
  const width = Math.max(1, Math.ceil(context.measureText(text).width)), height = Math.ceil(size * 4 * 1.3);
  canvas.width = width;
  canvas.height = height;
  context.fillStyle = behind;
  context.fillRect(0, 0, width, height);
  context.font = font;
  context.fillStyle = fill;
  context.fillText(text, 0, size * 4);
  return { canvas, width: width / 4, height: height / 4, rise: size };
}
