import assert from "node:assert/strict";
import { test } from "node:test";
import { squared, unpacked } from "../src/payload.js";

test("two codes of a byte, in rows of odd length", () => {
  assert.deepEqual([...unpacked(Uint8Array.of(0x12, 0x30, 0x45, 0x60), 3)], [1, 2, 3, 4, 5, 6]);
});

test("lower triangles of square maps, column after column", () => {
  assert.deepEqual([...squared(Uint8Array.of(1, 2, 3, 4, 5, 6), 2)], [1, 0, 2, 3, 4, 0, 5, 6]);
});
