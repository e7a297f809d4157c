/** Builds what the Python package ships: one script for the page. The same sources give the same bytes. */
import { build } from "esbuild";

await build({
  entryPoints: { page: "src/page.js" },
  outdir: "../attnchain_interp/explorer/assets",
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "ascii",
  loader: { ".css": "text" },
  legalComments: "none",
});
