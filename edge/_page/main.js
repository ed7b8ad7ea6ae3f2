/** The page put together: a conversation on show, the answers that run, and what the person does. */

import { Answering } from "./answering.js";
import { models } from "./api.js";
import { exportAll, exportJson, exportMarkdown, importJson, urlsFrom } from "./archive.js";
import { Composer, isTouch } from "./composer.js";
import { Connection } from "./connection.js";
import { answerMessage, newConversation, requestMessages, titleOf, userMessage } from "./conversation.js";
import { SettingsDialog, ask } from "./dialogs.js";
import { find, h } from "./dom.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { openStore } from "./store.js";
import { Thread } from "./thread.js";

const SAVE_MS = 2000;
const SPOKEN_CHARACTERS = 1200;
const GONE = "The server cannot be reached. Looking for it…";
const FULL =
  "This browser's space for the page is used up: what is new is lost when the page closes. " +
  "Export it, or delete old conversations.";

class Page {
  constructor(store) {
    this.store = store;
    this.settings = new Settings();
    this.conversation = newConversation();
    this.running = new Map(); // conversation id: its Answering
    this.editing = null; // {message, before}: the message that the next one replaces, the draft that was there
    this.deleted = new Set(); // ids of conversations whose answers may still end
    this.turn = 0; // counts what was opened, so that a slow one does not replace a later one
    this.composer = new Composer({
      send: (draft) => this.send(draft),
      stop: () => this.stop(),
      editLast: () => this.editLast(),
      notice: (text) => this.notice(text),
      say: (text) => this.say(text),
    });
    this.thread = new Thread({
      again: (message) => this.again(message),
      goOn: (message) => this.goOn(message),
      edit: (message) => this.edit(message),
      key: () => this.dialog.open("key"),
      blob: (medium) => this.store.blob(medium.id),
      say: (text) => this.say(text),
    });
    this.sidebar = new Sidebar({
      open: (id) => this.go(id),
      fresh: () => this.go(""),
      remove: (head) => this.remove(head),
    });
    this.connection = new Connection({ gone: () => this.notice(GONE), back: () => this.back() });
    this.dialog = new SettingsDialog(this.settings, {
      saved: () => this.settingsSaved(),
      exportAll: () => exportAll(this.store).catch((error) => this.notice(error.message)),
      import: () => find("#import-file").click(),
      deleteAll: () => this.deleteAll(),
    });
    this.listen();
  }

