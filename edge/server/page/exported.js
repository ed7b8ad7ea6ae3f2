/** The two forms in which a conversation is exported, JSON and Markdown, and the way back from JSON. */

import { answerMessage, contentOf, newConversation, titleOf, userMessage } from "./conversation.js";
import { newId } from "./dom.js";

/**
 * @import { Conversation, End, Medium, MediumKind, Message, Part, UrlOf } from "./conversation.js"
 *
 * @typedef {object} ExportedMessage - of JSON that may hold anything
 * @property {string} [role]
 * @property {string | Part[]} [content]
 * @property {string} [at]
 * @property {(string | undefined)[]} [names] - of its media
 * @property {string} [model]
 * @property {End | null} [end]
 *
 * @typedef {object} ExportedConversation - of JSON that may hold anything
 * @property {string} [format]
 * @property {string} [title]
 * @property {string} [created]
 * @property {ExportedMessage[]} [messages]
 */

const FORMAT = "edge-conversation";
const KINDS = ["image", "video", "audio", "pdf"];
/** @type {End[]} */
const ENDS = ["stop", "length", "context", "stopped", "interrupted"];

/**
 * JSON whose messages can be sent to the server as they are; names and times stand beside.
 *
 * @param {Conversation} conversation
 * @param {UrlOf} urlOf
 * @returns {Promise<ExportedConversation>}
 */
export async function toJson(conversation, urlOf) {
  /** @type {ExportedMessage[]} */
  const messages = [];
  for (const message of conversation.messages) {
    const content = await contentOf(message, urlOf);
    /** @type {ExportedMessage} */
    const said = { role: message.role, content, at: new Date(message.at).toISOString() };
    if (typeof content !== "string")
      said.names = message.media.filter((_, i) => content[i]?.type !== "text").map((medium) => medium.name);
    if (message.role === "assistant") Object.assign(said, { model: message.model, end: message.end });
    messages.push(said);
  }
  const { title, created } = conversation;
  return { format: FORMAT, title, created: new Date(created).toISOString(), messages };
}

/**
 * A conversation from such JSON, and the URLs of its media by their ids. Throws: Error in plain words.
 *
 * @param {ExportedConversation | null | undefined} found
 */
export function fromJson(found) {
  if (found?.format !== FORMAT || !Array.isArray(found.messages))
    throw new Error("this is not a conversation exported from this page");
  /** @type {Map<string, string>} */
  const urls = new Map();
  const messages = found.messages.map((said) => messageOf(said, urls));
  const created = Date.parse(found.created ?? "") || Date.now();
  const title = typeof found.title === "string" ? found.title : "";
  return { conversation: { ...newConversation(), title, created, messages }, urls };
}

/**
 * @param {ExportedMessage | null} said
 * @param {Map<string, string>} urls - gets those of its media
 * @returns {Message}
 */
function messageOf(said, urls) {
  if (said?.role !== "user" && said?.role !== "assistant")
    throw new Error(`a message's role should be user or assistant, it is ${String(said?.role).slice(0, 40)}`);
  const parts = Array.isArray(said.content) ? said.content : [{ type: "text", text: String(said.content ?? "") }];
  const text = parts
    .filter((part) => part?.type === "text")
    .map((part) => String(part.text))
    .join("\n");
  const media = parts
    .filter((part) => part?.type !== "text")
    .map((part, i) => mediumOf(part, String(said.names?.[i] ?? ""), urls));
  const end = ENDS.find((end) => end === said.end) ?? "stop";
  const message =
    said.role === "user" ? userMessage(text, media) : { ...answerMessage(String(said.model ?? "")), text, end };
  return { ...message, at: Date.parse(said.at ?? "") || message.at };
}

/**
 * @param {Part | null} part
 * @param {string} name
 * @param {Map<string, string>} urls - gets its own
 * @returns {Medium}
 */
function mediumOf(part, name, urls) {
  const kind = kindOf(part);
  const url = String((kind && part?.[`${kind}_url`]) ?? "");
  const type = /^data:([\w+./-]+);base64,/.exec(url)?.[1] ?? "";
  const isRight = kind === "pdf" ? type === "application/pdf" : type.startsWith(`${kind}/`);
  if (kind === null || !isRight)
    throw new Error(
      `a part should hold a picture, a video, audio or a PDF as a data: URL, it is ${String(part?.type).slice(0, 40)}`,
    );
  const id = newId();
  urls.set(id, url);
  return { id, kind, name, type, size: Math.floor((url.length * 3) / 4), note: "" };
}

/**
 * @param {Part | null} part
 * @returns {MediumKind | null}
 */
function kindOf(part) {
  const kind = String(part?.type).replace(/_url$/, "");
  return KINDS.includes(kind) ? /** @type {MediumKind} */ (kind) : null;
}

/**
 * The text of a conversation as Markdown, its media by name.
 *
 * @param {Conversation} conversation
 */
export function toMarkdown(conversation) {
  const sections = conversation.messages.map((message) => {
    const who = message.role === "user" ? "You" : message.model || "Answer";
    const media = message.media.map((medium) => `*[${medium.kind}: ${medium.name}]*`);
    return [`## ${who}`, ...media, message.text].filter(Boolean).join("\n\n");
  });
  return `${[`# ${conversation.title || titleOf(conversation.messages)}`, ...sections].join("\n\n")}\n`;
}

/**
 * A file's name from a title.
 *
 * @param {string} title
 * @param {string} ending
 */
export function fileName(title, ending) {
  const name = title
    .normalize("NFKD")
    .replace(/[^\w-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 40)
    .toLowerCase();
  return `${name || "conversation"}.${ending}`;
}
