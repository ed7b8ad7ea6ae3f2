/** Where a message is written: its text, what is attached to it, and when it is sent. */

import { Attachments } from "./attachments.js";
import { Devices } from "./devices.js";
import { find, icon, isTouch } from "./dom.js";
import { listenToFiles } from "./files.js";

/**
 * @import { Missed } from "./attachments.js"
 * @import { Attached } from "./media.js"
 *
 * @typedef {{ text: string, media: Attached[], missed: Missed[] }} Draft
 *
 * @typedef {object} ComposerEvents
 * @property {(draft: Draft) => void} send
 * @property {() => void} stop
 * @property {() => void} editLast
 * @property {(text: string) => void} notice
 * @property {(text: string) => void} say
 */

const DRAFT_PLACE = "edge.draft";

export class Composer {
  /** @param {ComposerEvents} on */
  constructor(on) {
    this.on = on;
    this.form = find("#composer");
    this.text = find("#text", HTMLTextAreaElement);
    this.button = find("#send", HTMLButtonElement);
    this.running = false;
    this.held = 0; // how much has still to come before a message can go
    this.wanted = false; // a message was sent meanwhile: it goes then
    this.refused = false; // a message was sent while an answer was written
    const shared = { notice: on.notice, say: on.say, done: () => this.refocus() };
    this.attachments = new Attachments({ ...shared, missed: () => this.holdBack() });
    this.devices = new Devices({
      ...shared,
      attach: (files) => this.attach(files),
      hold: (act) => this.hold(act),
      miss: (name, why) => this.attachments.miss(name, why),
    });
    listenToFiles((files) => this.attach(files));
    this.listen();
    this.restore();
  }

  get isEmpty() {
    return this.text.value.trim() === "" && this.attachments.isEmpty;
  }

  /** @returns {Draft} */
  get draft() {
    const { media, missed } = this.attachments;
    return { text: this.text.value, media: [...media], missed: [...missed] };
  }

  /**
   * Shows another draft; an empty one when none is given.
   *
   * @param {Partial<Draft>} draft
   */
  set({ text = "", media = [], missed = [] } = {}) {
    this.holdBack();
    this.text.value = text;
    this.attachments.set(media, missed);
    this.changed();
  }

  /** @param {boolean} running - whether an answer is being written */
  setRunning(running) {
    this.running = running;
    if (!running && this.refused) {
      this.refused = false;
      this.on.notice("");
    }
    const label = running ? "Stop the answer" : "Send";
    this.button.replaceChildren(icon(running ? "stop" : "send"));
    this.button.setAttribute("aria-label", label);
    this.button.title = label;
    this.button.classList.toggle("stops", running);
  }

  focus() {
    this.text.focus();
    this.text.setSelectionRange(this.text.value.length, this.text.value.length);
  }

  /** Goes on where a message is written; on a phone its keyboard would come up unasked. */
  refocus() {
    (isTouch() ? find("#attach") : this.text).focus({ preventScroll: true });
  }

  listen() {
    this.text.addEventListener("input", () => {
      this.holdBack(); // who writes on has not finished
      this.changed();
    });
    this.text.addEventListener("keydown", (event) => this.key(event));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running && event.submitter) this.on.stop();
      else this.send();
    });
    // The second of two clicks would stop what the first has sent.
    this.button.addEventListener("click", (event) => {
      if (this.running && event.detail > 1) event.preventDefault();
    });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !isTouch()) {
      event.preventDefault();
      this.send();
    } else if (event.key === "ArrowUp" && this.isEmpty && !this.running) {
      event.preventDefault();
      this.on.editLast();
    }
  }

  send() {
    if (this.running) return this.refuse();
    if (this.devices.isRecording) this.devices.keepRecording(); // what was said goes with what was written
    if (this.held > 0) return this.wait();
    if (this.isEmpty) return this.text.focus();
    if (this.attachments.missed.length > 0) return this.attachments.refuse();
    return this.on.send(this.draft);
  }

  refuse() {
    this.refused = true;
    this.on.notice("Still answering: wait for the end, or stop it with Escape.");
  }

  wait() {
    this.wanted = true;
    this.on.notice("One moment: your message goes as soon as everything is read.");
  }

  /** Has a message that waits stay in the field. */
  holdBack() {
    if (!this.wanted) return;
    this.wanted = false;
    this.on.notice("");
  }

  /**
   * Keeps messages back until something was done; one that was sent meanwhile goes then.
   *
   * @param {() => Promise<void>} act
   */
  async hold(act) {
    this.held += 1;
    try {
      await act();
    } catch (error) {
      this.holdBack(); // what was to come with it did not
      throw error;
    } finally {
      this.held -= 1;
      if (this.held === 0 && this.wanted) {
        this.wanted = false;
        this.send();
      }
    }
  }

  /**
   * Attaches files; a message goes no earlier.
   *
   * @param {File[]} files
   */
  attach(files) {
    return this.hold(() => this.attachments.read(files));
  }

  changed() {
    const { text } = this;
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight, innerHeight * 0.4)}px`;
    try {
      localStorage.setItem(DRAFT_PLACE, text.value);
    } catch {
      // Storage is closed or full: the draft lasts as long as the page.
    }
  }

  /** Puts the draft back, before what was typed while the page was still loading. */
  restore() {
    const typed = this.text.value;
    const draft = keptDraft();
    if (typed !== draft) this.text.value = draft + typed; // some browsers put it back themselves
    this.changed();
    this.button.disabled = false;
  }
}

function keptDraft() {
  try {
    return localStorage.getItem(DRAFT_PLACE) ?? "";
  } catch {
    return "";
  }
}
