/** The conversations of this browser as they change: written, taken out, and word of it where its space is used up. */

import { mediaIds } from "./conversation.js";

/**
 * @import { Conversation, Message } from "./conversation.js"
 * @import { Attached } from "./media.js"
 * @import { Notices } from "./notices.js"
 * @import { Store } from "./store.js"
 */

const FULL =
  "This browser's space for the page is used up: what is new is lost when the page closes. " +
  "Export it, or delete old conversations.";

export class Library {
  /**
   * @param {Store} store
   * @param {Notices} notices
   */
  constructor(store, notices) {
    this.store = store;
    this.notices = notices;
    /** @type {Set<string>} */
    this.deleted = new Set(); // ids of conversations whose answers may still end
  }

  /** @param {Conversation} conversation */
  async save(conversation) {
    if (this.deleted.has(conversation.id)) return;
    this.tell(await this.store.save(conversation));
  }

  /**
   * @param {Conversation} conversation
   * @param {Attached[]} media
   */
  async saveMedia({ id }, media) {
    const kept = await Promise.all(media.map(({ medium, blob }) => this.store.saveMedia(id, medium.id, blob)));
    this.tell(!kept.includes(false));
  }

  /** @param {boolean} kept - whether the browser kept what was written */
  tell(kept) {
    if (!kept && this.store.keeps) this.notices.show(FULL);
  }

  /**
   * Takes the media of messages that are gone out of the store, but for those that another message holds.
   *
   * @param {Conversation} conversation
   * @param {Message[]} gone
   */
  forget({ messages }, gone) {
    const held = new Set(mediaIds(messages));
    return this.store.removeMedia(mediaIds(gone).filter((id) => !held.has(id)));
  }

  /** @param {string} id */
  remove(id) {
    this.deleted.add(id);
    return this.store.remove(id);
  }

  /** @param {Iterable<string>} running - ids of conversations whose answers are being written */
  clear(running) {
    for (const id of running) this.deleted.add(id);
    return this.store.clear();
  }
}
