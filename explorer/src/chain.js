/**
 * A Markov chain over tokens, as `attnchain_interp.Chain`: row vectors, one step is v ↦ vP. Vectors are over all tokens
 * of the page; walks may start at any of them and go on over the states alone.
 */
export class Chain {
  /**
   * @param {Float32Array} matrix token × state, rows sum to one.
   * @param {ArrayLike<number>} states the token of each state.
   * @param {number} tokens how many tokens there are.
   */
  constructor(matrix, states, tokens) {
    this.matrix = matrix;
    this.states = states;
    this.tokens = tokens;
  }

  /** v ↦ damping · vP + (1 − damping) · jump, where jumps lead to one state, or evenly to all of them (null). */
  step(v, damping = 1, jump = null) {
    const { matrix, states, tokens } = this;
    const m = states.length;
    const sums = new Float64Array(m);
    for (let i = 0; i < tokens; i++) {
      const share = v[i];
      if (share === 0) continue;
      for (let j = 0, at = i * m; j < m; j++, at++) sums[j] += share * matrix[at];
    }
    const next = new Float64Array(tokens);
    const everywhere = jump === null ? (1 - damping) / m : 0;
    for (let j = 0; j < m; j++) next[states[j]] = damping * sums[j] + everywhere;
    if (jump !== null) next[states[jump]] += 1 - damping;
    return next;
  }

  /** Where a walk that starts at a token is after some steps. */
  bounce(token, steps, damping = 1, jump = null) {
    let v = new Float64Array(this.tokens);
    v[token] = 1;
    for (let k = 0; k < steps; k++) v = this.step(v, damping, jump);
    return v;
  }

  /**
   * The distribution that one more step does not change, and ‖πP' − π‖₁. By iteration: the residual falls at least by the
   * factor `damping` each step, and is what it is when the work is used up.
   */
  stationary(damping, jump = null, guess = null, tolerance = 1e-9, work = 4e8) {
    const m = this.states.length;
    let vector = guess;
    if (vector === null) {
      vector = new Float64Array(this.tokens);
      for (let j = 0; j < m; j++) vector[this.states[j]] = 1 / m;
    }
    let residual = Infinity;
    for (let done = 0; residual > tolerance && done < work; done += m * m + 1000) {
      const next = this.step(vector, damping, jump);
      let sum = 0;
      for (let i = 0; i < next.length; i++) sum += next[i];
      residual = 0;
      for (let i = 0; i < next.length; i++) {
        next[i] /= sum; // rows are off by their rounding, which would add up
        residual += Math.abs(next[i] - vector[i]);
      }
      vector = next;
    }
    return { vector, residual };
  }

  /**
   * The chain of where attention came from: columns of P normalised, then transposed; null where a state has no column.
   *
   * @param {Float32Array} outside state × other: what states send to the tokens that are no states.
   * @param {ArrayLike<number>} others these tokens.
   */
  reversed(outside, others) {
    const { matrix, states, tokens } = this;
    const m = states.length;
    const turned = new Float32Array(tokens * m);
    for (let j = 0; j < m; j++) {
      let sum = 0;
      for (let i = 0; i < m; i++) sum += matrix[states[i] * m + j];
      if (!(sum > 0)) return null;
      for (let i = 0; i < m; i++) turned[states[j] * m + i] = matrix[states[i] * m + j] / sum;
    }
    const e = others.length;
    for (let o = 0; o < e; o++) {
      let sum = 0;
      for (let i = 0; i < m; i++) sum += outside[i * e + o];
      for (let i = 0; i < m; i++) turned[others[o] * m + i] = sum > 0 ? outside[i * e + o] / sum : 1 / m;
    }
    return new Chain(turned, states, tokens);
  }

  /**
   * The chain as `attnchain_interp.balance` has it: columns divided by their means, then each row scaled to its own sum.
   *
   * @param {boolean} causal whether no state leads to a later one; a column's mean is then over the states from its own on.
   */
  balanced(causal) {
    const { matrix, states, tokens } = this;
    const m = states.length, shares = new Float64Array(m), even = new Float32Array(matrix);
    for (let i = 0; i < m; i++) for (let j = 0, at = states[i] * m; j < m; j++, at++) shares[j] += matrix[at];
    for (let j = 0; j < m; j++) shares[j] = shares[j] > 0 ? (causal ? m - j : 1) / shares[j] : 0;
    for (let i = 0; i < m; i++) {
      let kept = 0, sent = 0;
      for (let j = 0, at = states[i] * m; j < m; j++, at++) {
        kept += matrix[at];
        sent += even[at] = matrix[at] * shares[j];
      }
      const scale = sent > 0 ? kept / sent : 0;
      for (let j = 0, at = states[i] * m; j < m; j++, at++) even[at] *= scale;
    }
    return new Chain(even, states, tokens);
  }
}
