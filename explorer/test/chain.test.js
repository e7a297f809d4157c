import assert from "node:assert/strict";
import { test } from "node:test";
import { Chain } from "../src/chain.js";

const near = (found, wanted) =>
  [...found].forEach((value, k) => assert.ok(Math.abs(value - wanted[k]) < 1e-6, `${[...found]} is not ${wanted}`));
const two = new Chain(Float32Array.of(0.9, 0.1, 0.3, 0.7), [0, 1], 2);

test("one step from a token is its row, more are powers", () => {
  near(two.bounce(1, 0), [0, 1]);
  near(two.bounce(1, 1), [0.3, 0.7]);
  near(two.bounce(1, 2), [0.48, 0.52]);
});

test("a walk enters from a token that is no state and never returns to it", () => {
  const chain = new Chain(Float32Array.of(0.25, 0.75, 0.5, 0.5, 1, 0), [1, 2], 3);
  near(chain.bounce(0, 1), [0, 0.25, 0.75]);
  near(chain.bounce(0, 2), [0, 0.25 * 0.5 + 0.75, 0.25 * 0.5]);
});

test("damping jumps evenly, or to one state", () => {
  near(two.bounce(0, 1, 0.5), [0.5 * 0.9 + 0.25, 0.5 * 0.1 + 0.25]);
  near(two.bounce(0, 1, 0.5, 1), [0.45, 0.55]);
});

test("the stationary distribution is the closed form of two states", () => {
  const { vector, residual } = two.stationary(1);
  near(vector, [0.75, 0.25]);
  assert.ok(residual < 1e-9);
});

test("work that is used up is told by the residual", () => {
  const { residual } = two.stationary(0.99, null, Float64Array.of(1, 0), 1e-9, 1000);
  assert.ok(residual > 1e-3);
});

test("the reversed chain normalises columns", () => {
  const back = two.reversed(new Float32Array(0), []);
  near(back.matrix, [0.9 / 1.2, 0.3 / 1.2, 0.1 / 0.8, 0.7 / 0.8]);
});

test("tokens outside start backwards where attention to them comes from", () => {
  const chain = new Chain(Float32Array.of(0.5, 0.5, 0.9, 0.1, 0.3, 0.7), [1, 2], 3);
  near(chain.reversed(Float32Array.of(0.2, 0.6), [0]).bounce(0, 1), [0, 0.25, 0.75]);
});

test("a state without attention cannot be walked from backwards", () => {
  assert.equal(new Chain(Float32Array.of(1, 0, 1, 0), [0, 1], 2).reversed(new Float32Array(0), []), null);
});

test("a balanced chain is that of attnchain_interp.balance", () => {
  near(new Chain(Float32Array.of(0.5, 0.5, 0.9, 0.1), [0, 1], 2).balanced(false).matrix, [0.3, 0.7, 0.7941176, 0.2058824]);
  near(new Chain(Float32Array.of(1, 0, 0.5, 0.5), [0, 1], 2).balanced(true).matrix, [1, 0, 0.4, 0.6]);
});
