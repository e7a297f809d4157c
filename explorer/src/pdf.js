/**
 * The PDF of a scene, one page: rectangles and Latin text as vectors, the picture as JPEG. Text that Helvetica's Latin
 * characters cannot write is drawn as a small picture of itself.
 *
 * @param {(item: Object) => {canvas: HTMLCanvasElement, width: number, height: number, rise: number}} pictured draws a text.
 */
export function pdf({ width, height, items }, pictured) {
  const objects = [], pictures = [], alphas = [], content = [];
  const colour = (hex) => [1, 3, 5].map((at) => (parseInt(hex.slice(at, at + 2), 16) / 255).toFixed(3)).join(" ");
  const place = ({ x, y, width: w, height: h }) => [x, height - y - h, w, h].map((value) => value.toFixed(2)).join(" ");
  const draw = (canvas, x, y, w, h) => {
    pictures.push(jpeg(canvas));
    content.push(`q ${w.toFixed(2)} 0 0 ${h.toFixed(2)} ${x.toFixed(2)} ${(height - y - h).toFixed(2)} cm /I${pictures.length - 1} Do Q`);
  };
  for (const item of items) {
    if (item.kind === "picture") draw(item.canvas, item.x, item.y, item.width, item.height);
    else if (item.kind === "rect") {
      const alpha = item.opacity.toFixed(3);
      if (!alphas.includes(alpha)) alphas.push(alpha);
      content.push(`/G${alphas.indexOf(alpha)} gs ${colour(item.fill)} rg ${place(item)} re f`);
    } else if (item.kind === "frame") content.push(`${colour(item.stroke)} RG ${item.thickness} w [${(item.dashes ?? []).join(" ")}] 0 d ${place(item)} re S`);
    else if (/^[\x20-\x7e\xa0-\xff]*$/.test(item.text)) {
      const text = item.text.replace(/[\\()]/g, "\\$&");
      content.push(`/G${opaque(alphas)} gs BT ${colour(item.fill)} rg /F ${item.size} Tf ${item.x.toFixed(2)} ${(height - item.y).toFixed(2)} Td (${text}) Tj ET`);
    } else {
      const { canvas, width: w, height: h, rise } = pictured(item);
      draw(canvas, item.x, item.y - rise, w, h);
    }
  }
  const font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>";
  const first = 5;
  const named = (letter, several, offset) => several.map((_, k) => `/${letter}${k} ${first + offset + k} 0 R`).join(" ");
  const resources =
    `<< /Font << /F 4 0 R >> /XObject << ${named("I", pictures, 1)} >>` +
    ` /ExtGState << ${alphas.map((alpha, k) => `/G${k} << /ca ${alpha} >>`).join(" ")} >> >>`;
  objects.push("<< /Type /Catalog /Pages 2 0 R >>");
  objects.push("<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
  objects.push(`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${width} ${height}] /Contents ${first} 0 R /Resources ${resources} >>`);
  objects.push(font, stream("", content.join("\n")));
  for (const { data, width: w, height: h } of pictures) {
    const kind = `/Type /XObject /Subtype /Image /Width ${w} /Height ${h} /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode`;
    objects.push(stream(kind, data));
  }
  return written(objects);
}

function opaque(alphas) {
  if (!alphas.includes("1.000")) alphas.push("1.000");
  return alphas.indexOf("1.000");
}

const stream = (kind, data) => `<< ${kind} /Length ${data.length} >>\nstream\n${data}\nendstream`;

/** The file, every character a byte. */
function written(objects) {
  let text = "%PDF-1.4\n%\xe2\xe3\xcf\xd3\n";
  const offsets = objects.map((body, k) => {
    const at = text.length;
    text += `${k + 1} 0 obj\n${body}\nendobj\n`;
    return at;
  });
  const table = offsets.map((at) => `${String(at).padStart(10, "0")} 00000 n \n`).join("");
  const end = text.length;
  text += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${table}`;
  text += `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${end}\n%%EOF\n`;
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

const jpeg = (canvas) => ({
  data: atob(canvas.toDataURL("image/jpeg", 0.95).split(",")[1]),
  width: canvas.width,
  height: canvas.height,
});
