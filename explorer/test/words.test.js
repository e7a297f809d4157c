import assert from "node:assert/strict";
import { test } from "node:test";
import { css, ink, mapColour, shade } from "../src/colours.js";
import { csv } from "../src/export.js";
import { START, fromHash, toHash } from "../src/state.js";
import { greatest, number, visible } from "../src/words.js";

const header = {
  labels: Array(9).fill("x"),
  weightings: ["mean", "lambda2", "inverse-lambda2"],
  layers: [{ heads: 2 }, { heads: 3 }],
  targets: ["a"],
  methods: [],
};

test("numbers have three digits that count", () => {
  assert.deepEqual([0, 0.123456, 1, 0.000123].map(number), ["0", "0.123", "1", "1.2e-4"]);
});

test("every character of a token is seen", () => {
  assert.equal(visible("a\nb\0\ud800c\udc00"), "a␊b␀\\ud800c\\udc00");
  assert.equal(visible("😀"), "😀");
});

test("a link says the state, and no more than the page has is believed", () => {
  const state = { ...START, n: 21, heads: "one", head: [1, 2], layers: [0, 1], damping: 0.9, from: 4 };
  assert.deepEqual(fromHash(`#${toHash(state)}`, header), state);
  const explained = { ...START, target: 0, view: "states", theme: "dark" };
  assert.deepEqual(fromHash(toHash(explained), header), explained);
  assert.deepEqual(fromHash("#n=99&from=9&head=0.2&layers=7&damping=3&view=method&theme=<b>", header), START);
  assert.equal(toHash(START), "");
});

test("colours run from dark to light, and text on them can be read", () => {
  assert.equal(css(mapColour(0)), "#000004");
  assert.equal(css(mapColour(1)), "#fcfdbf");
  assert.deepEqual(shade(0, false), shade(1, true));
  assert.equal(ink([255, 255, 255]), "#000000");
  assert.equal(greatest([1, 3, 2]), 1);
});

test("CSV quotes what needs it", () => {
  assert.equal(csv([{ label: 'a,"b"\n', value: 0.5 }]), 'label,value\r\n"a,""b""␊",0.5\r\n');
});
