/** Where a message is written: its text, what is attached to it, and the ways to attach. */

import { CameraDialog, WHY_NOT, deviceWords, isSecure } from "./camera.js";
import { find, h, icon, iconButton } from "./dom.js";
import { ACCEPTED, KIND_NAMES, attachable, megabytes } from "./media.js";
import { MAX_SECONDS, Recorder } from "./recorder.js";

const DRAFT_PLACE = "edge.draft";

/**
 * on: {send(draft), stop(), editLast(), notice(text), say(text)}; a draft is {text, media: [{medium, blob}], missed}.
 * missed: what was to be attached and could not be, [{name, why}]; nothing is sent before each was taken out.
 */
export class Composer {
  constructor(on) {
    this.on = on;
    this.form = find("#composer");
    this.text = find("#text");
    this.chips = find("#chips");
    this.media = [];
    this.missed = [];
    this.running = false;
    this.held = 0; // how much has still to come before a message can go
    this.wanted = false; // a message was sent meanwhile: it goes then
    this.refused = false; // a message was sent while an answer was written
    this.recorder = null;
    this.opening = false; // whether a camera or a microphone is being opened
    this.camera = new CameraDialog(find("#camera-dialog"), (blob) => this.attachPicture(blob));
    this.listenToText();
    this.listenToFiles();
    this.listenToVoice();
    this.restore();
  }

  get isEmpty() {
    return this.text.value.trim() === "" && this.media.length === 0 && this.missed.length === 0;
  }

  get draft() {
    return { text: this.text.value, media: [...this.media], missed: [...this.missed] };
  }

  /** Shows another draft; an empty one when none is given. */
  set({ text = "", media = [], missed = [] } = {}) {
    this.holdBack();
    this.text.value = text;
    this.media = [...media];
    this.missed = [...missed];
    this.showChips();
    this.changed();
  }

  setRunning(running) {
    this.running = running;
    if (!running && this.refused) {
      this.refused = false;
      this.on.notice("");
    }
    const [name, label] = running ? ["stop", "Stop the answer"] : ["send", "Send"];
    const button = find("#send");
    button.replaceChildren(icon(name));
    button.setAttribute("aria-label", label);
    button.title = label;
    button.classList.toggle("stops", running);
  }

  focus() {
    this.text.focus();
    this.text.setSelectionRange(this.text.value.length, this.text.value.length);
  }

  /** Goes on where a message is written; on a phone its keyboard would come up unasked. */
  refocus() {
    (isTouch() ? find("#attach") : this.text).focus({ preventScroll: true });
  }

  listenToText() {
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
    find("#send").addEventListener("click", (event) => {
      if (this.running && event.detail > 1) event.preventDefault();
    });
  }

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
    if (this.recorder) this.keepRecording(); // what was said goes with what was written
    if (this.held > 0) return this.wait();
    if (this.isEmpty) return this.text.focus();
    if (this.missed.length > 0) return this.missWords();
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

  /** Says what keeps a message from being sent. */
  missWords() {
    const names = this.missed.map(({ name }) => name).join(", ");
    this.on.notice(`Not sent: ${names} could not be attached. Take it out to send the message without it.`);
  }

  /** Keeps a message back whose attachment failed, until that is taken out. */
  miss(name, why) {
    this.holdBack();
    this.missed.push({ name, why });
    this.showChips();
    this.on.notice(why);
  }

  /** Has a message that waits stay in the field. */
  holdBack() {
    if (!this.wanted) return;
    this.wanted = false;
    this.on.notice("");
  }

  /** Keeps messages back until something was done; one that was sent meanwhile goes then. */
  async hold(act) {
    this.held += 1;
    try {
      return await act();
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
    find("#send").disabled = false;
  }

  listenToFiles() {
    const any = find("#any-file");
    any.accept = ACCEPTED;
    find("#attach").addEventListener("click", () => any.click());
    for (const input of [any, find("#camera-file"), find("#mic-file")]) {
      input.addEventListener("change", () => {
        this.attach([...input.files]);
        input.value = "";
      });
    }
    find("#camera").addEventListener("click", () => this.openCamera());
    document.addEventListener("paste", (event) => this.paste(event));
    this.listenToDrops(find("#drop"));
  }

  paste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0 || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    this.attach(files);
  }

