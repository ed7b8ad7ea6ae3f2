/** Questions and settings in dialogs; the browser gives the focus back to where it was. */

import { find } from "./dom.js";

/**
 * @import { Settings } from "./settings.js"
 *
 * @typedef {object} Question
 * @property {string} title
 * @property {string} [text]
 * @property {string} yes - what the button says
 * @property {string | null} [name] - the one that is asked for, as it is now; null asks for a yes alone
 * @property {boolean} [danger]
 */

/**
 * Asks for a yes, or for a name; resolves with the name, true for a yes (or an empty name), null when it was cancelled.
 *
 * @param {Question} question
 * @returns {Promise<string | true | null>}
 */
export function ask({ title, text = "", yes, name = null, danger = false }) {
  const dialog = find("#ask", HTMLDialogElement);
  const field = find("input", HTMLInputElement, dialog);
  const button = find("[type=submit]", HTMLButtonElement, dialog);
  const cancel = find(".cancel", HTMLButtonElement, dialog);
  find("#ask-title").textContent = title;
  find("#ask-text").textContent = text;
  find("#ask-text").hidden = text === "";
  find("#ask-field").hidden = name === null;
  field.value = name ?? "";
  button.textContent = yes;
  button.classList.toggle("danger", danger);
  cancel.onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.showModal();
  if (name === null) cancel.focus();
  else field.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? field.value.trim() || true : null), {
      once: true,
    });
  });
}

const FIELDS = /** @type {const} */ (["system", "temperature", "topP", "maxTokens", "theme"]);

/** @typedef {{ saved(): void, exportAll(): void, import(): void, deleteAll(): void }} SettingsEvents */

export class SettingsDialog {
  /**
   * @param {Settings} settings
   * @param {SettingsEvents} on
   */
  constructor(settings, on) {
    this.settings = settings;
    this.dialog = find("#settings", HTMLDialogElement);
    this.key = find("[name=key]", HTMLInputElement, this.dialog);
    this.remember = find("[name=remember]", HTMLInputElement, this.dialog);
    find("#open-settings").addEventListener("click", () => this.open());
    find(".cancel", HTMLButtonElement, this.dialog).addEventListener("click", () => this.close());
    find("#export-all").addEventListener("click", on.exportAll);
    find("#import").addEventListener("click", on.import);
    find("#delete-all").addEventListener("click", on.deleteAll);
    find("form", HTMLFormElement, this.dialog).addEventListener("submit", () => {
      this.save();
      on.saved();
    });
  }

  open() {
    for (const name of FIELDS) this.field(name).value = this.settings.values[name];
    this.key.value = this.settings.key;
    this.remember.checked = this.settings.remembersKey;
    this.dialog.showModal();
  }

  /** Opens the dialog where the key is entered. */
  openKey() {
    this.open();
    this.key.focus();
  }

  close() {
    this.dialog.close();
  }

  save() {
    this.settings.change(Object.fromEntries(FIELDS.map((name) => [name, this.field(name).value])));
    this.settings.setKey(this.key.value.trim(), this.remember.checked);
  }

  /**
   * @param {string} name
   * @returns {{ value: string }}
   */
  field(name) {
    const found = this.dialog.querySelector(`[name=${name}]`);
    if (found instanceof HTMLInputElement || found instanceof HTMLTextAreaElement || found instanceof HTMLSelectElement)
      return found;
    throw new TypeError(`${name} is no field of the settings`);
  }
}
