/** What went wrong, in plain words, and what a person can do about it. */

/**
 * @import { Medium } from "./conversation.js"
 *
 * @typedef {"retry" | "edit" | "key"} Action - what the button offers: ask again, change the message, enter the key
 * @typedef {{ title: string, text: string, action: Action, medium?: string }} FailureWords - medium: its id
 * @typedef {"gone" | "broken" | "lost" | "refused"} Kind
 * @typedef {object} Circumstances
 * @property {number} [status] - of HTTP
 * @property {string} [detail] - what the server said
 * @property {number | null} [retryAfter] - in seconds
 * @property {Medium | null} [medium] - the one that is lost
 */

/** An answer that did not come or did not end; kind: gone, broken, lost (a medium), or refused with a status. */
export class Failure extends Error {
  /**
   * @param {Kind} kind
   * @param {Circumstances} circumstances
   */
  constructor(kind, { status = 0, detail = "", retryAfter = null, medium = null } = {}) {
    super(detail || kind);
    this.kind = kind;
    this.status = status;
    this.detail = detail;
    this.retryAfter = retryAfter;
    this.medium = medium;
  }

  /** The seconds after which the server asks to try again, null where it does not ask for patience alone. */
  get patience() {
    return this.status === 503 ? this.retryAfter : null;
  }

  /**
   * What is kept with the message.
   *
   * @returns {FailureWords}
   */
  words() {
    if (this.kind === "gone")
      return words(
        "The server cannot be reached",
        "It was stopped, or the network between is down. Your message is kept here; try again when the server is back.",
      );
    if (this.kind === "broken")
      return words("The answer broke off", this.detail || "The server ended it before its end.");
    if (this.medium) return lostWords(this.medium);
    const context = /needs (at least )?(\d+) positions, the context holds (\d+)/.exec(this.detail);
    if (context)
      return words(
        "This conversation is too long for the model",
        `It needs ${context[1] ?? ""}${context[2]} tokens and the model holds ${context[3]}. ` +
          "Start a new conversation, or change an earlier message: nothing is cut away silently.",
        "edit",
      );
    const said = SAID.get(this.status) ?? (this.status >= 500 ? FAILED : REFUSED);
    // Which part of which message it was is a matter for programs.
    const detail = this.detail.replace(/^messages\.\d+\.content(\.\d+\.\w+)?: /, "");
    return { ...said, text: [said.text, detail && `The server says: ${detail}`].filter(Boolean).join(" ") };
  }
}

/**
 * @param {string} title
 * @param {string} text
 * @param {Action} action
 * @returns {FailureWords}
 */
const words = (title, text, action = "retry") => ({ title, text, action });

/** @param {Medium} medium */
function lostWords({ id, name }) {
  const text =
    `${name} is no longer in this browser. Change the message that holds it, or start a new ` +
    "conversation: nothing is left out silently.";
  return { ...words("A file of this conversation is gone", text, "edit"), medium: id };
}

const REFUSED = words("The server did not accept this", "", "edit");
const FAILED = words("The server failed", "It is not your fault; trying again may help.");
const SAID = new Map([
  [
    401,
    words(
      "The server asks for a key",
      "The key is missing or wrong. Enter it in the settings; your message is kept.",
      "key",
    ),
  ],
  [403, words("The server does not answer this page", "It was opened under a name that the server does not know.")],
  [404, words("There is no such model", "Choose another one above.")],
  [408, words("The message took too long to arrive", "The network may be slow; try again, or with smaller files.")],
  [
    413,
    words(
      "This conversation's files are too large",
      "All of them are sent each time. Take some out, or start a new conversation.",
      "edit",
    ),
  ],
  [503, words("The server is busy", "Others are being answered. Try again in a moment.")],
]);

/**
 * What is said of an error that nobody expected.
 *
 * @param {unknown} error
 */
export const reasonOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * An error's detail as one text: a 422 has a list of places and messages.
 *
 * @param {unknown} body - the JSON of an answer
 */
export function detailOf(body) {
  const { detail, error } = /** @type {{ detail?: unknown, error?: { message?: string } }} */ (body ?? {});
  const found = detail ?? error?.message ?? "";
  if (!Array.isArray(found)) return String(found);
  return found.map((problem) => `${problem.loc?.slice(1).join(".")}: ${problem.msg}`).join("; ");
}
