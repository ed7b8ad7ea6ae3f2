/** What a medium looks or sounds like, small. */

import { h, icon } from "./dom.js";
import { KIND_NAMES } from "./media.js";

/** @import { Medium } from "./conversation.js" */

/**
 * An image, a player or a sign; a `src` is a blob's address, to be revoked when it is no longer shown.
 *
 * @param {Medium} medium
 * @param {Blob} blob
 */
export function preview(medium, blob) {
  if (medium.kind === "image") return h("img", { src: URL.createObjectURL(blob), alt: "" });
  if (medium.kind === "audio")
    return h("audio", { src: URL.createObjectURL(blob), controls: true, "aria-label": `Listen to ${medium.name}` });
  return h("span", { class: "sign" }, icon("file"), h("span", {}, KIND_NAMES[medium.kind]));
}
