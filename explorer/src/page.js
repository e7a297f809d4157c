import { mount } from "./main.js";
import { readPage } from "./payload.js";
import { fromHash, toHash } from "./state.js";

/** Shows what Python wrote into a document, and keeps what is chosen in the document's address. */
export function open(document) {
  const payload = readPage(document);
  const linked = window.location.protocol !== "about:"; // a frame of srcdoc has no address of its own
  mount(document.getElementById("explorer"), payload, {
    state: linked ? fromHash(window.location.hash, payload.header) : {},
    onState: linked ? (state) => link(state, payload.header) : () => {},
  });
}

let waiting;

/** Writes the state into the address, once it has settled: browsers refuse many changes in a short time. */
function link(state, header) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const hash = `#${toHash(state, header)}`;
    if (hash !== (window.location.hash || "#")) window.history.replaceState(null, "", hash);
  }, 300);
}
