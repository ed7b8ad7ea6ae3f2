/** How far the server has read a question: which tile of which image, then how many of its tokens. */

import { h } from "./dom.js";

/**
 * @typedef {object} Reading - the fields of a stream's comment `progress`, which of them depends on what is read
 * @property {number} [image] - which of so many, from 1 on; likewise frame and audio
 * @property {number} [images]
 * @property {number} [tile] - the tile that is encoded now; likewise window
 * @property {number} [tiles]
 * @property {number} [frame]
 * @property {number} [frames]
 * @property {number} [audio]
 * @property {number} [audios]
 * @property {number} [window]
 * @property {number} [windows]
 * @property {number} [tokens_read]
 * @property {number} [tokens]
 */

const NUMBERS = new Intl.NumberFormat("en");

/** A bar with a line of words, hidden until something is read. */
export class ReadingView {
  constructor() {
    this.bar = h("progress", { max: "1", "aria-label": "Reading the question" });
    this.words = h("span");
    this.element = h("p", { class: "reading-bar", hidden: true }, this.bar, this.words);
  }

  /** @param {Reading} reading */
  show(reading) {
    const { words, share } = described(reading);
    this.words.textContent = words;
    this.bar.setAttribute("value", String(share));
    this.element.hidden = words === "";
  }

  hide() {
    this.element.hidden = true;
  }
}

/**
 * A step in words, and which part of its kind is done; no words for a step of a kind that this page does not know.
 *
 * @param {Reading} reading
 */
function described(reading) {
  const { image, frame, audio, tokens_read: read } = reading;
  if (read !== undefined) {
    const { tokens = 0 } = reading;
    return { words: `reading ${NUMBERS.format(read)} of ${NUMBERS.format(tokens)} tokens`, share: read / tokens };
  }
  if (frame !== undefined) {
    const { frames = 1 } = reading;
    return { words: `video, frame ${frame} of ${frames}`, share: (frame - 1) / frames };
  }
  if (image !== undefined) {
    const { images = 1, tile = 1, tiles = 1 } = reading;
    return { words: `image ${image}, tile ${tile} of ${tiles}`, share: part(image, images, tile, tiles) };
  }
  if (audio !== undefined) {
    const { audios = 1, window = 1, windows = 1 } = reading;
    return { words: `audio ${audio}, window ${window} of ${windows}`, share: part(audio, audios, window, windows) };
  }
  return { words: "", share: 0 };
}

/**
 * @param {number} item - from 1 on
 * @param {number} items
 * @param {number} step - from 1 on, and not done yet
 * @param {number} steps
 */
const part = (item, items, step, steps) => (item - 1 + (step - 1) / steps) / items;
