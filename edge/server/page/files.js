/** The ways in which files come to the page: chosen, pasted, dropped. */

import { find } from "./dom.js";
import { ACCEPTED } from "./media.js";

/**
 * Hands on every file that a person gives.
 *
 * @param {(files: File[]) => void} attach
 */
export function listenToFiles(attach) {
  const chooser = find("#any-file", HTMLInputElement);
  chooser.accept = ACCEPTED;
  find("#attach").addEventListener("click", () => chooser.click());
  for (const input of [chooser, find("#camera-file", HTMLInputElement), find("#mic-file", HTMLInputElement)]) {
    input.addEventListener("change", () => {
      attach([...(input.files ?? [])]);
      input.value = "";
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0 || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    attach(files);
  });
  listenToDrops(attach);
}

/** @param {(files: File[]) => void} attach */
function listenToDrops(attach) {
  const shade = find("#drop");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    shade.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) shade.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    shade.hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    attach([...(event.dataTransfer?.files ?? [])]);
  });
}

/** @param {DragEvent} event */
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;
