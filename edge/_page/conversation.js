/** A conversation as plain data, what is sent of it, and the two forms it is exported in. */

import { newId } from "./dom.js";

const FORMAT = "edge-conversation";
const ENDS = ["stop", "length", "context", "stopped", "interrupted"];

export function newConversation() {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, messages: [] };
}

/** media: {id, kind, name, type, size, note}; kind: image, video, audio or pdf. */
export function userMessage(text, media) {
  return { id: newId(), role: "user", text, media, at: Date.now() };
}

/** end: stop, length, context, stopped, interrupted, failed, or null while it is being written. */
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

/** A short name from the first thing that was said. */
export function titleOf(messages) {
  const first = messages.find((message) => message.role === "user");
  if (!first) return "New conversation";
  const text = first.text.replace(/\s+/g, " ").trim() || first.media[0]?.name || "New conversation";
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

/** The messages as the server takes them; `urlOf` gives a medium's data: URL, or null: then its name stands there. */
export async function requestMessages(messages, system, urlOf) {
  const sent = system.trim() ? [{ role: "system", content: system }] : [];
  for (const message of messages) {
    if (message.role === "assistant" && message.text === "") continue;
    sent.push({ role: message.role, content: await contentOf(message, urlOf) });
  }
  return sent;
}

async function contentOf(message, urlOf) {
  if (message.media.length === 0) return message.text;
  const parts = [];
  for (const medium of message.media) {
    const kind = `${medium.kind}_url`;
    const url = await urlOf(medium);
    parts.push(url === null ? { type: "text", text: `[${medium.kind}: ${medium.name}]` } : { type: kind, [kind]: url });
  }
  if (message.text) parts.push({ type: "text", text: message.text });
  return parts;
}

/** JSON whose messages can be sent to the server as they are; names and times stand beside. */
export async function toJson(conversation, urlOf) {
  const messages = [];
  for (const message of conversation.messages) {
    const content = await contentOf(message, urlOf);
    const said = { role: message.role, content, at: new Date(message.at).toISOString() };
    if (message.media.length > 0)
      said.names = message.media.filter((_, i) => content[i].type !== "text").map((medium) => medium.name);
    if (message.role === "assistant") Object.assign(said, { model: message.model, end: message.end });
    messages.push(said);
  }
  const { title, created } = conversation;
  return { format: FORMAT, title, created: new Date(created).toISOString(), messages };
}

/** A conversation from such JSON, and the URLs of its media by their ids. Throws: Error in plain words. */
export function fromJson(found) {
  if (found?.format !== FORMAT || !Array.isArray(found.messages))
    throw new Error("this is not a conversation exported from this page");
  const urls = new Map();
  const messages = found.messages.map((said) => messageOf(said, urls));
  const created = Date.parse(found.created) || Date.now();
  const title = typeof found.title === "string" ? found.title : "";
  return { conversation: { ...newConversation(), title, created, messages }, urls };
}

function messageOf(said, urls) {
  if (!["user", "assistant"].includes(said?.role))
    throw new Error(`a message's role should be user or assistant, it is ${String(said?.role).slice(0, 40)}`);
  const parts = Array.isArray(said.content) ? said.content : [{ type: "text", text: String(said.content ?? "") }];
  const text = parts
    .filter((part) => part?.type === "text")
    .map((part) => String(part.text))
    .join("\n");
  const media = parts
    .filter((part) => part?.type !== "text")
    .map((part, i) => mediumOf(part, String(said.names?.[i] ?? ""), urls));
  const message =
    said.role === "user"
      ? userMessage(text, media)
      : { ...answerMessage(String(said.model ?? "")), text, end: ENDS.includes(said.end) ? said.end : "stop" };
  return { ...message, at: Date.parse(said.at) || message.at };
}

function mediumOf(part, name, urls) {
  const kind = String(part?.type).replace(/_url$/, "");
  const url = part?.[`${kind}_url`];
  const type = /^data:([\w+./-]+);base64,/.exec(url ?? "")?.[1] ?? "";
  const isRight =
    kind === "pdf"
      ? type === "application/pdf"
      : ["image", "video", "audio"].includes(kind) && type.startsWith(`${kind}/`);
  if (!isRight)
    throw new Error(
      `a part should hold a picture, video, sound or PDF as a data: URL, it is ${String(part?.type).slice(0, 40)}`,
    );
  const id = newId();
  urls.set(id, url);
  return { id, kind, name, type, size: Math.floor((url.length * 3) / 4), note: "" };
}

/** The text of a conversation as Markdown, its media by name. */
export function toMarkdown(conversation) {
  const sections = conversation.messages.map((message) => {
    const who = message.role === "user" ? "You" : message.model || "Answer";
    const media = message.media.map((medium) => `*[${medium.kind}: ${medium.name}]*`);
    return [`## ${who}`, ...media, message.text].filter(Boolean).join("\n\n");
  });
  return `${[`# ${conversation.title || titleOf(conversation.messages)}`, ...sections].join("\n\n")}\n`;
}

/** A file's name from a title. */
export function fileName(title, ending) {
  const name = title
    .normalize("NFKD")
    .replace(/[^\w-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 40)
    .toLowerCase();
  return `${name || "conversation"}.${ending}`;
}
