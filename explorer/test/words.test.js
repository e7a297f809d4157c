import assert from "node:assert/strict";
import { test } from "node:test";
import { css, ink, mapColour, shade } from "../src/colours.js";
import { csv } from "../src/export.js";
import { firstChoices, fromHash, toHash } from "../src/state.js";
import { Readout } from "../src/readout.js";
import { found, greatest, number, spelled, visible } from "../src/words.js";

const header = {
  labels: Array(9).fill("x"),
  weightings: ["mean", "lambda2", "inverse-lambda2"],
  layers: [{ heads: 2 }, { heads: 3 }],
  targets: ["a"],
  methods: [],
  contributions: null,
  outputs: [7, 8],
  first: { from: 3, maps: "balanced", layers: null, depth: "late", output: null },
};

test("numbers have three digits that count", () => {
  assert.deepEqual([0, 0.123456, 1, 0.000123].map(number), ["0", "0.123", "1", "1.2e-4"]);
});

test("every character of a token is seen", () => {
  assert.equal(visible("a\nb\0\ud800c\udc00"), "a␊b␀\\ud800c\\udc00");
  assert.equal(visible("😀"), "😀");
  assert.equal(visible("\u202ea\u2067"), "\\u202ea\\u2067", "nothing turns what stands after it");
});

test("a token that is read from the right does not turn the number after it", () => {
  const label = (text) => Readout.prototype.label.call({ header: { labels: [text], grid: null }, texts: [text] }, 0);
  assert.deepEqual([label("one"), label(" שלום"), label("ok.مرحبا")], ["“one”", "“\u2068שלום\u2069”", "“\u2068ok.مرحبا\u2069”"]);
});

test("a link says the state, and no more than the page has is believed", () => {
  const first = firstChoices(header);
  const state = { ...first, n: 21, heads: "one", head: [1, 2], layers: [1, 1], damping: 0.9, from: 4 };
  assert.deepEqual(fromHash(`#${toHash(state, header)}`, header), state);
  const output = { ...first, maps: "attention", depth: "even", output: 8, from: 7 };
  assert.deepEqual(fromHash("#maps=attention&depth=even&output=8", header), output);
  const explained = { ...first, target: 0, view: "states", theme: "dark" };
  assert.deepEqual(fromHash(toHash(explained, header), header), explained);
  assert.deepEqual(fromHash("#n=99&from=9&head=0.2&layers=7&damping=3&view=method&theme=<b>", header), first);
  assert.equal(toHash(first, header), "");
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

test("tokens are spelled as they stand in the text", () => {
  const texts = (...labels) => spelled({ labels, grid: null });
  assert.deepEqual(texts("A", "Ġb", "Ċ", "Ã", "©", "<|im_end|>"), ["A", " b", "\n", "", "é", "<|im_end|>"]);
  assert.deepEqual(texts("▁to", "ken"), [" to", "ken"]);
  assert.deepEqual(texts("un", "##til", "now"), ["un", "til", " now"]);
  assert.deepEqual(texts(" a", "b"), [" a", "b"]);
});

test("a search finds words of several tokens, in capitals too", () => {
  assert.deepEqual(found(["Al", "an", " Al", "an", "a"], "ALAN"), [[0, 1], [2, 3]]);
  assert.deepEqual(found(["a"], ""), []);
});
