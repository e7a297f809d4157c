import { element } from "./element.js";
import { Explorer } from "./explorer.js";
import { openSections } from "./payload.js";
import style from "./style.css";

let mounted = 0;

/**
 * Shows a payload in an element; returns what removes it again, with every listener.
 *
 * @param {HTMLElement} place
 * @param {{header: Object, sections: Object<string, Uint8Array>}} payload as Python's `Payload`.
 * @param {{state?: Object, onState?: Function}} options where to begin (state.js), and who is told of changes.
 */
export function mount(place, payload, { state = {}, onState = () => {} } = {}) {
  const stop = new AbortController();
  const root = element("div", { class: "attnchain" });
  place.replaceChildren(element("style", {}, style), root);
  const prefix = `attnchain-token-${mounted++}`;
  openSections(payload).then(
    (arrays) => stop.signal.aborted || new Explorer(root, payload.header, arrays, { state, onState, signal: stop.signal, prefix }),
  ).catch((error) => {
    root.replaceChildren(element("p", { role: "alert" }, `The page could not be shown: ${error.message}`));
    throw error;
  });
  return () => {
    stop.abort();
    place.replaceChildren();
  };
}