  listenToDrops(shade) {
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      shade.hidden = false;
    });
    document.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) shade.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      shade.hidden = true;
      if (!holdsFiles(event)) return;
      event.preventDefault();
      this.attach([...event.dataTransfer.files]);
    });
  }

  async openCamera() {
    if (!isSecure()) {
      this.on.notice(WHY_NOT);
      return find("#camera-file").click();
    }
    return this.use("camera", () => this.camera.open());
  }

  /** Opens a device, which may take long: one that is opened twice would never be let go. Returns whether it is open. */
  async use(device, open) {
    if (this.opening) return false;
    this.opening = true;
    try {
      await open();
      return true;
    } catch (error) {
      this.on.notice(deviceWords(error, device));
      return false;
    } finally {
      this.opening = false;
    }
  }

  attachPicture(blob) {
    this.attach([new File([blob], "camera.jpg", { type: blob.type })]);
  }

  /** Attaches files; a message goes no earlier. */
  attach(files) {
    return this.hold(() => this.read(files));
  }

  /** Reads files one after the other; what cannot be taken is said and left out, and nothing goes without it unasked. */
  async read(files) {
    const refused = [];
    for (const file of files) {
      try {
        this.media.push(await attachable(file, file.name || "pasted"));
      } catch (error) {
        refused.push(error.message);
        this.miss(file.name || "pasted", error.message);
      }
    }
    this.showChips();
    this.on.notice(this.missed.map(({ why }) => why).join(" "));
    if (files.length > refused.length)
      this.on.say(`Attached: ${this.media.map(({ medium }) => medium.name).join(", ")}`);
    this.refocus();
  }

  /** Attaches what an earlier message held before anything else. */
  putFirst(media) {
    this.media.unshift(...media);
    this.showChips();
  }

  showChips() {
    for (const old of this.chips.querySelectorAll("[src]")) URL.revokeObjectURL(old.src);
    const missed = this.missed.map((one) => this.missedChip(one));
    this.chips.replaceChildren(...this.media.map((attached) => this.chip(attached)), ...missed);
    this.chips.hidden = this.media.length + missed.length === 0;
  }

  chip(attached) {
    const { medium, blob } = attached;
    const remove = iconButton("close", `Remove ${medium.name}`, () => this.remove(attached));
    const said = [medium.note, megabytes(medium.size)].filter(Boolean).join(", ");
    const words = h("span", { class: "words" }, h("b", {}, medium.name), h("small", {}, said));
    return h("li", { class: `chip ${medium.kind}` }, preview(medium, blob), words, remove);
  }

  missedChip(one) {
    const words = h("span", { class: "words" }, h("b", {}, one.name), h("small", {}, "not attached"));
    const remove = iconButton("close", `Send without ${one.name}`, () => this.giveUp(one));
    return h("li", { class: "missed" }, icon("warn"), words, remove);
  }

  /** Lets a message go without what could not be attached. */
  giveUp(one) {
    this.missed = this.missed.filter((other) => other !== one);
    this.showChips();
    this.on.notice(this.missed.map(({ why }) => why).join(" "));
    this.on.say(`Removed: ${one.name}`);
    this.refocus();
  }

  remove(attached) {
    this.media = this.media.filter((other) => other !== attached);
    this.showChips();
    this.on.say(`Removed: ${attached.medium.name}`);
    this.refocus();
  }

  listenToVoice() {
    find("#mic").addEventListener("click", () => this.record());
    find("#keep").addEventListener("click", () => this.keepRecording());
    find("#discard").addEventListener("click", () => this.endRecording(false));
  }

  async record() {
    if (!isSecure()) {
      this.on.notice(WHY_NOT);
      return find("#mic-file").click();
    }
    const listen = async () => {
      this.recorder = await Recorder.open((level, seconds) => this.showLevel(level, seconds));
    };
    if (!(await this.use("microphone", listen))) return;
    this.showRecording(true);
    this.on.say("Recording.");
    find("#keep").focus();
  }

  showLevel(level, seconds) {
    find("#level").value = level;
    find("#elapsed").textContent = `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
    if (seconds >= MAX_SECONDS && this.recorder) this.keepRecording();
  }

  showRecording(shown) {
    find("#recording").hidden = !shown;
    find("#tools").hidden = shown;
    this.showLevel(0, 0);
  }

  keepRecording() {
    return this.endRecording(true);
  }

  /** Attaches the recording, before which no message goes, or throws it away. */
  endRecording(keep) {
    const { recorder } = this;
    if (!recorder) return null;
    this.recorder = null;
    this.showRecording(false);
    return this.hold(async () => {
      const blob = await (keep ? recorder.stop() : recorder.discard()).catch(() => null);
      if (blob) return this.attach([new File([blob], "voice.wav", { type: "audio/wav" })]);
      if (keep) this.miss("voice.wav", "The microphone gave no sound.");
      else this.on.say("The recording is thrown away.");
      return this.refocus();
    });
  }
}

function keptDraft() {
  try {
    return localStorage.getItem(DRAFT_PLACE) ?? "";
  } catch {
    return "";
  }
}

export const isTouch = () => matchMedia("(pointer: coarse)").matches;

/** What a medium looks or sounds like, small. */
export function preview(medium, blob) {
  if (medium.kind === "image") return h("img", { src: URL.createObjectURL(blob), alt: "" });
  if (medium.kind === "audio")
    return h("audio", { src: URL.createObjectURL(blob), controls: true, "aria-label": `Listen to ${medium.name}` });
  return h("span", { class: "sign" }, icon("file"), h("span", {}, KIND_NAMES[medium.kind]));
}
