/** Asking and answering: messages sent, their answers shown and saved as they grow, until they end or are stopped. */

import { Answering } from "./answering.js";
import { urlsFrom } from "./archive.js";
import { answerMessage, cut, requestMessages, titleOf, userMessage } from "./conversation.js";

/**
 * @import { Aloud } from "./aloud.js"
 * @import { Body } from "./api.js"
 * @import { Composer, Draft } from "./composer.js"
 * @import { AnswerMessage, Conversation, Message } from "./conversation.js"
 * @import { Editing } from "./editing.js"
 * @import { Failure } from "./failure.js"
 * @import { Library } from "./library.js"
 * @import { ModelMenu } from "./models.js"
 * @import { Navigation } from "./navigation.js"
 * @import { Notices } from "./notices.js"
 * @import { Session } from "./session.js"
 * @import { Settings } from "./settings.js"
 * @import { Thread } from "./thread.js"
 *
 * @typedef {object} Around - the parts of the page that an answer has to do with
 * @property {Session} session
 * @property {Library} library
 * @property {Settings} settings
 * @property {ModelMenu} models
 * @property {Notices} notices
 * @property {Thread} thread
 * @property {Composer} composer
 * @property {Editing} editing
 * @property {Navigation} navigation
 * @property {Aloud} aloud
 */

const SAVE_MS = 2000;
const SPOKEN_CHARACTERS = 1200;

export class Answers {
  /** @param {Around} around */
  constructor({ session, library, settings, models, notices, thread, composer, editing, navigation, aloud }) {
    this.session = session;
    this.library = library;
    this.settings = settings;
    this.models = models;
    this.notices = notices;
    this.thread = thread;
    this.composer = composer;
    this.editing = editing;
    this.navigation = navigation;
    this.aloud = aloud;
  }

  /**
   * Puts a message on show and begins its answer, both at once: a second one must find the first.
   *
   * @param {Draft} draft
   */
  async send({ text, media }) {
    const { conversation } = this.session;
    const replaced = this.editing.finish();
    this.notices.show("");
    const message = userMessage(
      text.trim(),
      media.map(({ medium }) => medium),
    );
    this.library.saveMedia(conversation, media);
    const isNamed = conversation.title && conversation.title !== titleOf(conversation.messages);
    const gone = replaced ? cut(conversation, replaced) : [];
    conversation.messages.push(message);
    if (!isNamed) conversation.title = titleOf(conversation.messages);
    history.replaceState(null, "", `#${conversation.id}`);
    this.thread.add(message);
    await Promise.all([this.begin(conversation), this.library.forget(conversation, gone)]);
  }

  /**
   * Asks once more for the last answer, or for one that never came.
   *
   * @param {Message} message
   */
  async again(message) {
    const { session } = this;
    if (session.isRunning) return;
    if (message.role === "assistant") cut(session.conversation, message);
    this.composer.refocus(); // the button is gone
    await this.begin(session.conversation);
  }

  /**
   * Has an answer that was cut off written on.
   *
   * @param {AnswerMessage} message
   */
  async goOn(message) {
    if (this.session.isRunning) return;
    this.composer.refocus(); // as above
    await this.answer(message, this.session.conversation);
  }

  /** @param {Conversation} conversation */
  begin(conversation) {
    const message = answerMessage(this.models.chosen);
    conversation.messages.push(message);
    this.thread.add(message);
    this.thread.toEnd();
    const question = conversation.messages.at(-2);
    this.aloud.begin(message, question?.role === "user" ? question : undefined);
    return this.answer(message, conversation);
  }

  /**
   * Has an answer written, or one that was cut off written on.
   *
   * @param {AnswerMessage} message
   * @param {Conversation} conversation
   */
  async answer(message, conversation) {
    const answering = this.answering(message, conversation);
    this.session.running.set(conversation.id, { answering, conversation });
    this.thread.update(message);
    this.refresh();
    this.notices.say("Answering.");
    conversation.updated = Date.now();
    await this.library.save(conversation);
    await this.navigation.showHeads();
    await answering.run(() => this.body(conversation), this.settings.key);
  }

  /**
   * An answer that is drawn once a frame and saved every few seconds while it grows.
   *
   * @param {AnswerMessage} message
   * @param {Conversation} conversation
   */
  answering(message, conversation) {
    let [drawing, saved, waits] = [0, Date.now(), false];
    const clock = setInterval(() => this.thread.tick(message), 1000);
    const change = () => {
      drawing = 0;
      if (waits) this.notices.show("");
      waits = false;
      this.thread.update(message);
      if (Date.now() - saved < SAVE_MS) return;
      saved = Date.now();
      this.library.save(conversation);
    };
    return new Answering(message, {
      change: () => {
        drawing ||= requestAnimationFrame(change);
      },
      read: (reading) => this.thread.read(message, reading),
      wait: (seconds) => {
        waits = true;
        this.notices.show(`The server is busy with others: asking again in ${seconds} seconds.`);
      },
      end: (failure) => {
        clearInterval(clock);
        cancelAnimationFrame(drawing);
        change();
        this.ended(message, conversation, failure);
      },
    });
  }

  /**
   * @param {Conversation} conversation
   * @returns {Promise<Body>}
   */
  async body(conversation) {
    const { values } = this.settings;
    const model = this.models.chosen || values.model || "reka-edge";
    const messages = await requestMessages(conversation.messages, values.system, urlsFrom(this.library.store));
    return { model, messages, ...this.settings.fields() };
  }

  /**
   * @param {AnswerMessage} message
   * @param {Conversation} conversation
   * @param {Failure | null} failure
   */
  async ended(message, conversation, failure) {
    conversation.updated = Date.now();
    await this.library.save(conversation);
    this.session.running.delete(conversation.id);
    if (conversation !== this.session.conversation) return this.notices.say(`“${conversation.title}” has its answer.`);
    this.refresh();
    if (failure?.kind === "gone") this.models.lost();
    return this.notices.say(this.spoken(message));
  }

  /**
   * How an answer ended, for screen readers.
   *
   * @param {AnswerMessage} message
   */
  spoken(message) {
    if (message.failure) return `${message.failure.title}. ${message.failure.text}`;
    if (message.end === "stopped") return "Stopped.";
    if (this.aloud.begun === message.id) return "Answered."; // two voices at once are none
    const spoken = this.thread.spoken(message);
    if (spoken.length <= SPOKEN_CHARACTERS) return spoken;
    return `${spoken.slice(0, SPOKEN_CHARACTERS)}… The rest is in the conversation.`;
  }

  /** Shows what can be done now in the conversation on show. */
  refresh() {
    const { conversation, isRunning } = this.session;
    this.thread.refresh(conversation.messages, isRunning);
    this.composer.setRunning(isRunning);
  }

  /** Stops the answer, and reading aloud; where there is neither, throws a recording away, or leaves what was begun. */
  stop() {
    const { session, composer } = this;
    const running = session.running.get(session.conversation.id);
    composer.holdBack();
    const wasRead = this.aloud.stop();
    // One that has ended already is only saved still: there is nothing left of it to stop.
    if (running?.answering.message.end === null) running.answering.stop();
    else if (composer.devices.isRecording) composer.devices.endRecording(false);
    else if (!wasRead) this.editing.leave();
  }
}
