/** Speech on the loudspeaker: samples are played in the order they come, without a gap, until they are stopped. */

const RATE_HZ = 24_000;
const START_S = 0.05; // before the first samples, for the next to come in time

/** Plays 16-bit samples, little-endian, mono, at 24 kHz. It has to be made where a person has just done something. */
export class Player {
  constructor() {
    this.context = new AudioContext();
    this.context.resume();
    this.end = 0; // when what has come so far will have been played, by the context's clock
    this.odd = new Uint8Array(0); // half a sample
  }

  /** The seconds that are still to be played. */
  get ahead() {
    return Math.max(0, this.end - this.context.currentTime);
  }

  /** @param {Uint8Array} bytes */
  add(bytes) {
    const all = new Uint8Array(this.odd.length + bytes.length);
    all.set(this.odd);
    all.set(bytes, this.odd.length);
    const n = Math.floor(all.length / 2);
    this.odd = all.slice(2 * n);
    if (n === 0 || this.context.state === "closed") return;
    const view = new DataView(all.buffer);
    const samples = Float32Array.from({ length: n }, (_, i) => view.getInt16(2 * i, true) / 32_768);
    const buffer = new AudioBuffer({ length: n, numberOfChannels: 1, sampleRate: RATE_HZ });
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.context.destination);
    const at = Math.max(this.end, this.context.currentTime + START_S);
    source.start(at);
    this.end = at + n / RATE_HZ;
  }

  /** Is silent at once, for good. */
  stop() {
    if (this.context.state !== "closed") this.context.close();
  }
}
