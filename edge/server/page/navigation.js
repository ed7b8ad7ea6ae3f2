/** Moving between conversations: by the list, by the address, and to what another tab has written. */

import { newConversation } from "./conversation.js";
import { find, isTouch } from "./dom.js";

/**
 * @import { Composer } from "./composer.js"
 * @import { Editing } from "./editing.js"
 * @import { Session } from "./session.js"
 * @import { Sidebar } from "./sidebar.js"
 * @import { Store } from "./store.js"
 * @import { Thread } from "./thread.js"
 *
 * @typedef {{ thread: Thread, composer: Composer, sidebar: Sidebar, editing: Editing }} Shown
 */

/** The id of a conversation in the page's address; empty for a new one. */
export const addressed = () => location.hash.slice(1);

export class Navigation {
  /**
   * @param {Session} session
   * @param {Store} store
   * @param {Shown} shown
   */
  constructor(session, store, { thread, composer, sidebar, editing }) {
    this.session = session;
    this.store = store;
    this.thread = thread;
    this.composer = composer;
    this.sidebar = sidebar;
    this.editing = editing;
    this.turn = 0; // counts what was opened, so that a slow one does not replace a later one
    this.title = find("#title");
  }

  /** @param {string} id - empty for a new conversation */
  go(id) {
    if (addressed() === id) this.open(id);
    else location.hash = id;
  }

  /**
   * Goes to the conversation of that id, a new one where there is none.
   *
   * @param {string} id
   */
  async open(id) {
    this.turn += 1;
    const { turn } = this;
    if (id === "" || id !== this.session.conversation.id) await this.composer.hold(() => this.load(id));
    if (turn !== this.turn) return;
    await this.showHeads();
    if (isTouch()) this.title.focus();
    else this.composer.focus();
  }

  /**
   * Shows a conversation once it was read, unless another was opened meanwhile.
   *
   * @param {string} id
   */
  async load(id) {
    const { turn, session } = this;
    const stored = id && !session.running.has(id) ? await this.store.load(id) : undefined;
    if (turn !== this.turn) return;
    const running = session.running.get(id);
    this.editing.leave();
    session.conversation = running?.conversation ?? stored ?? newConversation();
    for (const message of session.conversation.messages)
      if (message.role === "assistant" && message.end === null && !running) message.end = "interrupted";
    this.thread.show(session.conversation.messages, Boolean(running));
    this.composer.setRunning(Boolean(running));
  }

  /** Shows the list of conversations, and the name of the one on show. */
  async showHeads() {
    const { id, title, messages } = this.session.conversation;
    const shown = title || "New conversation";
    find("#more").hidden = messages.length === 0;
    this.title.textContent = shown;
    document.title = `${shown} – edge`;
    this.sidebar.show(await this.store.heads(), id);
  }

  /** Shows what was said in another tab meanwhile. */
  async lookAgain() {
    const { id, updated } = this.session.conversation;
    const head = (await this.store.heads()).find((other) => other.id === id);
    const isCurrent = !head || head.updated <= updated || this.session.running.has(id);
    // What is being changed would be taken out of the person's hands.
    if (id === this.session.conversation.id && !isCurrent && !this.editing.change)
      await this.composer.hold(() => this.load(id));
    return this.showHeads();
  }
}
