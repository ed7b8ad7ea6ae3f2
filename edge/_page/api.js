/** The server's interface: which models there are, and a chat's answer as it grows. Source: Reka's v1 chat. */

import { Failure, detailOf } from "./failure.js";

/** The names of the models that answer. Throws: Failure. */
export async function models(key) {
  const response = await ask("v1/models", { headers: headers(key) });
  const list = await response.json();
  return (list.data ?? list).map((model) => model.id); // its form depends on the key's header
}

/** Whether the server is there. */
export async function isThere() {
  try {
    return (await fetch("health", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** Yields {text, reasoning, model, finish, usage}, each with the whole text so far. Throws: Failure, AbortError. */
export async function* chat(body, { key, signal }) {
  const sent = {
    method: "POST",
    headers: { ...headers(key), "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  };
  const response = await ask("v1/chat", sent);
  let finish = null;
  for await (const chunk of events(response.body)) {
    const answer = chunk.responses[0];
    if (!answer) throw new Failure("broken", { detail: detailOf(chunk) });
    finish = answer.finish_reason ?? null;
    const { content, reasoning_content: reasoning } = answer.chunk;
    yield { text: content ?? "", reasoning: reasoning ?? "", model: chunk.model, finish, usage: chunk.usage };
  }
  if (finish === null) throw new Failure("broken");
}

const headers = (key) => (key ? { "x-api-key": key } : {});

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Failure("gone");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const after = Number(response.headers.get("retry-after"));
  throw new Failure("refused", {
    status: response.status,
    detail: detailOf(body),
    retryAfter: after > 0 ? after : null,
  });
}

/** The JSON of each event of a stream. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  } catch (error) {
    throw error.name === "TypeError"
      ? new Failure("broken", { detail: "The connection to the server was lost." })
      : error;
  } finally {
    reader.cancel().catch(() => {});
  }
}
