/** Runs on the audio thread: hands on what the microphone hears, some hundredths of a second at a time. */

const N_SAMPLES = 2048;

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = new Float32Array(N_SAMPLES);
    this.n = 0;
  }

  process([channels]) {
    const heard = channels[0];
    if (!heard) return true;
    if (this.n + heard.length > N_SAMPLES) this.flush();
    this.held.set(heard, this.n);
    this.n += heard.length;
    return true;
  }

  flush() {
    this.port.postMessage(this.held.slice(0, this.n));
    this.n = 0;
  }
}

registerProcessor("tap", Tap);
