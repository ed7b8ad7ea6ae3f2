/** The messages of a conversation in order, redrawn only where they changed, and scrolled to what is new. */

import { copyText, find, h, icon } from "./dom.js";
import { AnswerView, UserView } from "./message.js";
import { preview } from "./preview.js";
import { listenToViewer, viewImage } from "./viewer.js";

/**
 * @import { Aloud } from "./aloud.js"
 * @import { AnswerMessage, Medium, Message } from "./conversation.js"
 * @import { MessageEvents } from "./message.js"
 * @import { Reading } from "./reading.js"
 *
 * @typedef {object} ThreadSources
 * @property {(medium: Medium) => Promise<Blob | undefined>} blob
 * @property {(text: string) => void} say
 * @property {() => Aloud} aloud
 * @typedef {Omit<MessageEvents, "copy"> & ThreadSources} ThreadEvents
 */

const NEAR_PX = 80;

export class Thread {
  /** @param {ThreadEvents} on */
  constructor(on) {
    this.on = { ...on, copy: (/** @type {string} */ text) => this.copy(text) };
    this.scroller = find("#scroller");
    this.list = find("#messages");
    this.newest = find("#newest");
    this.welcome = find("#welcome");
    /** @type {Map<string, UserView | AnswerView>} */
    this.shown = new Map(); // by the ids of their messages
    /** @type {string[]} */
    this.urls = [];
    this.follows = true;
    this.scroller.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.scroller;
      this.follows = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      this.newest.hidden = this.follows;
    });
    this.newest.addEventListener("click", () => this.toEnd());
    // The field grows with what is written in it, and a phone's keyboard comes up.
    new ResizeObserver(() => this.follow()).observe(this.scroller);
    this.list.addEventListener("click", (event) => this.copyCode(event));
    listenToViewer();
  }

  /**
   * Shows a conversation from its beginning to its end.
   *
   * @param {Message[]} messages
   * @param {boolean} running - whether an answer is being written
   */
  show(messages, running) {
    for (const url of this.urls.splice(0)) URL.revokeObjectURL(url);
    this.shown.clear();
    this.list.replaceChildren();
    for (const message of messages) this.add(message);
    this.refresh(messages, running);
    this.toEnd();
  }

  /** @param {Message} message */
  add(message) {
    this.welcome.hidden = true;
    const view = message.role === "user" ? new UserView(message, this.on) : new AnswerView(message, this.on);
    if (view instanceof UserView) for (const medium of message.media) this.showMedium(view.media, medium);
    this.shown.set(message.id, view);
    this.list.append(view.article);
    if (message.role === "assistant") this.update(message);
  }

  /**
   * Takes out the messages that are not in the conversation any more, and shows who may do what now.
   *
   * @param {Message[]} messages
   * @param {boolean} running - whether an answer is being written
   */
  refresh(messages, running) {
    const there = new Set(messages.map((message) => message.id));
    for (const [id, { article }] of this.shown) {
      if (there.has(id)) continue;
      article.remove();
      this.shown.delete(id);
    }
    this.welcome.hidden = messages.length > 0;
    messages.forEach((message, i) => {
      this.shown.get(message.id)?.showActions(i === messages.length - 1, running);
    });
  }

  /**
   * What an answer says, as it is read out.
   *
   * @param {AnswerMessage} message
   */
  spoken(message) {
    return this.answer(message)?.spoken ?? message.text;
  }

  /**
   * Shows what an answer has become.
   *
   * @param {AnswerMessage} message
   */
  update(message) {
    const view = this.answer(message);
    if (!view) return;
    view.update();
    this.showAloudOf(view);
    this.follow();
  }

  /** Shows which answers can be read aloud, and which is. */
  showAloud() {
    for (const view of this.shown.values()) if (view instanceof AnswerView) this.showAloudOf(view);
  }

  /** @param {AnswerView} view */
  showAloudOf(view) {
    const aloud = this.on.aloud();
    view.showAloud(aloud.isThere, aloud.isReading(view.message));
  }

  /**
   * Shows that a second more has been waited for an answer.
   *
   * @param {AnswerMessage} message
   */
  tick(message) {
    this.answer(message)?.tick();
  }

  /**
   * Shows how far the question of an answer is read.
   *
   * @param {AnswerMessage} message
   * @param {Reading} reading
   */
  read(message, reading) {
    this.answer(message)?.reading.show(reading);
    this.follow();
  }

  /** @param {AnswerMessage} message */
  answer(message) {
    const view = this.shown.get(message.id);
    return view instanceof AnswerView ? view : undefined;
  }

  /** Stays at the end where it was there. */
  follow() {
    if (this.follows) this.toEnd();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.follows = true;
    this.newest.hidden = true;
  }

  /**
   * Puts a medium into its place once it was read from the store.
   *
   * @param {HTMLElement} place
   * @param {Medium} medium
   */
  async showMedium(place, medium) {
    const figure = h("figure", { class: medium.kind });
    place.append(figure);
    const blob = await this.on.blob(medium);
    if (!blob)
      return figure.append(h("span", { class: "sign" }, icon("warn"), `${medium.name}: no longer in this browser`));
    const shown = preview(medium, blob);
    if (shown instanceof HTMLImageElement || shown instanceof HTMLAudioElement) this.urls.push(shown.src);
    if (!(shown instanceof HTMLImageElement)) return figure.append(shown, h("figcaption", {}, medium.name));
    shown.alt = medium.name;
    shown.addEventListener("load", () => this.follow(), { once: true });
    const onclick = () => viewImage(shown.src, medium.name);
    const label = `Show ${medium.name} large`;
    return figure.append(h("button", { type: "button", class: "enlarge", "aria-label": label, onclick }, shown));
  }

  /** @param {Event} event */
  copyCode({ target }) {
    const button = target instanceof Element && target.closest(".copy-code");
    if (button) this.copy(button.closest(".code")?.querySelector("pre")?.textContent ?? "");
  }

  /** @param {string} text */
  copy(text) {
    copyText(text).then(
      () => this.on.say("Copied."),
      () => this.on.say("The browser did not allow copying."),
    );
  }
}
