/** Builds what the Python package ships: one script for page and widget. The same sources give the same bytes. */
import { build } from "esbuild";

const out = process.argv[2] ?? "../attnchain_interp/explorer/assets";

await build({
  entryPoints: { page: "src/index.js" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "attnchain",
  target: "es2022",
  charset: "ascii",
  loader: { ".css": "text" },
  legalComments: "none",
});