  listen() {
    addEventListener("hashchange", () => this.open(location.hash.slice(1)));
    addEventListener("pagehide", () => this.running.forEach(({ conversation }) => this.store.save(conversation)));
    document.addEventListener("visibilitychange", () => document.hidden || this.lookAgain());
    document.addEventListener(
      "keydown",
      (event) =>
        event.key === "Escape" && !document.querySelector("dialog[open], :popover-open, .listing") && this.stop(),
    );
    find(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      this.composer.focus();
    });
    find("#editing button").addEventListener("click", () => this.leaveEditing());
    find("#theme").addEventListener("click", () => this.settings.toggleTheme());
    find("#model").addEventListener("change", (event) => this.settings.change({ model: event.target.value }));
    find("#import-file").addEventListener("change", (event) => this.importFile(event.target));
    find("#menu").addEventListener("click", (event) => this.choose(event.target.dataset.do));
  }

  async start() {
    if (!this.store.keeps)
      this.notice("This browser keeps nothing for this page: conversations are gone when it closes.");
    if (!isTouch()) this.composer.focus(); // who types meanwhile types there
    await Promise.all([this.loadModels(), this.open(location.hash.slice(1))]);
    this.composer.changed(); // now that the letters have their size
  }

  /** Shows a line above the field; screen readers say it once. */
  notice(text) {
    const line = find("#notice");
    const shown = text || (this.connection.isGone ? GONE : "");
    if (line.textContent !== shown) line.textContent = shown;
  }

  /** Tells screen readers alone. */
  say(text) {
    find("#live").textContent = text;
  }

  // The server

  async loadModels() {
    const select = find("#model");
    try {
      const ids = await models(this.settings.key);
      select.replaceChildren(...ids.map((id) => h("option", { value: id }, id)));
      if (ids.includes(this.settings.values.model)) select.value = this.settings.values.model;
      select.disabled = false;
      this.connection.found();
      return true;
    } catch (error) {
      select.disabled = select.options.length === 0;
      if (error.kind === "gone") this.connection.lost();
      else if (error.status === 401) this.notice("The server asks for a key: enter it in the settings.");
      else this.notice(error.words?.().title ?? error.message);
      return false;
    }
  }

  async back() {
    this.notice("The server is back.");
    await this.loadModels();
  }

  async settingsSaved() {
    this.settings.showTheme();
    if (await this.loadModels()) this.notice("");
  }

  // Moving between conversations

  go(id) {
    if (location.hash.slice(1) === id) this.open(id);
    else location.hash = id;
  }

  /** Goes to the conversation of that id, a new one where there is none. */
  async open(id) {
    this.turn += 1;
    const { turn } = this;
    if (id === "" || id !== this.conversation.id) await this.composer.hold(() => this.load(id));
    if (turn !== this.turn) return;
    await this.showHeads();
    if (isTouch()) find("#title").focus();
    else this.composer.focus();
  }

  /** Shows a conversation once it was read, unless another was opened meanwhile. */
  async load(id) {
    const { turn } = this;
    const stored = id && !this.running.has(id) ? await this.store.load(id) : undefined;
    if (turn !== this.turn) return;
    const running = this.running.get(id);
    this.leaveEditing();
    this.conversation = running?.conversation ?? stored ?? newConversation();
    for (const message of this.conversation.messages)
      if (message.end === null && !running) message.end = "interrupted";
    this.thread.show(this.conversation.messages, Boolean(running));
    this.composer.setRunning(Boolean(running));
  }

  async showHeads() {
    const { id, title, messages } = this.conversation;
    find("#more").hidden = messages.length === 0;
    find("#title").textContent = title || "New conversation";
    document.title = `${title || "New conversation"} – edge`;
    this.sidebar.show(await this.store.heads(), id);
  }

  /** Shows what was said in another tab meanwhile. */
  async lookAgain() {
    const { id, updated } = this.conversation;
    const head = (await this.store.heads()).find((other) => other.id === id);
    const isCurrent = !head || head.updated <= updated || this.running.has(id);
    // What is being changed would be taken out of the person's hands.
    if (id === this.conversation.id && !isCurrent && !this.editing) await this.composer.hold(() => this.load(id));
    return this.showHeads();
  }

  async save(conversation) {
    if (this.deleted.has(conversation.id)) return;
    if (!(await this.store.save(conversation)) && this.store.keeps) this.notice(FULL);
  }

  refresh() {
    const isRunning = this.running.has(this.conversation.id);
    this.thread.refresh(this.conversation.messages, isRunning);
    this.composer.setRunning(isRunning);
  }

  // Asking and answering

  /** Puts a message on show and begins its answer, both at once: a second one must find the first. */
  async send({ text, media }) {
    const { conversation, editing } = this;
    this.editing = null;
    this.leaveEditing();
    this.composer.set(editing?.before);
    this.notice("");
    const message = userMessage(
      text.trim(),
      media.map(({ medium }) => medium),
    );
    this.keepMedia(conversation, media);
    const isNamed = conversation.title && conversation.title !== titleOf(conversation.messages);
    const gone = editing ? cut(conversation, editing.message) : [];
    conversation.messages.push(message);
    if (!isNamed) conversation.title = titleOf(conversation.messages);
    history.replaceState(null, "", `#${conversation.id}`);
    this.thread.add(message);
    await Promise.all([this.begin(conversation), this.forget(conversation, gone)]);
  }

  async keepMedia(conversation, media) {
    const kept = await Promise.all(
      media.map(({ medium, blob }) => this.store.saveMedia(conversation.id, medium.id, blob)),
    );
    if (kept.includes(false) && this.store.keeps) this.notice(FULL);
  }

  /** Takes the media of messages that are gone out of the store, but for those that another message holds. */
  forget(conversation, gone) {
    const held = new Set(mediaIds(conversation.messages));
    return this.store.removeMedia(mediaIds(gone).filter((id) => !held.has(id)));
  }

  /** Asks once more for the last answer, or for one that never came. */
  async again(message) {
    const { conversation } = this;
    if (this.running.has(conversation.id)) return;
    if (message.role === "assistant") cut(conversation, message);
    this.composer.refocus(); // the button is gone
    await this.begin(conversation);
  }

  /** Has an answer that was cut off written on. */
  async goOn(message) {
    if (this.running.has(this.conversation.id)) return;
    this.composer.refocus(); // as above
    await this.answer(message);
  }

  begin(conversation) {
    const message = answerMessage(find("#model").value);
    conversation.messages.push(message);
    this.thread.add(message);
    this.thread.toEnd();
    return this.answer(message, conversation);
  }

  /** Has an answer written, or one that was cut off written on. */
  async answer(message, conversation = this.conversation) {
    let [drawing, saved, waits] = [0, Date.now(), false];
    const clock = setInterval(() => this.thread.tick(message), 1000);
    const change = () => {
      drawing = 0;
      if (waits) this.notice("");
      waits = false;
      this.thread.update(message);
      if (Date.now() - saved < SAVE_MS) return;
      saved = Date.now();
      this.save(conversation);
    };
    const answering = new Answering(message, {
      change: () => (drawing ||= requestAnimationFrame(change)),
      wait: (seconds) => {
        waits = true;
        this.notice(`The server is busy with others: asking again in ${seconds} seconds.`);
      },
      end: (error) => {
        clearInterval(clock);
        cancelAnimationFrame(drawing);
        change();
        this.ended(conversation, message, error);
      },
    });
    this.running.set(conversation.id, Object.assign(answering, { conversation }));
    this.thread.update(message);
    this.refresh();
    this.say("Answering.");
    conversation.updated = Date.now();
    await this.save(conversation);
    await this.showHeads();
    await answering.run(() => this.body(conversation), this.settings.key);
  }

  async body(conversation) {
    const model = find("#model").value || this.settings.values.model || "reka-edge";
    const messages = await requestMessages(conversation.messages, this.settings.values.system, urlsFrom(this.store));
    return { model, messages, ...this.settings.fields() };
  }

  async ended(conversation, message, error) {
    conversation.updated = Date.now();
    await this.save(conversation);
    this.running.delete(conversation.id);
    if (conversation !== this.conversation) return this.say(`“${conversation.title}” has its answer.`);
    this.refresh();
    if (error?.kind === "gone") this.connection.lost();
    if (message.failure) return this.say(`${message.failure.title}. ${message.failure.text}`);
    if (message.end === "stopped") return this.say("Stopped.");
    const spoken = this.thread.spoken(message);
    return this.say(
      spoken.length > SPOKEN_CHARACTERS
        ? `${spoken.slice(0, SPOKEN_CHARACTERS)}… The rest is in the conversation.`
        : spoken,
    );
  }

  /** Stops the answer; where none is written, throws a recording away, or else leaves what was begun. */
  stop() {
    const answering = this.running.get(this.conversation.id);
    this.composer.holdBack();
    if (answering) answering.stop();
    else if (this.composer.recorder) this.composer.endRecording(false);
    else this.leaveEditing();
  }

  // Changing what was said

  edit(message) {
    if (this.running.has(this.conversation.id)) return;
    const asked = message.role === "user" ? message : questionOf(message, this.conversation);
    if (!asked) return;
    this.editing = { message: asked, before: this.editing?.before ?? this.composer.draft };
    this.composer.set({ text: asked.text });
    find("#editing").hidden = false;
    this.composer.focus();
    // After the words: they must not be put in place when others were already typed there.
    if (asked.media.length > 0) this.composer.hold(() => this.putBack(asked.media, this.editing));
  }

  /** Attaches the media of the message that is being changed, those that are still there. */
  async putBack(media, editing) {
    const found = [];
    for (const medium of media) {
      const blob = await this.store.blob(medium.id);
      if (blob) found.push({ medium, blob });
    }
    if (this.editing !== editing) return;
    this.composer.putFirst(found);
    const gone = media.filter(({ id }) => !found.some(({ medium }) => medium.id === id));
    if (gone.length > 0) this.notice(`No longer in this browser: ${gone.map(({ name }) => name).join(", ")}.`);
  }

  editLast() {
    const last = this.conversation.messages.findLast(({ role }) => role === "user");
    if (last) this.edit(last);
  }

  /** Goes back to what was being written before an earlier message was to be changed. */
  leaveEditing() {
    find("#editing").hidden = true;
    if (!this.editing) return;
    this.composer.set(this.editing.before);
    this.editing = null;
    this.composer.focus();
  }

  async choose(what) {
    if (!what) return;
    const { conversation } = this;
    find("#menu").hidePopover();
    if (what === "markdown") exportMarkdown(conversation);
    else if (what === "json") await exportJson(this.store, conversation).catch((error) => this.notice(error.message));
    else if (what === "delete") await this.remove(conversation);
    else await this.rename(conversation);
  }

  async rename(conversation) {
    const name = await ask({ title: "Rename the conversation", yes: "Rename", name: conversation.title });
    if (typeof name !== "string") return;
    conversation.title = name;
    await this.save(conversation);
    await this.showHeads();
  }

  async remove({ id, title }) {
    if (
      !(await ask({
        title: "Delete the conversation?",
        text: `“${title}” and its pictures and sounds are taken out of this browser.`,
        yes: "Delete",
        danger: true,
      }))
    )
      return;
    this.deleted.add(id);
    this.running.get(id)?.stop();
    await this.store.remove(id);
    if (id === this.conversation.id) this.go("");
    else await this.showHeads();
    this.say("Deleted.");
    find("#new").focus();
  }

  async deleteAll() {
    if (
      !(await ask({
        title: "Delete all conversations?",
        text: "Everything that this browser keeps of them is gone then.",
        yes: "Delete all",
        danger: true,
      }))
    )
      return;
    for (const [id, answering] of this.running) {
      this.deleted.add(id);
      answering.stop();
    }
    await this.store.clear();
    this.dialog.dialog.close();
    this.go("");
  }

  async importFile(input) {
    const [file] = input.files;
    input.value = "";
    try {
      const read = await importJson(this.store, file);
      this.dialog.dialog.close();
      this.notice(`Imported: ${read.length === 1 ? read[0].title : `${read.length} conversations`}`);
      this.go(read[0]?.id ?? "");
    } catch (error) {
      this.dialog.dialog.close();
      this.notice(`${file.name} could not be imported: ${error.message}.`);
    }
  }
}

const mediaIds = (messages) => messages.flatMap(({ media }) => media.map(({ id }) => id));

/** The question that an answer is to, or the message that kept the answer from coming. */
function questionOf(answer, { messages }) {
  const holder = messages.find(({ media }) => media.some(({ id }) => id === answer.failure?.medium));
  return holder ?? messages.slice(0, messages.indexOf(answer)).findLast(({ role }) => role === "user");
}

/** Takes a message and all after it out of a conversation; returns them. */
function cut({ messages }, message) {
  const at = messages.indexOf(message);
  return at < 0 ? [] : messages.splice(at);
}

new Page(await openStore()).start();
