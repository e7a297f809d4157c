import { choice, range, slider } from "./controls.js";
import { INFINITE, steps } from "./words.js";

/** The controls of a page by what they change; `state` is read when one is used, and `set` takes the changes. */
export function panel(header, state, set) {
  return {
    view: choice(
      "Show",
      [
        { value: "bounce", text: "Bounces" },
        { value: "rank", text: "TokenRank" },
        { value: "states", text: "States", title: "metastable states: tokens that a walk rarely leaves" },
        ...(header.methods.length ? [{ value: "method", text: "Method" }] : []),
      ],
      (view) => set({ view }),
    ),
    n: slider("Bounces", { least: 0, most: INFINITE, step: 1, describe: (n) => `n = ${steps(n)}` }, (n) => set({ n })),
    damping: slider("Damping", { least: 0.5, most: 1, step: 0.01, describe: (value) => (value === 1 ? "none" : value.toFixed(2)) }, (damping) => set({ damping })),
    over: slider("Opacity", { least: 0, most: 1, step: 0.05, describe: (value) => `${Math.round(100 * value)} %` }, (over) => set({ over })),
    direction: choice(
      "Direction",
      [
        { value: "incoming", text: "Incoming", title: "where attention goes" },
        { value: "outgoing", text: "Outgoing", title: "where attention comes from: the reversed chain" },
      ],
      (direction) => set({ direction }),
    ),
    maps: choice(
      "Maps",
      [
        { value: "attention", text: "Attention" },
        { value: "balanced", text: "Balanced", title: "without the pull of tokens that everybody attends to" },
        ...(header.contributions === null ? [] : [{ value: "contributions", text: "Contributions", title: "how much of each token is in the output of the attention block" }]),
      ],
      (maps) => set(maps === "contributions" ? { maps, heads: "mean", head: null, target: null } : { maps }),
    ),
    heads: choice(
      "Heads",
      [
        { value: "mean", text: "Mean" },
        { value: "lambda2", text: "λ₂", title: "slow mixing counts more" },
        { value: "inverse-lambda2", text: "1 − λ₂", title: "fast mixing counts more" },
        { value: "one", text: "One head", title: "choose one in the grid" },
      ],
      (heads) => set(heads === "one" ? { heads, head: state.head ?? [header.layers.length - 1, 0] } : { heads, head: null }),
    ),
    layers: range("Layers", header.layers.map(({ name }) => name), (layers) => set({ layers })),
    depth: choice(
      "Depth",
      [
        { value: "even", text: "Even", title: "all layers count the same" },
        { value: "late", text: "Late", title: "late layers count more: from 0 for the first to 1 for the last" },
      ],
      (depth) => set({ depth }),
    ),
    target: choice(
      "Explain",
      [{ value: null, text: "Attention" }, ...header.targets.map((name, value) => ({ value, text: name }))],
      (target) => set(target === null ? { target } : { target, heads: state.heads === "one" ? "mean" : state.heads, head: null }),
    ),
    theme: choice(
      "Theme",
      [
        { value: "auto", text: "Auto" },
        { value: "light", text: "Light" },
        { value: "dark", text: "Dark" },
      ],
      (theme) => set({ theme }),
    ),
  };
}
