/** The page put together from its parts, and the keys and events that concern all of it. */

import { Aloud } from "./aloud.js";
import { Answers } from "./answers.js";
import { Composer } from "./composer.js";
import { SettingsDialog } from "./dialogs.js";
import { find, isTouch } from "./dom.js";
import { Editing } from "./editing.js";
import { Library } from "./library.js";
import { Management } from "./management.js";
import { ModelMenu } from "./models.js";
import { Navigation, addressed } from "./navigation.js";
import { Notices } from "./notices.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { openStore } from "./store.js";
import { Thread } from "./thread.js";

/** @import { Store } from "./store.js" */

class Page {
  /** @param {Store} store */
  constructor(store) {
    const session = new Session();
    const settings = new Settings();
    const notices = new Notices();
    const say = (/** @type {string} */ text) => notices.say(text);
    this.store = store;
    this.session = session;
    this.settings = settings;
    this.notices = notices;
    this.library = new Library(store, notices);
    this.models = new ModelMenu(settings, notices);
    this.composer = new Composer({
      send: (draft) => this.answers.send(draft),
      stop: () => this.answers.stop(),
      editLast: () => this.editing.beginLast(),
      notice: (text) => notices.show(text),
      say,
    });
    this.aloud = new Aloud(settings, {
      change: () => this.thread.showAloud(),
      notice: (text) => notices.show(text),
    });
    this.thread = new Thread({
      read: (message) => this.aloud.toggle(message),
      aloud: () => this.aloud,
      again: (message) => this.answers.again(message),
      goOn: (message) => this.answers.goOn(message),
      edit: (message) => this.editing.begin(message),
      key: () => this.dialog.openKey(),
      blob: (medium) => store.blob(medium.id),
      say,
    });
    this.sidebar = new Sidebar({
      open: (id) => this.navigation.go(id),
      fresh: () => this.navigation.go(""),
      remove: (head) => this.management.remove(head),
    });
    this.dialog = new SettingsDialog(settings, {
      voices: () => this.aloud.voices,
      saved: () => this.settingsSaved(),
      exportAll: () => this.management.exportAll(),
      import: () => this.management.chooseFile(),
      deleteAll: () => this.management.removeAll(),
    });
    this.editing = new Editing(session, store, this.composer, notices);
    this.navigation = new Navigation(session, store, this);
    this.answers = new Answers(this);
    this.management = new Management(this);
    this.listen();
  }

  listen() {
    addEventListener("hashchange", () => this.navigation.open(addressed()));
    addEventListener("pagehide", () => this.saveRunning());
    document.addEventListener("visibilitychange", () => document.hidden || this.navigation.lookAgain());
    document.addEventListener("keydown", (event) => {
      const isOpen = document.querySelector("dialog[open], :popover-open, .listing") !== null;
      if (event.key === "Escape" && !isOpen) this.answers.stop();
    });
    find(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      this.composer.focus();
    });
    find("#theme").addEventListener("click", () => this.settings.toggleTheme());
  }

  async start() {
    if (!this.store.keeps)
      this.notices.show("This browser keeps nothing for this page: conversations are gone when it closes.");
    if (!isTouch()) this.composer.focus(); // who types meanwhile types there
    await Promise.all([this.models.load(), this.aloud.load(), this.navigation.open(addressed())]);
    this.composer.changed(); // now that the letters have their size
  }

  /** Writes what there is of answers that are being written: nothing may be left of the page in a moment. */
  saveRunning() {
    for (const { conversation } of this.session.running.values()) this.store.save(conversation);
  }

  async settingsSaved() {
    this.settings.showTheme();
    this.aloud.stop(); // it may have been in another voice
    if (await this.models.load()) this.notices.show("");
    await this.aloud.load();
  }
}

new Page(await openStore()).start();
