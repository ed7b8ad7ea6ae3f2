/** The camera and the microphone as ways to attach: opened one at a time, the recording shown while it runs. */

import { CameraDialog, WHY_NOT, deviceWords, isSecure } from "./camera.js";
import { find } from "./dom.js";
import { MAX_SECONDS, Recorder } from "./recorder.js";

/**
 * @typedef {object} DeviceEvents
 * @property {(files: File[]) => Promise<void>} attach
 * @property {(act: () => Promise<void>) => Promise<void>} hold - keeps messages back until something was done
 * @property {(name: string, why: string) => void} miss
 * @property {(text: string) => void} notice
 * @property {(text: string) => void} say
 * @property {() => void} done - a recording has ended without a file
 */

export class Devices {
  /** @param {DeviceEvents} on */
  constructor(on) {
    this.on = on;
    this.opening = false; // whether a camera or a microphone is being opened
    /** @type {Recorder | null} */
    this.recorder = null;
    this.camera = new CameraDialog(find("#camera-dialog", HTMLDialogElement), (jpeg) =>
      on.attach([new File([jpeg], "camera.jpg", { type: jpeg.type })]),
    );
    this.level = find("#level", HTMLMeterElement);
    this.elapsed = find("#elapsed");
    find("#camera").addEventListener("click", () => this.openCamera());
    find("#mic").addEventListener("click", () => this.record());
    find("#keep").addEventListener("click", () => this.keepRecording());
    find("#discard").addEventListener("click", () => this.endRecording(false));
  }

  get isRecording() {
    return this.recorder !== null;
  }

  async openCamera() {
    if (!isSecure()) {
      this.on.notice(WHY_NOT);
      return find("#camera-file").click();
    }
    await this.use("camera", () => this.camera.open());
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

  /**
   * Opens a device, which may take long: one that is opened twice would never be let go. Returns whether it is open.
   *
   * @param {"camera" | "microphone"} device
   * @param {() => Promise<void>} open
   */
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

  /**
   * @param {number} level - from 0 to 1
   * @param {number} seconds
   */
  showLevel(level, seconds) {
    this.level.value = level;
    this.elapsed.textContent = `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
    if (seconds >= MAX_SECONDS && this.recorder) this.keepRecording();
  }

  /** @param {boolean} shown */
  showRecording(shown) {
    find("#recording").hidden = !shown;
    find("#tools").hidden = shown;
    this.showLevel(0, 0);
  }

  keepRecording() {
    return this.endRecording(true);
  }

  /**
   * Attaches the recording, before which no message goes, or throws it away.
   *
   * @param {boolean} keep
   */
  async endRecording(keep) {
    const { recorder } = this;
    if (!recorder) return;
    this.recorder = null;
    this.showRecording(false);
    await this.on.hold(async () => {
      const blob = await (keep ? recorder.stop() : recorder.discard()).catch(() => null);
      if (blob) return this.on.attach([new File([blob], "voice.wav", { type: "audio/wav" })]);
      if (keep) this.on.miss("voice.wav", "The microphone gave no audio.");
      else this.on.say("The recording is thrown away.");
      this.on.done();
    });
  }
}
