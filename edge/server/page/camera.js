/** The camera: a dialog with what it sees, and one image of it. */

import { find } from "./dom.js";
import { jpegOf } from "./media.js";

/** Whether this page may ask for camera and microphone: browsers give them to secure pages only. */
export const isSecure = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

export const WHY_NOT =
  "Browsers give camera and microphone only to secure pages: https, or a page from this same machine. " +
  "This one came over plain http, so your device's own camera or recorder opens instead where it has one.";

/**
 * What kept a device from being used, in plain words.
 *
 * @param {unknown} error - as getUserMedia throws it
 * @param {"camera" | "microphone"} device
 */
export function deviceWords(error, device) {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  if (name === "NotAllowedError")
    return `The browser was not allowed to use the ${device}. Allow it beside the address, then try again.`;
  if (name === "NotFoundError") return `There is no ${device} here.`;
  if (name === "NotReadableError") return `Another program is using the ${device}.`;
  return `The ${device} cannot be used: ${message || name}.`;
}

export class CameraDialog {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {(jpeg: Blob) => void} onImage
   */
  constructor(dialog, onImage) {
    this.dialog = dialog;
    this.video = find("video", HTMLVideoElement, dialog);
    this.other = find(".other", HTMLButtonElement, dialog);
    this.take = find(".take", HTMLButtonElement, dialog);
    /** @type {MediaStream | null} */
    this.stream = null;
    this.nReleased = 0; // counts what was let go, so that a camera that opens late does not stay on
    this.facing = "environment";
    this.take.addEventListener("click", () => this.shoot(onImage));
    this.other.addEventListener("click", () => this.turn());
    find(".cancel", HTMLButtonElement, dialog).addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => this.release());
  }

  /** Shows what the camera sees. Throws: DOMException, as getUserMedia. */
  async open() {
    await this.start();
    const devices = await navigator.mediaDevices.enumerateDevices();
    this.other.hidden = devices.filter((device) => device.kind === "videoinput").length < 2;
    this.dialog.showModal();
    this.take.focus();
  }

  async start() {
    this.release();
    const { nReleased } = this;
    const stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: this.facing, width: { ideal: 1920 }, height: { ideal: 1080 } },
    });
    if (nReleased !== this.nReleased) return stopTracks(stream);
    this.stream = stream;
    this.video.srcObject = stream;
    return this.video.play();
  }

  async turn() {
    this.facing = this.facing === "environment" ? "user" : "environment";
    await this.start().catch(() => this.dialog.close());
  }

  /** @param {(jpeg: Blob) => void} onImage */
  async shoot(onImage) {
    this.take.disabled = true; // a second click would take a second image
    try {
      const blob = await jpegOf(this.video, this.video.videoWidth, this.video.videoHeight);
      this.dialog.close();
      onImage(blob);
    } finally {
      this.take.disabled = false;
    }
  }

  release() {
    this.nReleased += 1;
    if (this.stream) stopTracks(this.stream);
    this.stream = null;
    this.video.srcObject = null;
  }
}

/** @param {MediaStream} stream */
function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}
