/** One answer from the question to its end: asked, waited for, written down, stopped or failed. */

import { chat } from "./api.js";
import { Failure } from "./failure.js";

const MAX_TRIES = 6;
const LEAST_S = 0.3; // what was faster is not timed

/** A running answer; stop() ends it. `message` is filled in as it grows. */
export class Answering {
  /** on: {change(), wait(seconds), end()}. */
  constructor(message, on) {
    this.message = message;
    this.on = on;
    this.abort = new AbortController();
  }

  stop() {
    this.abort.abort();
  }

  /** Asks until there is an answer, a failure or no patience left; never throws. */
  async run(makeBody, key) {
    const { message } = this;
    const before = message.text;
    Object.assign(message, { end: null, failure: null });
    try {
      const body = await makeBody();
      await this.patiently(() => this.read(body, key, before));
    } catch (error) {
      const stopped = error.name === "AbortError";
      message.end = stopped ? "stopped" : "failed";
      if (!stopped) message.failure = (error instanceof Failure ? error : unexpected(error)).words();
      this.failure = error;
    }
    this.on.end(this.failure);
  }

  async read(body, key, before) {
    const { message } = this;
    const begun = performance.now();
    let first = null; // when the first tokens were there, and how many
    for await (const { text, reasoning, model, finish, usage } of chat(body, { key, signal: this.abort.signal })) {
      first ??= { at: performance.now(), n: usage?.output_tokens ?? 0 };
      Object.assign(message, { text: before + text, model, usage, end: finish });
      if (reasoning) message.reasoning = reasoning;
      const seconds = (performance.now() - first.at) / 1000;
      message.wait = (first.at - begun) / 1000;
      message.rate = usage && seconds > LEAST_S ? (usage.output_tokens - first.n) / seconds : null;
      this.on.change();
    }
  }

  /** Tries again while the server says that it is busy, as often and as late as it asks for. */
  async patiently(act) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await act();
      } catch (error) {
        if (!error.isBusy || tries === MAX_TRIES) throw error;
        this.on.wait(error.retryAfter);
        await pause(error.retryAfter * 1000, this.abort.signal);
      }
    }
  }
}

function unexpected(error) {
  return new Failure("broken", { detail: error.message });
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        reject(signal.reason);
      },
      { once: true },
    );
  });
}
