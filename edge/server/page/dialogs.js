/** Questions and settings in dialogs; the browser gives the focus back to where it was. */

import { find, h } from "./dom.js";

/**
 * @import { Voice } from "./api.js"
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

const PLAIN = /^[a-z]{2,3}$/u; // a language's code without a region
const FIELDS = /** @type {const} */ ([
  "system",
  "temperature",
  "topP",
  "maxTokens",
  "theme",
  "aloud",
  "voice",
  "language",
]);

/**
 * @typedef {{ saved(): void, exportAll(): void, import(): void, deleteAll(): void, voices(): Voice[] }} SettingsEvents
 */

export class SettingsDialog {
  /**
   * @param {Settings} settings
   * @param {SettingsEvents} on
   */
  constructor(settings, on) {
    this.settings = settings;
    this.voices = on.voices;
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
    this.offerVoices();
    for (const name of FIELDS) this.field(name).value = this.settings.values[name];
    this.key.value = this.settings.key;
    this.remember.checked = this.settings.remembersKey;
    this.dialog.showModal();
  }

  /** Offers the voices and languages that the server has, and those that were chosen; nothing where it has none. */
  offerVoices() {
    const voices = this.voices();
    const { voice, language } = this.settings.values;
    const ids = new Set(voices.map(({ id }) => id));
    const codes = new Set(voices.flatMap(({ languages }) => languages.filter((code) => PLAIN.test(code))));
    if (voice) ids.add(voice);
    if (language) codes.add(language);
    const languages = [...codes].map((code) => ({ value: code, name: languageName(code) }));
    languages.sort((a, b) => a.name.localeCompare(b.name));
    const all = [...ids].map((id) => ({ value: id, name: id }));
    fill(find("[name=voice]", HTMLSelectElement, this.dialog), "The device's own", all);
    fill(find("[name=language]", HTMLSelectElement, this.dialog), "As this browser has it", languages);
    find("#aloud-settings").hidden = voices.length === 0;
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

/**
 * Puts choices into a list, behind one that leaves it to others.
 *
 * @param {HTMLSelectElement} select
 * @param {string} none - what leaving it to others is called
 * @param {{ value: string, name: string }[]} choices
 */
function fill(select, none, choices) {
  const options = choices.map(({ value, name }) => h("option", { value }, name));
  select.replaceChildren(h("option", { value: "" }, none), ...options);
}

/**
 * A language's name as the browser's language has it.
 *
 * @param {string} code
 */
function languageName(code) {
  try {
    return new Intl.DisplayNames([navigator.language], { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}
