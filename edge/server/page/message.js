/** One message as a person sees it: a question with what is attached to it, or an answer as it grows. */

import { h, icon, iconButton } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { ReadingView } from "./reading.js";

/**
 * @import { Child } from "./dom.js"
 * @import { AnswerMessage, End, UserMessage } from "./conversation.js"
 *
 * @typedef {object} MessageEvents - what a person wants to be done with a message
 * @property {(message: UserMessage | AnswerMessage) => void} again
 * @property {(message: AnswerMessage) => void} goOn
 * @property {(message: UserMessage | AnswerMessage) => void} edit
 * @property {() => void} key - enter the key
 * @property {(text: string) => void} copy
 * @property {(message: AnswerMessage) => void} read - read an answer aloud, or end it
 */

/** @type {Partial<Record<End, string>>} */
const ENDS = {
  length: "It reached the longest answer allowed.",
  context: "The model's context is full.",
  stopped: "Stopped.",
  interrupted: "The page was closed before the answer was whole.",
};
/** @type {(End | null)[]} */
const CUT_OFF = ["length", "stopped", "interrupted"];
const READ = "Read aloud";
const LONG_S = 1; // a wait that is worth a word

/** A question: what was typed, and a place for its media. */
export class UserView {
  /**
   * @param {UserMessage} message
   * @param {MessageEvents} on
   */
  constructor(message, on) {
    this.media = h("div", { class: "media" });
    const text = message.text ? h("p", { class: "plain", dir: "auto" }, message.text) : null;
    const copy = message.text ? copyButton(message, on) : null;
    this.edit = iconButton("edit", "Change this message", () => on.edit(message));
    this.again = wideButton(() => on.again(message), icon("again"), "Ask again");
    const actions = h("div", { class: "actions" }, this.edit, copy, this.again);
    const bubble = h("div", { class: "bubble" }, message.media.length > 0 ? this.media : null, text);
    this.article = h("article", { class: "user", "aria-label": "You" }, bubble, actions);
  }

  /**
   * Shows what can be done with the message now; the buttons stay, so that none loses the focus by it.
   *
   * @param {boolean} isLast
   * @param {boolean} running - whether an answer is being written
   */
  showActions(isLast, running) {
    this.edit.hidden = running;
    this.again.hidden = !isLast || running;
  }
}

/** An answer: what it reasoned, says, and what is known of it. */
export class AnswerView {
  /**
   * @param {AnswerMessage} message
   * @param {MessageEvents} on
   */
  constructor(message, on) {
    this.message = message;
    this.on = on;
    this.body = h("div", { class: "markdown" });
    this.markdown = new MarkdownView(this.body);
    this.waiting = h("p", { class: "waiting", "aria-hidden": "true" }, h("span"), h("span"), h("span"));
    this.reading = new ReadingView();
    this.thoughts = h("p", { class: "plain", dir: "auto" });
    const summary = h("summary", {}, "Reasoning");
    this.reasoning = h("details", { class: "reasoning", hidden: true }, summary, this.thoughts);
    this.failure = h("div", { class: "failure", hidden: true });
    this.facts = h("span", { class: "facts" });
    this.copy = copyButton(message, on);
    this.aloud = iconButton("speak", READ, () => on.read(message));
    this.again = iconButton("again", "Answer anew", () => on.again(message));
    this.more = wideButton(() => on.goOn(message), "Continue");
    const actions = h("div", { class: "actions" }, this.aloud, this.copy, this.again, this.more);
    const bar = h("div", { class: "bar" }, this.facts, actions);
    const parts = [this.reasoning, this.waiting, this.reading.element, this.body, this.failure, bar];
    this.article = h("article", { class: "answer", "aria-label": "Answer" }, parts);
  }

  /** The answer as it is read out. */
  get spoken() {
    // biome-ignore lint/performance/useDomNodeTextContent: read as it is laid out, a block on a line of its own
    return this.body.innerText;
  }

  /** Shows what the answer has become. */
  update() {
    const { message } = this;
    this.markdown.update(message.text);
    this.reasoning.hidden = !message.reasoning;
    this.thoughts.textContent = message.reasoning ?? "";
    this.waiting.hidden = message.text !== "" || message.end !== null;
    this.reading.hide();
    this.facts.textContent = facts(message);
    this.failure.replaceChildren(...this.failureParts());
    this.failure.hidden = !message.failure;
  }

  /** Shows how long the answer has been waited for: an image can keep a small device busy for a minute. */
  tick() {
    if (this.waiting.hidden) return;
    const seconds = Number.parseInt(this.waiting.dataset.seconds ?? "0", 10) + 1;
    this.waiting.dataset.seconds = `${seconds} s`;
  }

  /**
   * As UserView's.
   *
   * @param {boolean} isLast
   * @param {boolean} running
   */
  showActions(isLast, running) {
    const { text, end, failure } = this.message;
    const canAct = isLast && !running && end !== null;
    const ways = this.failure.querySelector(".buttons");
    if (ways instanceof HTMLElement) ways.hidden = !canAct;
    this.copy.hidden = text === "" || end === null;
    this.again.hidden = !canAct || failure !== null;
    this.more.hidden = !canAct || !CUT_OFF.includes(end) || text === "";
  }

  /**
   * Shows whether the answer can be read aloud, and is; the button stays, so that it keeps the focus.
   *
   * @param {boolean} isThere - whether there is a voice
   * @param {boolean} isRead
   */
  showAloud(isThere, isRead) {
    const label = isRead ? "Stop reading aloud" : READ;
    this.aloud.hidden = !isThere || (this.message.text === "" && !isRead);
    if (this.aloud.title === label) return;
    this.aloud.replaceChildren(icon(isRead ? "stop" : "speak"));
    this.aloud.setAttribute("aria-label", label);
    this.aloud.title = label;
  }

  /** @returns {Element[]} */
  failureParts() {
    const { message, on } = this;
    if (!message.failure) return [];
    const { title, text, action } = message.failure;
    const retry = h("button", { type: "button", class: "wide", onclick: () => on.again(message) }, "Try again");
    const buttons = [retry];
    if (action === "edit")
      buttons.unshift(
        h("button", { type: "button", class: "wide", onclick: () => on.edit(message) }, "Change the message"),
      );
    if (action === "key")
      buttons.unshift(h("button", { type: "button", class: "wide", onclick: () => on.key() }, "Enter the key"));
    return [icon("warn"), h("div", {}, h("b", {}, title), h("p", {}, text), h("div", { class: "buttons" }, buttons))];
  }
}

/**
 * @param {UserMessage | AnswerMessage} message
 * @param {MessageEvents} on
 */
function copyButton(message, on) {
  return iconButton("copy", "Copy the text", () => on.copy(message.text));
}

/**
 * @param {() => void} onclick
 * @param {Child[]} children
 */
function wideButton(onclick, ...children) {
  return h("button", { type: "button", class: "quiet wide", onclick }, children);
}

/**
 * Model, tokens and speed of an answer, and how it ended when that is worth a word.
 *
 * @param {AnswerMessage} message
 */
function facts(message) {
  const { end, usage } = message;
  if (end === null || (end === "failed" && message.text === "")) return "";
  const wait = message.wait !== null && message.wait > LONG_S ? `after ${message.wait.toFixed(1)} s` : "";
  const rate = message.rate ? `${message.rate.toFixed(1)} tokens/s` : "";
  const tokens = usage ? `${usage.input_tokens} tokens in, ${usage.output_tokens} out` : "";
  return [ENDS[end], message.model, tokens, wait, rate].filter(Boolean).join(" · ");
}
