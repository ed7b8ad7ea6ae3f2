/** Conversations as files: exported as JSON or Markdown, and read again from JSON. */

import { titleOf } from "./conversation.js";
import { download } from "./dom.js";
import { fileName, fromJson, toJson, toMarkdown } from "./exported.js";
import { Failure } from "./failure.js";
import { blobOf, dataUrl } from "./media.js";

/**
 * @import { Conversation, Medium } from "./conversation.js"
 * @import { ExportedConversation } from "./exported.js"
 * @import { Store } from "./store.js"
 */

const ALL = "edge-conversations";

/**
 * Exports a conversation with its media, those that are still there.
 *
 * @param {Store} store
 * @param {Conversation} conversation
 */
export async function exportJson(store, conversation) {
  save(
    JSON.stringify(await toJson(conversation, heldBy(store)), null, 1),
    "application/json",
    fileName(conversation.title, "json"),
  );
}

/**
 * Exports what was said in a conversation, its media by name alone.
 *
 * @param {Conversation} conversation
 */
export function exportMarkdown(conversation) {
  save(toMarkdown(conversation), "text/markdown", fileName(conversation.title, "md"));
}

/**
 * Exports everything that this browser holds; returns how many conversations that was.
 *
 * @param {Store} store
 */
export async function exportAll(store) {
  const conversations = [];
  for (const { id } of await store.heads()) {
    const conversation = await store.load(id);
    if (conversation) conversations.push(await toJson(conversation, heldBy(store)));
  }
  save(JSON.stringify({ format: ALL, conversations }, null, 1), "application/json", "edge-conversations.json");
  return conversations.length;
}

/**
 * Reads a file that was exported, beside what there is; returns the conversations. Throws: Error in plain words.
 *
 * @param {Store} store
 * @param {File} file
 */
export async function importJson(store, file) {
  const found = parsed(await file.text());
  const read = (found?.format === ALL && Array.isArray(found.conversations) ? found.conversations : [found]).map(
    fromJson,
  );
  for (const { conversation, urls } of read) {
    conversation.title ||= titleOf(conversation.messages);
    for (const [id, url] of urls) await store.saveMedia(conversation.id, id, blobOf(url));
    await store.save(conversation);
  }
  return read.map(({ conversation }) => conversation);
}

/**
 * What gives a stored medium's data: URL. Throws: Failure for one that is gone.
 *
 * @param {Store} store
 */
export function urlsFrom(store) {
  return async (/** @type {Medium} */ medium) => {
    const url = await heldBy(store)(medium);
    if (!url) throw new Failure("lost", { medium });
    return url;
  };
}

/**
 * The same, and null for a medium that is gone.
 *
 * @param {Store} store
 */
function heldBy(store) {
  return async (/** @type {Medium} */ medium) => {
    const blob = await store.blob(medium.id);
    return blob ? dataUrl(blob, medium.type).catch(() => null) : null;
  };
}

/**
 * @param {string} text
 * @returns {(ExportedConversation & { conversations?: ExportedConversation[] }) | null}
 */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("this is not JSON");
  }
}

/**
 * @param {string} text
 * @param {string} type
 * @param {string} name
 */
function save(text, type, name) {
  download(new Blob([text], { type }), name);
}
