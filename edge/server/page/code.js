/** A block of code, with a button that copies it. */

import { h, icon } from "./dom.js";

/**
 * @param {string} text
 * @param {string} language - as it was named, empty for none
 */
export function codeBlock(text, language) {
  const name = /^[\w+#.-]{1,24}$/.test(language) ? language : "";
  const copy = h(
    "button",
    { type: "button", class: "quiet copy-code", "aria-label": "Copy the code" },
    icon("copy"),
    "Copy",
  );
  const pre = h("pre", { tabindex: "0", dir: "ltr" }, h("code", {}, text));
  return h("div", { class: "code" }, h("div", { class: "code-head" }, h("span", {}, name || "code"), copy), pre);
}
