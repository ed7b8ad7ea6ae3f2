/** What is attached to the message that is being written, and what was to be and could not. */

import { find, h, icon, iconButton } from "./dom.js";
import { reasonOf } from "./failure.js";
import { attachable, megabytes } from "./media.js";
import { preview } from "./preview.js";

/**
 * @import { Attached } from "./media.js"
 *
 * @typedef {{ name: string, why: string }} Missed - what could not be attached; nothing is sent before it is taken out
 *
 * @typedef {object} AttachmentEvents
 * @property {() => void} missed - something could not be attached
 * @property {() => void} done - a file was read or taken out, by the person
 * @property {(text: string) => void} notice
 * @property {(text: string) => void} say
 */

export class Attachments {
  /** @param {AttachmentEvents} on */
  constructor(on) {
    this.on = on;
    this.chips = find("#chips");
    /** @type {Attached[]} */
    this.media = [];
    /** @type {Missed[]} */
    this.missed = [];
  }

  get isEmpty() {
    return this.media.length === 0 && this.missed.length === 0;
  }

  /**
   * @param {Attached[]} media
   * @param {Missed[]} missed
   */
  set(media, missed) {
    this.media = [...media];
    this.missed = [...missed];
    this.show();
  }

  /**
   * Attaches what an earlier message held before anything else.
   *
   * @param {Attached[]} media
   */
  putFirst(media) {
    this.media.unshift(...media);
    this.show();
  }

  /**
   * Reads files one after the other; what cannot be attached is said and left out, and nothing goes without it unasked.
   *
   * @param {File[]} files
   */
  async read(files) {
    let nMissed = 0;
    for (const file of files) {
      const name = file.name || "pasted";
      try {
        this.media.push(await attachable(file, name));
      } catch (error) {
        nMissed += 1;
        this.miss(name, reasonOf(error));
      }
    }
    this.show();
    this.explain();
    if (files.length > nMissed) this.on.say(`Attached: ${this.media.map(({ medium }) => medium.name).join(", ")}`);
    this.on.done();
  }

  /**
   * Keeps a message back whose attachment failed, until that is taken out.
   *
   * @param {string} name
   * @param {string} why
   */
  miss(name, why) {
    this.on.missed();
    this.missed.push({ name, why });
    this.show();
    this.on.notice(why);
  }

  /** Says why each file could not be attached; nothing where all were. */
  explain() {
    this.on.notice(this.missed.map(({ why }) => why).join(" "));
  }

  /** Says what keeps the message from being sent. */
  refuse() {
    const names = this.missed.map(({ name }) => name).join(", ");
    this.on.notice(`Not sent: ${names} could not be attached. Take it out to send the message without it.`);
  }

  show() {
    for (const old of this.chips.querySelectorAll("[src]")) URL.revokeObjectURL(old.getAttribute("src") ?? "");
    const missed = this.missed.map((one) => this.missedChip(one));
    this.chips.replaceChildren(...this.media.map((attached) => this.chip(attached)), ...missed);
    this.chips.hidden = this.isEmpty;
  }

  /** @param {Attached} attached */
  chip(attached) {
    const { medium, blob } = attached;
    const remove = iconButton("close", `Remove ${medium.name}`, () => this.remove(attached));
    const said = [medium.note, megabytes(medium.size)].filter(Boolean).join(", ");
    const words = h("span", { class: "words" }, h("b", {}, medium.name), h("small", {}, said));
    return h("li", { class: `chip ${medium.kind}` }, preview(medium, blob), words, remove);
  }

  /** @param {Missed} one */
  missedChip(one) {
    const words = h("span", { class: "words" }, h("b", {}, one.name), h("small", {}, "not attached"));
    const remove = iconButton("close", `Send without ${one.name}`, () => this.giveUp(one));
    return h("li", { class: "missed" }, icon("warn"), words, remove);
  }

  /**
   * Lets a message go without what could not be attached.
   *
   * @param {Missed} one
   */
  giveUp(one) {
    this.missed = this.missed.filter((other) => other !== one);
    this.explain();
    this.removed(one.name);
  }

  /** @param {Attached} attached */
  remove(attached) {
    this.media = this.media.filter((other) => other !== attached);
    this.removed(attached.medium.name);
  }

  /** @param {string} name */
  removed(name) {
    this.show();
    this.on.say(`Removed: ${name}`);
    this.on.done();
  }
}
