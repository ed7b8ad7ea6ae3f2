/** What the page tells a person beside the answers: a line above the field, and words for screen readers alone. */

import { find } from "./dom.js";

export class Notices {
  constructor() {
    this.line = find("#notice");
    this.live = find("#live");
    this.standing = "";
  }

  /**
   * Shows a line above the field; screen readers say it once. An empty one gives way to what still holds.
   *
   * @param {string} text
   */
  show(text) {
    const shown = text || this.standing;
    if (this.line.textContent !== shown) this.line.textContent = shown;
  }

  /**
   * Shows a line that comes back after all others, until release().
   *
   * @param {string} text
   */
  hold(text) {
    this.standing = text;
    this.show(text);
  }

  /**
   * Ends what hold() began, with a last line.
   *
   * @param {string} text
   */
  release(text) {
    this.standing = "";
    this.show(text);
  }

  /**
   * Tells screen readers alone.
   *
   * @param {string} text
   */
  say(text) {
    this.live.textContent = text;
  }
}
