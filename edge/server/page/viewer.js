/** An image of a conversation, as large as the window. */

import { find } from "./dom.js";

/** Has the viewer close when its button or the space around the image is clicked. */
export function listenToViewer() {
  const viewer = find("#viewer", HTMLDialogElement);
  find("button", HTMLButtonElement, viewer).addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
}

/**
 * @param {string} src
 * @param {string} name
 */
export function viewImage(src, name) {
  const viewer = find("#viewer", HTMLDialogElement);
  const image = find("img", HTMLImageElement, viewer);
  image.src = src;
  image.alt = name;
  find("span", HTMLSpanElement, viewer).textContent = name;
  viewer.showModal();
}
