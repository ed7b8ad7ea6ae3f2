/** One answer from the question to its end: asked, waited for, written down, stopped or failed. */

import { chat } from "./api.js";
import { Failure, reasonOf } from "./failure.js";

/**
 * @import { Body } from "./api.js"
 * @import { AnswerMessage } from "./conversation.js"
 * @import { Reading } from "./reading.js"
 *
 * @typedef {object} AnsweringEvents
 * @property {() => void} change - the message has grown
 * @property {(reading: Reading) => void} read - the question is read so far
 * @property {(seconds: number) => void} wait - the server is busy, and is asked again after that
 * @property {(failure: Failure | null) => void} end
 */

const MAX_TRIES = 6;
const LEAST_S = 0.3; // what was faster is not timed

/** A running answer; stop() ends it. `message` is filled in as it grows. */
export class Answering {
  /**
   * @param {AnswerMessage} message
   * @param {AnsweringEvents} on
   */
  constructor(message, on) {
    this.message = message;
    this.on = on;
    this.abort = new AbortController();
  }

  stop() {
    this.abort.abort();
  }

  /**
   * Asks until there is an answer, a failure or no patience left; never throws.
   *
   * @param {() => Promise<Body>} makeBody
   * @param {string} key
   */
  async run(makeBody, key) {
    const { message } = this;
    const before = message.text;
    let failure = null;
    Object.assign(message, { end: null, failure: null });
    try {
      const body = await makeBody();
      await this.patiently(() => this.read(body, key, before));
    } catch (error) {
      const stopped = error instanceof Error && error.name === "AbortError";
      message.end = stopped ? "stopped" : "failed";
      if (!stopped) {
        failure = error instanceof Failure ? error : new Failure("broken", { detail: reasonOf(error) });
        message.failure = failure.words();
      }
    }
    this.on.end(failure);
  }

  /**
   * @param {Body} body
   * @param {string} key
   * @param {string} before - what the message says already
   */
  async read(body, key, before) {
    const { message } = this;
    const begun = performance.now();
    let first = null; // when the first tokens were there, and how many
    const options = { key, signal: this.abort.signal, onReading: this.on.read };
    for await (const { text, reasoning, model, finish, usage } of chat(body, options)) {
      first ??= { at: performance.now(), n: usage?.output_tokens ?? 0 };
      Object.assign(message, { text: before + text, model, usage, end: finish });
      if (reasoning) message.reasoning = reasoning;
      const seconds = (performance.now() - first.at) / 1000;
      message.wait = (first.at - begun) / 1000;
      message.rate = usage && seconds > LEAST_S ? (usage.output_tokens - first.n) / seconds : null;
      this.on.change();
    }
  }

  /**
   * Tries again while the server says that it is busy, as often and as late as it asks for.
   *
   * @param {() => Promise<void>} act
   */
  async patiently(act) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await act();
      } catch (error) {
        const seconds = error instanceof Failure ? error.patience : null;
        if (seconds === null || tries === MAX_TRIES) throw error;
        this.on.wait(seconds);
        await pause(seconds * 1000, this.abort.signal);
      }
    }
  }
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 */
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
