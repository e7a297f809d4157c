import { element } from "./element.js";
import { mount } from "./main.js";
import { fromHash, toHash } from "./state.js";

/**
 * The explorer in a notebook, as anywidget's front ends are: `export default { render }`.
 *
 * @param {{model: Object, el: HTMLElement}} context of the model "header" is JSON, "sections" name → DataView, "height" in
 *   pixels, and "view" what is chosen, as in the address of a page; the views of a widget begin there, and write it.
 * @returns {Function} what removes everything again.
 */
export function render({ model, el }) {
  const header = JSON.parse(model.get("header"));
  const state = fromHash(model.get("view"), header);
  const frame = element("div", {
    "data-lm-suppress-shortcuts": "true", // JupyterLab's keys would move between cells
    style: { height: `${model.get("height")}px`, width: "100%", overflow: "auto", resize: "vertical" },
  });
  el.append(frame);
  const stop = mount(frame, { header, sections: bytes(model.get("sections")) }, {
    state: state.theme === "auto" ? { ...state, theme: hostTheme() } : state,
    onState: (chosen) => {
      const view = toHash(chosen.theme === hostTheme() ? { ...chosen, theme: "auto" } : chosen, header);
      if (view === model.get("view")) return;
      model.set("view", view);
      model.save_changes();
    },
  });
  return () => {
    stop();
    frame.remove();
  };
}

const bytes = (views) =>
  Object.fromEntries(
    Object.entries(views).map(([name, view]) => [name, new Uint8Array(view.buffer, view.byteOffset, view.byteLength)]),
  );

/** The theme of JupyterLab or VS Code, which need not be that of the system. */
function hostTheme() {
  const { classList, dataset } = document.body;
  if (dataset.jpThemeLight === "false" || classList.contains("vscode-dark")) return "dark";
  if (dataset.jpThemeLight === "true" || classList.contains("vscode-light")) return "light";
  return "auto";
}
