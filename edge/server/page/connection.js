/** Whether the server is there: told when it is gone and when it is back, looked at meanwhile. */

import { isThere } from "./api.js";

const FIRST_MS = 1500;
const LAST_MS = 10_000;

export class Connection {
  /** @param {{ gone(): void, back(): void }} on */
  constructor(on) {
    this.on = on;
    this.isGone = false;
  }

  /** Says that the server did not answer, and looks for it until it does. */
  async lost() {
    if (this.isGone) return;
    this.isGone = true;
    this.on.gone();
    for (let wait = FIRST_MS; this.isGone; wait = Math.min(wait * 1.5, LAST_MS)) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (await isThere()) this.found();
    }
  }

  found() {
    if (!this.isGone) return;
    this.isGone = false;
    this.on.back();
  }
}
