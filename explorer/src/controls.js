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

/** Any of several, as check boxes; all of them is null. */
export function several(label, options, set) {
  let chosen = null;
  const change = (k) => {
    const now = new Set(chosen ?? []);
    now.has(k) ? now.delete(k) : now.add(k);
    set(now.size === 0 || now.size === options.length ? null : [...now].sort((a, b) => a - b));
  };
  const all = element("input", { type: "checkbox", on: { change: () => set(null) } });
  const inputs = options.map((_, k) => element("input", { type: "checkbox", on: { change: () => change(k) } }));
  const labels = options.map((text, k) => element("label", { title: text }, inputs[k], element("span", {}, String(k))));
  const node = group("group", label, [element("label", {}, all, element("span", {}, "All")), ...labels]);
  return {
    node,
    show(value, disabled = false) {
      chosen = value;
      all.checked = value === null;
      all.disabled = disabled;
      inputs.forEach((input, k) => {
        input.checked = value !== null && value.includes(k);
        input.disabled = disabled;
      });
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
