/** What a person does with whole conversations: renamed, exported, deleted, imported. */

import { exportAll, exportJson, exportMarkdown, importJson } from "./archive.js";
import { ask } from "./dialogs.js";
import { find } from "./dom.js";
import { reasonOf } from "./failure.js";

/**
 * @import { Conversation, Head } from "./conversation.js"
 * @import { SettingsDialog } from "./dialogs.js"
 * @import { Library } from "./library.js"
 * @import { Navigation } from "./navigation.js"
 * @import { Notices } from "./notices.js"
 * @import { Session } from "./session.js"
 *
 * @typedef {{ session: Session, library: Library, navigation: Navigation, notices: Notices,
 *   dialog: SettingsDialog }} Managed
 */

export class Management {
  /** @param {Managed} managed */
  constructor({ session, library, navigation, notices, dialog }) {
    this.session = session;
    this.library = library;
    this.navigation = navigation;
    this.notices = notices;
    this.dialog = dialog;
    this.menu = find("#menu");
    this.file = find("#import-file", HTMLInputElement);
    this.menu.addEventListener(
      "click",
      ({ target }) => target instanceof HTMLElement && this.choose(target.dataset.do),
    );
    this.file.addEventListener("change", () => this.import());
  }

  /**
   * Does with the conversation on show what its menu offers.
   *
   * @param {string | undefined} what
   */
  async choose(what) {
    if (!what) return;
    const { conversation } = this.session;
    this.menu.hidePopover();
    if (what === "markdown") exportMarkdown(conversation);
    else if (what === "json") await exportJson(this.library.store, conversation).catch(this.failed);
    else if (what === "delete") await this.remove(conversation);
    else await this.rename(conversation);
  }

  /** @param {Conversation} conversation */
  async rename(conversation) {
    const name = await ask({ title: "Rename the conversation", yes: "Rename", name: conversation.title });
    if (typeof name !== "string") return;
    conversation.title = name;
    await this.library.save(conversation);
    await this.navigation.showHeads();
  }

  /** @param {Head} head */
  async remove({ id, title }) {
    const isSure = await ask({
      title: "Delete the conversation?",
      text: `“${title}” and its pictures, videos, audio and PDFs are taken out of this browser.`,
      yes: "Delete",
      danger: true,
    });
    if (!isSure) return;
    this.session.stop(id);
    await this.library.remove(id);
    if (id === this.session.conversation.id) this.navigation.go("");
    else await this.navigation.showHeads();
    this.notices.say("Deleted.");
    find("#new").focus();
  }

  async removeAll() {
    const isSure = await ask({
      title: "Delete all conversations?",
      text: "Everything that this browser keeps of them is gone then.",
      yes: "Delete all",
      danger: true,
    });
    if (!isSure) return;
    this.session.stopAll();
    await this.library.clear(this.session.running.keys());
    this.dialog.close();
    this.navigation.go("");
  }

  async exportAll() {
    await exportAll(this.library.store).catch(this.failed);
  }

  /** Asks for the file of conversations to import. */
  chooseFile() {
    this.file.click();
  }

  async import() {
    const file = this.file.files?.[0];
    this.file.value = "";
    if (!file) return;
    try {
      const read = await importJson(this.library.store, file);
      this.dialog.close();
      this.notices.show(`Imported: ${read.length === 1 ? read[0].title : `${read.length} conversations`}`);
      this.navigation.go(read[0]?.id ?? "");
    } catch (error) {
      this.dialog.close();
      this.notices.show(`${file.name} could not be imported: ${reasonOf(error)}.`);
    }
  }

  failed = (/** @type {unknown} */ error) => this.notices.show(reasonOf(error));
}
