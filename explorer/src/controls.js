import { element } from "./element.js";

let groups = 0;

const group = (role, label, parts) =>
  element(
    "div",
    { class: "choice", role, "aria-label": label },
    element("span", { class: "name", "aria-hidden": "true" }, label),
    element("div", { class: "row" }, parts),
  );

/** One of several, as radio buttons in a row. */
export function choice(label, options, set) {
  const name = `attnchain-${groups++}`;
  const inputs = options.map(({ value }) =>
    element("input", { type: "radio", name, on: { change: () => set(value) } }),
  );
  const labels = options.map(({ text, title }, k) => element("label", { title }, inputs[k], element("span", {}, text)));
  const node = group("radiogroup", label, labels);
  return {
    node,
    show(value, disabled = () => false) {
      options.forEach((option, k) => {
        inputs[k].checked = option.value === value;
        inputs[k].disabled = disabled(option.value);
      });
    },
  };
}

/** The first and the last of several in a row, on two sliders; all of them is null. */
export function range(label, names, set) {
  const last = names.length - 1;
  const one = (which) =>
    element("input", { type: "range", min: 0, max: last, "aria-label": `${which} of ${label.toLowerCase()}`, on: { input: () => change(which) } });
  const from = one("First"), to = one("Last"), output = element("output", {});
  const change = (moved) => {
    let [first, end] = [Number(from.value), Number(to.value)];
    if (first > end) [first, end] = moved === "First" ? [first, first] : [end, end];
    set(first === 0 && end === last ? null : [first, end]);
  };
  const node = element("div", { class: "slider", role: "group", "aria-label": label }, element("span", { class: "name" }, label), element("span", { class: "ends" }, from, to), output);
  return {
    node,
    show(value, disabled = false) {
      const ends = value ?? [0, last];
      [from, to].forEach((input, k) => {
        input.value = ends[k];
        input.disabled = disabled;
        input.setAttribute("aria-valuetext", names[ends[k]]);
      });
      output.textContent = value === null ? `all ${last + 1}` : ends[0] === ends[1] ? String(ends[0]) : ends.join(" to ");
    },
  };
}

/** A number on a slider, with what it means beside it. */
export function slider(label, { least, most, step, describe }, set) {
  const input = element("input", {
    type: "range",
    min: least,
    max: most,
    step,
    "aria-label": label,
    on: { input: () => set(Number(input.value)) },
  });
  const output = element("output", {});
  const node = element("label", { class: "slider" }, element("span", { class: "name" }, label), input, output);
  return {
    node,
    show(value, disabled = false) {
      input.value = value;
      input.disabled = disabled;
      output.textContent = describe(value);
      input.setAttribute("aria-valuetext", describe(value));
    },
  };
}

export const button = (text, click, properties = {}) =>
  element("button", { type: "button", ...properties, on: { click } }, text);
