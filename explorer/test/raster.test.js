import assert from "node:assert/strict";
import { test } from "node:test";
import { outlines } from "../src/raster.js";

test("outlines run between patches of different states, and around the picture", () => {
  const lines = outlines([0, 0, 1, -1], 2, 2);
  assert.equal(lines.filter(({ state }) => state === 0).length, 6);
  assert.equal(lines.filter(({ state }) => state === 1).length, 4);
  assert.ok(lines.every(({ x1, y1, x2, y2 }) => Math.max(x1, y1, x2, y2) <= 2 && Math.min(x1, y1, x2, y2) >= 0));
});
