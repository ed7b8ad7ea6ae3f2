/** Markdown as DOM nodes; what did not change since the last token keeps its nodes. */

import { blocks } from "./blocks.js";

/**
 * A text's nodes.
 *
 * @param {string} text
 */
export function markdown(text) {
  return blocks(lines(text), 0).map((block) => block.make());
}

/** An element that shows a growing Markdown text: only the blocks that changed are made again. */
export class MarkdownView {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    /** @type {{ source: string, node: HTMLElement }[]} */
    this.shown = [];
  }

  /** @param {string} text */
  update(text) {
    const all = lines(text);
    const fresh = blocks(all, 0).map((block) => ({
      source: all.slice(block.from, block.to).join("\n"),
      make: block.make,
    }));
    let same = 0;
    while (same < this.shown.length && same < fresh.length && this.shown[same].source === fresh[same].source) same += 1;
    for (const old of this.shown.splice(same)) old.node.remove();
    for (const { source, make } of fresh.slice(same)) {
      const node = make();
      this.element.append(node);
      this.shown.push({ source, node });
    }
  }
}

/** @param {string} text */
const lines = (text) => text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n");
