/** An earlier message being changed: its words and files in the field, the draft that was there put back afterwards. */

import { questionOf } from "./conversation.js";
import { find } from "./dom.js";

/**
 * @import { Composer, Draft } from "./composer.js"
 * @import { Medium, Message } from "./conversation.js"
 * @import { Attached } from "./media.js"
 * @import { Notices } from "./notices.js"
 * @import { Session } from "./session.js"
 * @import { Store } from "./store.js"
 *
 * @typedef {{ message: Message, before: Draft }} Change - the message that the next one replaces, the draft until then
 */

export class Editing {
  /**
   * @param {Session} session
   * @param {Store} store
   * @param {Composer} composer
   * @param {Notices} notices
   */
  constructor(session, store, composer, notices) {
    this.session = session;
    this.store = store;
    this.composer = composer;
    this.notices = notices;
    this.line = find("#editing");
    /** @type {Change | null} */
    this.change = null;
    find("#editing button").addEventListener("click", () => this.leave());
  }

  /**
   * Puts a message into the field, or the question that an answer is to.
   *
   * @param {Message} message
   */
  begin(message) {
    if (this.session.isRunning) return;
    const asked = message.role === "user" ? message : questionOf(message, this.session.conversation);
    if (!asked) return;
    const change = { message: asked, before: this.change?.before ?? this.composer.draft };
    this.change = change;
    this.composer.set({ text: asked.text });
    this.line.hidden = false;
    this.composer.focus();
    // After the words: they must not be put in place when others were already typed there.
    if (asked.media.length > 0) this.composer.hold(() => this.putBack(asked.media, change));
  }

  /** Begins to change the last question. */
  beginLast() {
    const last = this.session.conversation.messages.findLast(({ role }) => role === "user");
    if (last) this.begin(last);
  }

  /**
   * Attaches the media of the message that is being changed, those that are still there.
   *
   * @param {Medium[]} media
   * @param {Change} change
   */
  async putBack(media, change) {
    /** @type {Attached[]} */
    const found = [];
    for (const medium of media) {
      const blob = await this.store.blob(medium.id);
      if (blob) found.push({ medium, blob });
    }
    if (this.change !== change) return;
    this.composer.attachments.putFirst(found);
    const gone = media.filter(({ id }) => !found.some(({ medium }) => medium.id === id));
    if (gone.length > 0) this.notices.show(`No longer in this browser: ${gone.map(({ name }) => name).join(", ")}.`);
  }

  /** Ends the change because the message was sent, and empties the field; returns the message that is replaced. */
  finish() {
    const { change } = this;
    this.change = null;
    this.line.hidden = true;
    this.composer.set(change?.before);
    return change?.message ?? null;
  }

  /** Goes back to what was being written before an earlier message was to be changed. */
  leave() {
    this.line.hidden = true;
    if (!this.change) return;
    this.composer.set(this.change.before);
    this.change = null;
    this.composer.focus();
  }
}
