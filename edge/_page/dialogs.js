/** Questions and settings in dialogs; the browser gives the focus back to where it was. */

import { find } from "./dom.js";

/** Asks for a yes, or for a name when `name` is given; resolves with null when it was cancelled. */
export function ask({ title, text = "", yes, name = null, danger = false }) {
  const dialog = find("#ask");
  const field = find("input", dialog);
  const button = find("[type=submit]", dialog);
  find("#ask-title").textContent = title;
  find("#ask-text").textContent = text;
  find("#ask-text").hidden = text === "";
  find("#ask-field").hidden = name === null;
  field.value = name ?? "";
  button.textContent = yes;
  button.classList.toggle("danger", danger);
  const cancel = find(".cancel", dialog);
  cancel.onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.showModal();
  if (name === null) cancel.focus();
  else field.select();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue === "yes" ? field.value.trim() || true : null),
      { once: true },
    );
  });
}

/** on: {saved(), exportAll(), import(), deleteAll()}. */
export class SettingsDialog {
  constructor(settings, on) {
    this.settings = settings;
    this.dialog = find("#settings");
    this.form = find("form", this.dialog);
    find("#open-settings").addEventListener("click", () => this.open());
    find(".cancel", this.dialog).addEventListener("click", () => this.dialog.close());
    find("#export-all").addEventListener("click", on.exportAll);
    find("#import").addEventListener("click", on.import);
    find("#delete-all").addEventListener("click", on.deleteAll);
    this.form.addEventListener("submit", () => {
      this.save();
      on.saved();
    });
  }

  open(focus = null) {
    const { elements } = this.form;
    for (const [name, value] of Object.entries(this.settings.values))
      if (elements[name]) elements[name].value = value;
    elements.key.value = this.settings.key;
    elements.remember.checked = this.settings.remembersKey;
    this.dialog.showModal();
    if (focus) elements[focus].focus();
  }

  save() {
    const { elements } = this.form;
    const names = ["system", "temperature", "topP", "maxTokens", "theme"];
    this.settings.change(Object.fromEntries(names.map((name) => [name, elements[name].value])));
    this.settings.setKey(elements.key.value.trim(), elements.remember.checked);
  }
}
