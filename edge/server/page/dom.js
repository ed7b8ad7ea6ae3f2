/** Elements without HTML text: whatever is handed in ends up as text nodes and attributes. */

/**
 * @typedef {Node | string | null | undefined | false} Child - null, undefined and false are left out
 * @typedef {string | boolean | null | undefined | EventListener} Field
 */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["checked", "disabled", "hidden", "value", "textContent", "src", "controls", "href"]);

/**
 * The one element that a selector names. Throws: TypeError where there is none, or one of another type.
 *
 * @template {HTMLElement} T
 * @overload
 * @param {string} selector
 * @param {new () => T} type
 * @param {ParentNode} [root]
 * @returns {T}
 */
/**
 * @overload
 * @param {string} selector
 * @returns {HTMLElement}
 */
/**
 * @param {string} selector
 * @param {new () => HTMLElement} type
 * @param {ParentNode} root
 */
export function find(selector, type = HTMLElement, root = document) {
  const found = root.querySelector(selector);
  if (!(found instanceof type)) throw new TypeError(`${selector} is no ${type.name} of the page`);
  return found;
}

/**
 * Makes an element; `on…` functions become listeners, null and false leave an attribute out.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Field>} fields
 * @param {(Child | Child[])[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, fields = {}, ...children) {
  const element = document.createElement(tag);
  // Before the attributes: dir="auto" would look at everything again for each child.
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) Reflect.set(element, name, value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

/**
 * One of the icons that index.html defines; hidden from screen readers, the button around it has the name.
 *
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/**
 * A button with an icon, and a name that shows when pointed at.
 *
 * @param {string} name - of the icon
 * @param {string} label
 * @param {() => void} onclick
 */
export function iconButton(name, label, onclick) {
  return h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick }, icon(name));
}

/** Whether the screen is touched: the keyboard of a phone comes up when a text field gets the focus. */
export const isTouch = () => matchMedia("(pointer: coarse)").matches;

/** A name that no other record has; randomUUID is not there on plain HTTP. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Hands a blob to the person as a file.
 *
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * Copies text; on plain HTTP there is no clipboard interface, so through a selection. Throws: Error when not allowed.
 *
 * @param {string} text
 * @returns {Promise<void>}
 */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = h("textarea", { value: text, readonly: true, class: "unseen" });
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus();
  if (!copied) throw new Error("the browser did not allow it");
}
