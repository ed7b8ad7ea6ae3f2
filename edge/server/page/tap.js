/** Runs on the audio thread: hands on the samples of the microphone, some hundredths of a second at a time. */

const N_SAMPLES = 2048;

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = new Float32Array(N_SAMPLES);
    this.n = 0;
  }

  /** @param {Float32Array[][]} inputs - channels of samples, for each input */
  process(inputs) {
    const samples = inputs[0]?.[0];
    if (!samples) return true;
    if (this.n + samples.length > N_SAMPLES) this.flush();
    this.held.set(samples, this.n);
    this.n += samples.length;
    return true;
  }

  flush() {
    this.port.postMessage(this.held.slice(0, this.n));
    this.n = 0;
  }
}

registerProcessor("tap", Tap);
