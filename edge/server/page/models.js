/** The models to choose from, and whether the server that runs them is there. */

import { models } from "./api.js";
import { Connection } from "./connection.js";
import { find, h } from "./dom.js";
import { Failure, reasonOf } from "./failure.js";

/**
 * @import { Notices } from "./notices.js"
 * @import { Settings } from "./settings.js"
 */

const GONE = "The server cannot be reached. Looking for it…";

export class ModelMenu {
  /**
   * @param {Settings} settings
   * @param {Notices} notices
   */
  constructor(settings, notices) {
    this.settings = settings;
    this.notices = notices;
    this.select = find("#model", HTMLSelectElement);
    this.select.addEventListener("change", () => settings.change({ model: this.select.value }));
    this.connection = new Connection({ gone: () => notices.hold(GONE), back: () => this.back() });
  }

  /** The model that is asked; empty while none is known. */
  get chosen() {
    return this.select.value;
  }

  /** Asks the server for its models; returns whether it told them. */
  async load() {
    const { select } = this;
    const { model } = this.settings.values;
    try {
      const ids = await models(this.settings.key);
      select.replaceChildren(...ids.map((id) => h("option", { value: id }, id)));
      if (ids.includes(model)) select.value = model;
      select.disabled = false;
      this.connection.found();
      return true;
    } catch (error) {
      select.disabled = select.options.length === 0;
      if (!(error instanceof Failure)) this.notices.show(reasonOf(error));
      else if (error.kind === "gone") this.lost();
      else if (error.status === 401) this.notices.show("The server asks for a key: enter it in the settings.");
      else this.notices.show(error.words().title);
      return false;
    }
  }

  /** Looks for the server until it is there again. */
  lost() {
    this.connection.lost();
  }

  async back() {
    this.notices.release("The server is back.");
    await this.load();
  }
}
