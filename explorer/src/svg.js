const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escaped = (text) => text.replace(/[&<>"]/g, (c) => ESCAPES[c]);
const short = (value) => String(Number(value.toFixed(3)));

/** The SVG of a scene; text stays text. */
export function svg({ width, height, items }) {
  const place = ({ x, y, width: w, height: h }) => `x="${short(x)}" y="${short(y)}" width="${short(w)}" height="${short(h)}"`;
  const drawn = items.map((item) => {
    switch (item.kind) {
      case "picture":
        return `<image ${place(item)} preserveAspectRatio="none" href="${item.canvas.toDataURL("image/png")}"/>`;
      case "text":
        return `<text x="${short(item.x)}" y="${short(item.y)}" font-size="${item.size}" fill="${item.fill}" xml:space="preserve">${escaped(item.text)}</text>`;
      case "rect":
        return `<rect ${place(item)} fill="${item.fill}"${item.opacity < 1 ? ` fill-opacity="${short(item.opacity)}"` : ""}/>`;
      default:
        return `<rect ${place(item)} fill="none" stroke="${item.stroke}" stroke-width="${item.thickness}"${item.dashes ? ` stroke-dasharray="${item.dashes.join(" ")}"` : ""}/>`;
    }
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"` +
    ` font-family="Helvetica, Arial, sans-serif">\n<rect width="100%" height="100%" fill="#ffffff"/>\n${drawn.join("\n")}\n</svg>\n`
  );
}
