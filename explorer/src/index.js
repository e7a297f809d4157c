/** What the built script gives: `attnchain.open(document)` in a page of its own, `attnchain.render` in a notebook. */
export { open } from "./page.js";
export { render } from "./widget.js";
