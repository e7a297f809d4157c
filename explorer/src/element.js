/**
 * A DOM element. Strings become text nodes, never markup.
 *
 * @param {string} name of the tag.
 * @param {Object} properties `class`, `on` (event → listener), `style` (property → value), anything else an attribute;
 *   null and false leave one out.
 */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === false || value === undefined) continue;
    if (key === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (key === "style") for (const [rule, given] of Object.entries(value)) made.style.setProperty(rule, given);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** A canvas of this many CSS pixels, cleared, and its context, in which lengths are CSS pixels. */
export function prepared(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** The value of a custom property of the style sheet. */
export const token = (node, name) => getComputedStyle(node).getPropertyValue(name).trim();

/** The parts of a name in which a line may break: before capitals within. */
export const breakable = (name) => name.split(/(?<=[a-z0-9])(?=[A-Z])/).flatMap((part, k) => (k ? [element("wbr"), part] : [part]));
