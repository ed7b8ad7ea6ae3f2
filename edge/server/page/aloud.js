/** Reading answers aloud, by the voices of the server: an answer that is whole, or one while it grows. */

import { speech, voices } from "./api.js";
import { Failure, reasonOf } from "./failure.js";
import { endOfPiece } from "./pieces.js";
import { Player } from "./player.js";

/**
 * @import { Voice } from "./api.js"
 * @import { AnswerMessage, UserMessage } from "./conversation.js"
 * @import { Settings } from "./settings.js"
 *
 * @typedef {object} AloudEvents
 * @property {() => void} change - another answer is read, or none
 * @property {(text: string) => void} notice
 */

const ENOUGH_S = 8; // of speech that is still to be played: the next piece is asked for later
const LOOK_MS = 100;
const RECORDED = "voice.wav"; // what a question that was spoken is called

/** The answer that is read: `to` is where what was asked for ends. */
class Reading {
  /** @param {AnswerMessage} message */
  constructor(message) {
    this.message = message;
    this.to = 0;
    this.player = new Player();
    this.abort = new AbortController();
  }
}

export class Aloud {
  /**
   * @param {Settings} settings
   * @param {AloudEvents} on
   */
  constructor(settings, on) {
    this.settings = settings;
    this.on = on;
    /** @type {Voice[]} */
    this.voices = [];
    /** @type {Reading | null} */
    this.reading = null;
    this.begun = ""; // the id of the answer that was read by itself, while it grew
  }

  /** Whether the server has a voice. */
  get isThere() {
    return this.voices.length > 0;
  }

  /** Asks the server for its voices; none where it does not tell them. */
  async load() {
    this.voices = await voices(this.settings.key).catch(() => []);
    this.on.change();
  }

  /** @param {AnswerMessage} message */
  isReading(message) {
    return this.reading?.message.id === message.id;
  }

  /**
   * Begins to read an answer, or ends it where it is read.
   *
   * @param {AnswerMessage} message
   */
  toggle(message) {
    if (this.isReading(message)) this.stop();
    else this.read(message);
  }

  /**
   * Begins to read an answer that grows, where the settings say so.
   *
   * @param {AnswerMessage} message
   * @param {UserMessage | undefined} question
   */
  begin(message, question) {
    const wasSpoken = question?.media.some(({ name }) => name === RECORDED) ?? false;
    const { aloud } = this.settings.values;
    if (!(this.isThere && (aloud === "always" || (aloud === "spoken" && wasSpoken)))) return;
    this.begun = message.id;
    this.read(message);
  }

  /** Is silent at once; returns whether anything was read. */
  stop() {
    const { reading } = this;
    if (!reading) return false;
    this.reading = null;
    reading.abort.abort();
    reading.player.stop();
    this.on.change();
    return true;
  }

  /**
   * Reads an answer to its end; never throws.
   *
   * @param {AnswerMessage} message
   */
  async read(message) {
    this.stop();
    const reading = new Reading(message);
    this.reading = reading;
    this.on.change();
    try {
      await this.speak(reading);
    } catch (error) {
      if (this.reading !== reading) return; // it was stopped
      const words =
        error instanceof Failure ? error.words() : { title: "It cannot be read aloud", text: reasonOf(error) };
      this.on.notice(`${words.title}. ${words.text}`);
    }
    if (this.reading === reading) this.stop();
  }

  /** @param {Reading} reading */
  async speak(reading) {
    const { message, player, abort } = reading;
    while (!abort.signal.aborted) {
      const isWhole = message.end !== null;
      const end = reading.to < message.text.length ? endOfPiece(message.text, reading.to, isWhole) : null;
      if (end === null && isWhole && player.ahead === 0) return;
      if (end === null || player.ahead > ENOUGH_S) await pause(LOOK_MS);
      else await this.say(reading, end);
    }
  }

  /**
   * Has a piece spoken, and played behind the others.
   *
   * @param {Reading} reading
   * @param {number} end
   */
  async say(reading, end) {
    const { message, player, abort } = reading;
    const input = message.text.slice(reading.to, end);
    reading.to = end;
    if (input.trim() === "") return;
    const options = { key: this.settings.key, signal: abort.signal };
    for await (const bytes of speech({ input, ...this.voice() }, options)) player.add(bytes);
  }

  /** The voice and the language of the settings, as far as the server has them. */
  voice() {
    const { voice, language } = this.settings.values;
    const chosen = this.voices.find(({ id }) => id === voice);
    const spoken = chosen ? chosen.languages : this.voices.flatMap(({ languages }) => languages);
    const wanted = language || navigator.language;
    const code = [wanted.toLowerCase(), wanted.toLowerCase().split("-")[0]].find((each) => spoken.includes(each ?? ""));
    return { ...(chosen ? { voice } : {}), ...(code ? { language: code } : {}) };
  }
}

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
