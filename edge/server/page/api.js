/** The server's interface: which models there are, and a chat's answer as it grows. Source: Reka's v1 chat. */

import { Failure, detailOf } from "./failure.js";

/**
 * @import { SentMessage } from "./conversation.js"
 * @import { Reading } from "./reading.js"
 *
 * @typedef {{ input_tokens: number, output_tokens: number }} Usage
 * @typedef {{ model: string, messages: SentMessage[], temperature?: number, max_tokens?: number, top_p?: number }} Body
 * @typedef {object} Progress - an answer so far, each time with the whole text
 * @property {string} text
 * @property {string} reasoning
 * @property {string} model
 * @property {"stop" | "length" | "context" | null} finish
 * @property {Usage | undefined} usage
 *
 * @typedef {{ id: string, name: string, languages: string[] }} Voice
 * @typedef {{ input: string, voice?: string, language?: string }} Spoken
 *
 * @typedef {{ content?: string, reasoning_content?: string }} Said
 * @typedef {{ finish_reason?: Progress["finish"], chunk: Said }} Answer
 * @typedef {{ responses: Answer[], model: string, usage?: Usage }} Chunk
 */

const PROGRESS = ": progress ";

/**
 * The names of the models that answer. Throws: Failure.
 *
 * @param {string} key - empty where none is needed
 * @returns {Promise<string[]>}
 */
export async function models(key) {
  const response = await ask("v1/models", { headers: headers(key) });
  const found = /** @type {{ id: string }[] | { data: { id: string }[] }} */ (await response.json());
  const list = Array.isArray(found) ? found : found.data; // its form depends on the key's header
  return list.map((model) => model.id);
}

/**
 * The voices that read aloud, without those that are listed once more for each language. Throws: Failure.
 *
 * @param {string} key
 * @returns {Promise<Voice[]>}
 */
export async function voices(key) {
  const response = await ask("v1/audio/voices", { headers: headers(key) });
  const found = /** @type {{ voices: Voice[] }} */ (await response.json());
  return found.voices.filter(({ id }) => !id.includes("@"));
}

/**
 * Has a text spoken; yields its samples as they come: 16 bits, little-endian, mono, 24 kHz. Throws: Failure, AbortError.
 *
 * @param {Spoken} spoken
 * @param {{ key: string, signal: AbortSignal }} options
 * @returns {AsyncGenerator<Uint8Array, void, void>}
 */
export async function* speech(spoken, { key, signal }) {
  const body = JSON.stringify({ model: "tts-1", response_format: "pcm", ...spoken });
  const sent = { method: "POST", headers: { ...headers(key), "content-type": "application/json" }, body, signal };
  const { body: stream } = await ask("v1/audio/speech", sent);
  const reader = stream?.getReader();
  for (;;) {
    const part = await reader?.read();
    if (!part || part.done) return;
    yield part.value;
  }
}

/** Whether the server is there. */
export async function isThere() {
  try {
    return (await fetch("health", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/**
 * Asks, and yields the answer as it grows. Throws: Failure, AbortError.
 *
 * @param {Body} body
 * @param {{ key: string, signal: AbortSignal, onReading: (reading: Reading) => void }} options - onReading: how far the
 *   question is read, before there is an answer
 * @returns {AsyncGenerator<Progress, void, void>}
 */
export async function* chat(body, { key, signal, onReading }) {
  const sent = {
    method: "POST",
    headers: { ...headers(key), "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  };
  const response = await ask("v1/chat", sent);
  if (!response.body) throw new Failure("broken");
  let finish = null;
  for await (const chunk of events(response.body, onReading)) {
    const answer = chunk.responses[0];
    if (!answer) throw new Failure("broken", { detail: detailOf(chunk) });
    finish = answer.finish_reason ?? null;
    const { content, reasoning_content: reasoning } = answer.chunk;
    yield { text: content ?? "", reasoning: reasoning ?? "", model: chunk.model, finish, usage: chunk.usage };
  }
  if (finish === null) throw new Failure("broken");
}

/**
 * @param {string} key
 * @returns {Record<string, string>}
 */
const headers = (key) => (key ? { "x-api-key": key } : {});

/**
 * @param {string} path
 * @param {RequestInit} options
 */
async function ask(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options }).catch((error) => {
    throw error.name === "AbortError" ? error : new Failure("gone");
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const after = Number(response.headers.get("retry-after"));
  throw new Failure("refused", {
    status: response.status,
    detail: detailOf(body),
    retryAfter: after > 0 ? after : null,
  });
}

/**
 * The JSON of each event of a stream.
 *
 * @param {ReadableStream<BufferSource>} stream
 * @param {(reading: Reading) => void} onReading - told the comments of a stream that say how far the question is read
 * @returns {AsyncGenerator<Chunk, void, void>}
 */
async function* events(stream, onReading) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith(PROGRESS)) onReading(JSON.parse(line.slice(PROGRESS.length)));
        if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
      }
    }
  } catch (error) {
    throw error instanceof TypeError
      ? new Failure("broken", { detail: "The connection to the server was lost." })
      : error;
  } finally {
    reader.cancel().catch(() => {});
  }
}
