/** Audio as 16-bit mono WAV at the sample rate of the models. */

export const RATE_HZ = 16_000;

/**
 * Encodes samples in [-1, 1] as a WAV file.
 *
 * @param {Float32Array} samples
 * @param {number} rateHz
 */
export function wav(samples, rateHz) {
  const view = new DataView(new ArrayBuffer(44 + samples.length * 2));
  ascii(view, 0, "RIFF");
  view.setUint32(4, 36 + samples.length * 2, true);
  ascii(view, 8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, rateHz, true);
  view.setUint32(28, rateHz * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  ascii(view, 36, "data");
  view.setUint32(40, samples.length * 2, true);
  samples.forEach((sample, i) => {
    view.setInt16(44 + i * 2, Math.round(Math.max(-1, Math.min(1, sample)) * 32_767), true);
  });
  return new Blob([view.buffer], { type: "audio/wav" });
}

/**
 * @param {DataView} view
 * @param {number} at
 * @param {string} text
 */
function ascii(view, at, text) {
  for (let i = 0; i < text.length; i += 1) view.setUint8(at + i, text.charCodeAt(i));
}

/**
 * One channel of audio at RATE_HZ, filtered by the browser's own resampler.
 *
 * @param {AudioBuffer} buffer
 */
export async function resampled(buffer) {
  const context = new OfflineAudioContext(1, Math.max(1, Math.ceil(buffer.duration * RATE_HZ)), RATE_HZ);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

/**
 * A WAV file of any audio that the browser can decode. Throws: DOMException.
 *
 * @param {Blob} blob
 */
export async function wavOf(blob) {
  const context = new OfflineAudioContext(1, 1, RATE_HZ);
  const buffer = await context.decodeAudioData(await blob.arrayBuffer());
  return wav(await resampled(buffer), RATE_HZ);
}
