import { mount } from "./main.js";
import { readPage } from "./payload.js";
import { fromHash, toHash } from "./state.js";

/** Shows what Python wrote into a document, and keeps what is chosen in the document's address. */
export function open(document) {
  const payload = readPage(document);
  const linked = window.location.protocol !== "about:"; // a frame of srcdoc has no address of its own
  mount(document.getElementById("explorer"), payload, {
    state: linked ? fromHash(window.location.hash, payload.header) : {},
    onState: (state) => linked && window.history.replaceState(null, "", `#${toHash(state)}`),
  });
}
