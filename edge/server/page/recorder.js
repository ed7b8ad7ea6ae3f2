/** The microphone: its samples are kept until it is stopped, then they are a WAV file. */

import { RATE_HZ, resampled, wav } from "./wav.js";

export const MAX_SECONDS = 300;

/** @typedef {(loudness: number, seconds: number) => void} OnLevel - loudness from 0 to 1, and the seconds so far */

/** A recording that runs from open() to stop() or discard(). */
export class Recorder {
  /**
   * Begins a recording. Throws: DOMException, as getUserMedia.
   *
   * @param {OnLevel} onLevel
   */
  static async open(onLevel) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    const recorder = new Recorder(stream, onLevel);
    try {
      await recorder.listen();
    } catch (error) {
      await recorder.discard();
      throw error;
    }
    return recorder;
  }

  /**
   * @param {MediaStream} stream
   * @param {OnLevel} onLevel
   */
  constructor(stream, onLevel) {
    this.stream = stream;
    this.onLevel = onLevel;
    this.context = new AudioContext();
    /** @type {Float32Array<ArrayBuffer>[]} */
    this.parts = [];
    this.nSamples = 0;
  }

  async listen() {
    await this.context.audioWorklet.addModule(new URL("./tap.js", import.meta.url));
    await this.context.resume();
    this.node = new AudioWorkletNode(this.context, "tap", {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      channelCount: 1,
      channelCountMode: "explicit",
    });
    this.node.port.onmessage = ({ data }) => this.add(data);
    // Its output is silence; without a way to the speakers no browser would run it.
    this.context.createMediaStreamSource(this.stream).connect(this.node).connect(this.context.destination);
  }

  /** @param {Float32Array<ArrayBuffer>} samples */
  add(samples) {
    if (this.seconds >= MAX_SECONDS) return;
    this.parts.push(samples);
    this.nSamples += samples.length;
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    this.onLevel(Math.min(1, Math.sqrt(power) * 4), this.seconds);
  }

  get seconds() {
    return this.nSamples / this.context.sampleRate;
  }

  /** Ends the recording and returns it, null when the microphone gave nothing. */
  async stop() {
    const { sampleRate } = this.context;
    await this.discard();
    if (this.nSamples === 0) return null;
    const buffer = new AudioBuffer({ length: this.nSamples, numberOfChannels: 1, sampleRate });
    let at = 0;
    for (const part of this.parts) {
      buffer.copyToChannel(part, 0, at);
      at += part.length;
    }
    return wav(await resampled(buffer), RATE_HZ);
  }

  /**
   * Lets go of the microphone.
   *
   * @returns {Promise<null>}
   */
  async discard() {
    for (const track of this.stream.getTracks()) track.stop();
    if (this.context.state !== "closed") await this.context.close();
    return null;
  }
}
