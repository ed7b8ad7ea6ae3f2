/** What the page is about now: the conversation on show, and the answers that are being written in any of them. */

import { newConversation } from "./conversation.js";

/**
 * @import { Answering } from "./answering.js"
 * @import { Conversation } from "./conversation.js"
 *
 * @typedef {{ answering: Answering, conversation: Conversation }} Running - an answer that is being written
 */

export class Session {
  constructor() {
    this.conversation = newConversation();
    /** @type {Map<string, Running>} */
    this.running = new Map(); // by the ids of the conversations
  }

  /** Whether an answer is being written in the conversation on show. */
  get isRunning() {
    return this.running.has(this.conversation.id);
  }

  /** @param {string} id - of a conversation */
  stop(id) {
    this.running.get(id)?.answering.stop();
  }

  stopAll() {
    for (const { answering } of this.running.values()) answering.stop();
  }
}
