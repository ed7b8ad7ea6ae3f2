/** What went wrong, in plain words, and what a person can do about it. */

/** An answer that did not come or did not end; kind: gone, broken, lost (a medium), or refused with a status. */
export class Failure extends Error {
  constructor(kind, { status = 0, detail = "", retryAfter = null, medium = null } = {}) {
    super(detail || kind);
    this.kind = kind;
    this.status = status;
    this.detail = detail;
    this.retryAfter = retryAfter;
    this.medium = medium;
  }

  /** Whether the server only asks for patience. */
  get isBusy() {
    return this.status === 503 && this.retryAfter !== null;
  }

  /** What is kept with the message: {title, text, action}, and the id of the medium that it is about. */
  words() {
    if (this.kind === "gone")
      return words(
        "The server cannot be reached",
        "It was stopped, or the network between is down. Your message is kept here; try again when the server is back.",
      );
    if (this.kind === "broken")
      return words("The answer broke off", this.detail || "The server ended it before its end.");
    if (this.kind === "lost")
      return {
        ...words(
          "A file of this conversation is gone",
          `${this.medium.name} is no longer in this browser. Change the message that holds it, or start a new ` +
            "conversation: nothing is left out silently.",
          "edit",
        ),
        medium: this.medium.id,
      };
    const context = /needs (at least )?(\d+) positions, the context holds (\d+)/.exec(this.detail);
    if (context)
      return words(
        "This conversation is too long for the model",
        `It needs ${context[1] ?? ""}${context[2]} tokens and the model holds ${context[3]}. ` +
          "Start a new conversation, or change an earlier message: nothing is cut away silently.",
        "edit",
      );
    const [title, text, action] = SAID[this.status] ?? (this.status >= 500 ? SAID[500] : SAID[400]);
    // Which part of which message it was is a matter for programs.
    const detail = this.detail.replace(/^messages\.\d+\.content(\.\d+\.\w+)?: /, "");
    return words(title, [text, detail && `The server says: ${detail}`].filter(Boolean).join(" "), action);
  }
}

const words = (title, text, action = "retry") => ({ title, text, action });

const SAID = {
  400: ["The server did not take this", "", "edit"],
  401: [
    "The server asks for a key",
    "The key is missing or wrong. Enter it in the settings; your message is kept.",
    "key",
  ],
  403: ["The server does not answer this page", "It was opened under a name that the server does not know.", "retry"],
  404: ["There is no such model", "Choose another one above.", "retry"],
  408: ["The message took too long to arrive", "The network may be slow; try again, or with smaller files.", "retry"],
  413: [
    "This conversation's files are too large",
    "All of them are sent each time. Take some out, or start a new conversation.",
    "edit",
  ],
  422: ["The server did not take this", "", "edit"],
  500: ["The server failed", "It is not your fault; trying again may help.", "retry"],
  503: ["The server is busy", "Others are being answered. Try again in a moment.", "retry"],
};

/** An error's detail as one text: a 422 has a list of places and messages. */
export function detailOf(body) {
  const detail = body?.detail ?? body?.error?.message ?? "";
  if (!Array.isArray(detail)) return String(detail);
  return detail.map((problem) => `${problem.loc?.slice(1).join(".")}: ${problem.msg}`).join("; ");
}
