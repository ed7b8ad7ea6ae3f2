/** Links that may be followed: to the addresses of a few schemes, and in a tab of their own. */

import { h } from "./dom.js";

const SAFE_SCHEMES = new Set(["http:", "https:", "mailto:"]);

/**
 * The address of a link that may be followed, null for any other: javascript:, data:, file:, relative ones.
 *
 * @param {string} text
 */
export function safeUrl(text) {
  try {
    const url = new URL(text.trim());
    return SAFE_SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * A link that tells its address nothing of this page.
 *
 * @param {string} url
 * @param {(Node | string)[]} children
 */
export function anchor(url, children) {
  return h("a", { href: url, title: url, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}
