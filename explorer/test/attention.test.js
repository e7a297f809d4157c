import assert from "node:assert/strict";
import { test } from "node:test";
import { Attention } from "../src/attention.js";

const near = (found, wanted) => {
  assert.equal(found.length, wanted.length);
  [...found].forEach((value, k) => assert.ok(Math.abs(value - wanted[k]) < 1e-6, `${[...found]} is not ${wanted}`));
};
const header = {
  labels: ["a", "b"],
  states: [0, 1],
  outside: [],
  layers: [{ name: "0", heads: 2 }, { name: "1", heads: 1 }],
  depths: [0, 1],
  causal: false,
  contributions: { what: "means", kept: 0, levels: 255 },
  weightings: ["mean", "lambda2", "inverse-lambda2"],
  maps: { what: "heads", kept: 0, levels: 255 },
};
const arrays = {
  lambda2: Float32Array.of(0.9, 0.3, 0.5),
  vectors: Uint8Array.of(1, 1, 1, 2, 2, 1),
  outside: new Float32Array(0),
  // squares 1 : 1, 1 : 3 and so on, rows on scales of their own
  maps: Uint8Array.of(255, 255, 0, 100, 200, 0, 50, 50, 0, 9, 9, 0),
  "contributions.maps": Uint8Array.of(1, 1, 0, 1, 1, 0, 0, 1),
  "contributions.outside": new Float32Array(0),
  targets: Uint8Array.of(0, 7, 7, 0),
};
const choice = { maps: "attention", layers: null, depth: "even", heads: "mean", head: null, target: null, direction: "incoming" };
const chain = (changes, of = new Attention(header, arrays)) => of.chain({ ...choice, ...changes });

test("the mean of heads within layers, then of layers", () => {
  near(chain({}).matrix, [(0.75 + 0) / 2, (0.25 + 1) / 2, (0.25 + 1) / 2, (0.75 + 0) / 2]);
});

test("heads are weighted by λ₂ or by its complement", () => {
  near(chain({ heads: "lambda2", layers: [0, 0] }).matrix, [0.75 * 0.5 + 0.25, 0.75 * 0.5, 0.25 * 0.5, 0.75 + 0.25 * 0.5]);
  near(new Attention(header, arrays).weights(0, "inverse-lambda2"), [0.1 / 0.8, 0.7 / 0.8]);
});

test("one head, and one class", () => {
  near(chain({ heads: "one", head: [1, 0] }).matrix, [0, 1, 1, 0]);
  near(chain({ target: 0 }).matrix, [0, 1, 1, 0]);
});

test("weights that are all zero count the same", () => {
  const still = new Attention(header, { ...arrays, lambda2: Float32Array.of(0, 0, 0) });
  near(still.weights(0, "lambda2"), [0.5, 0.5]);
});

test("largest entries, and the rest spread evenly", () => {
  const sparse = new Attention(
    { ...header, maps: { what: "all", kept: 1 } },
    { ...arrays, places: Uint16Array.of(0, 1), values: Uint8Array.of(255, 255), kept: Float32Array.of(0.7, 0.6) },
  );
  near(chain({}, sparse).matrix, [0.7, 0.3, 0.4, 0.6]);
  assert.match(sparse.missing({ ...choice, layers: [0, 0] }), /single layers/);
  assert.match(sparse.missing({ ...choice, heads: "one", head: [0, 0] }), /single heads/);
  assert.equal(chain({ layers: [0, 0] }, sparse), null);
});

test("layers count by their depth, one layer by itself in full", () => {
  near(chain({ depth: "late" }).matrix, [0, 1, 1, 0]);
  near(chain({ depth: "late", layers: [0, 0] }).matrix, [0.75, 0.25, 0.25, 0.75]);
});

test("contributions have one map a layer, whatever heads are chosen", () => {
  near(chain({ maps: "contributions", heads: "lambda2" }).matrix, [0.75, 0.25, 0, 1]);
  near(chain({ maps: "contributions", layers: [1, 1] }).matrix, [1, 0, 0, 1]);
});

test("a stationary vector is read from its codes", () => {
  near(new Attention(header, arrays).vector(1), [0.2, 0.8]);
});
