/** A conversation as plain data, and what is sent of it. */

import { newId } from "./dom.js";

/**
 * @import { Usage } from "./api.js"
 * @import { FailureWords } from "./failure.js"
 *
 * @typedef {"image" | "video" | "audio" | "pdf"} MediumKind
 * @typedef {object} Medium - a file that was attached; its bytes are in the store
 * @property {string} id
 * @property {MediumKind} kind
 * @property {string} name
 * @property {string} type - of MIME
 * @property {number} size - in bytes
 * @property {string} note - what a person may want to know of it
 *
 * @typedef {"stop" | "length" | "context" | "stopped" | "interrupted" | "failed"} End
 * @typedef {{ id: string, role: "user", text: string, media: Medium[], at: number }} UserMessage
 * @typedef {object} AnswerMessage
 * @property {string} id
 * @property {"assistant"} role
 * @property {string} text
 * @property {Medium[]} media - none: models answer in words
 * @property {number} at - when it was begun, in milliseconds since 1970
 * @property {string} model
 * @property {End | null} end - null while it is being written
 * @property {FailureWords | null} failure
 * @property {Usage | null} [usage]
 * @property {number | null} wait - seconds until the first token
 * @property {number | null} rate - tokens a second after it
 * @property {string} [reasoning]
 * @typedef {UserMessage | AnswerMessage} Message
 *
 * @typedef {{ id: string, title: string, created: number, updated: number }} Head - times in milliseconds since 1970
 * @typedef {Head & { messages: Message[] }} Conversation
 *
 * @typedef {{ type: string, text?: string, image_url?: string, video_url?: string, audio_url?: string,
 *   pdf_url?: string }} Part
 * @typedef {{ role: "system" | "user" | "assistant", content: string | Part[] }} SentMessage
 * @typedef {(medium: Medium) => Promise<string | null>} UrlOf - a medium's data: URL; null: its name is sent in its place
 */

/** @returns {Conversation} */
export function newConversation() {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, messages: [] };
}

/**
 * @param {string} text
 * @param {Medium[]} media
 * @returns {UserMessage}
 */
export function userMessage(text, media) {
  return { id: newId(), role: "user", text, media, at: Date.now() };
}

/**
 * An answer of which nothing is written yet.
 *
 * @param {string} model
 * @returns {AnswerMessage}
 */
export function answerMessage(model) {
  return {
    id: newId(),
    role: "assistant",
    text: "",
    media: [],
    at: Date.now(),
    model,
    end: null,
    failure: null,
    usage: null,
    wait: null,
    rate: null,
  };
}

/**
 * A short name from the first thing that was said.
 *
 * @param {Message[]} messages
 */
export function titleOf(messages) {
  const first = messages.find((message) => message.role === "user");
  if (!first) return "New conversation";
  const text = first.text.replace(/\s+/g, " ").trim() || first.media[0]?.name || "New conversation";
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

/**
 * The ids of all media of some messages.
 *
 * @param {Message[]} messages
 */
export const mediaIds = (messages) => messages.flatMap(({ media }) => media.map(({ id }) => id));

/**
 * The question that an answer is to, or the message that kept the answer from coming.
 *
 * @param {AnswerMessage} answer
 * @param {Conversation} conversation
 * @returns {Message | undefined}
 */
export function questionOf(answer, { messages }) {
  const holder = messages.find(({ media }) => media.some(({ id }) => id === answer.failure?.medium));
  return holder ?? messages.slice(0, messages.indexOf(answer)).findLast(({ role }) => role === "user");
}

/**
 * Takes a message and all after it out of a conversation; returns them.
 *
 * @param {Conversation} conversation
 * @param {Message} message
 */
export function cut({ messages }, message) {
  const at = messages.indexOf(message);
  return at < 0 ? [] : messages.splice(at);
}

/**
 * The messages as the server accepts them.
 *
 * @param {Message[]} messages
 * @param {string} system - the system prompt; empty for none
 * @param {UrlOf} urlOf
 */
export async function requestMessages(messages, system, urlOf) {
  /** @type {SentMessage[]} */
  const sent = system.trim() ? [{ role: "system", content: system }] : [];
  for (const message of messages) {
    if (message.role === "assistant" && message.text === "") continue;
    sent.push({ role: message.role, content: await contentOf(message, urlOf) });
  }
  return sent;
}

/**
 * What a message holds, as the server accepts it: its media, then its text.
 *
 * @param {Message} message
 * @param {UrlOf} urlOf
 */
export async function contentOf(message, urlOf) {
  if (message.media.length === 0) return message.text;
  /** @type {Part[]} */
  const parts = [];
  for (const medium of message.media) {
    const kind = `${medium.kind}_url`;
    const url = await urlOf(medium);
    parts.push(url === null ? { type: "text", text: `[${medium.kind}: ${medium.name}]` } : { type: kind, [kind]: url });
  }
  if (message.text) parts.push({ type: "text", text: message.text });
  return parts;
}
