/** Markdown inside a line as DOM nodes: emphasis, code, links; no HTML, no images, linear in its length. */

import { h } from "./dom.js";
import { entityAt } from "./entities.js";
import { anchor, safeUrl } from "./links.js";
import {
  MAX_ADDRESS,
  PUNCTUATION,
  closingRun,
  destination,
  flanks,
  matches,
  pairs,
  runLength,
  trimmed,
} from "./marks.js";

/**
 * @import { Mark, Run } from "./marks.js"
 *
 * @typedef {Node | string} Inlined
 * @typedef {{ run: Run | null, children: Inlined[] }} Frame - what follows a run of marks that may be closed
 */

const MAX_NESTING = 12;
const SPECIAL = /[\\`*_~[\]!<&\nhm]/g;

/**
 * The nodes of a text; links are left as text where they would be in another link.
 *
 * @param {string} text
 * @returns {Node[]}
 */
export function inline(text, { links = true } = {}) {
  return new Inline(text, links).nodes();
}

class Inline {
  /**
   * @param {string} text
   * @param {boolean} links
   */
  constructor(text, links) {
    this.text = text;
    this.links = links;
    /** @type {Map<number, number> | null} */
    this.brackets = null;
    /** @type {Set<number>} */
    this.unclosed = new Set(); // lengths of runs of backquotes that nothing closes any more
    /** @type {Frame[]} */
    this.frames = [{ run: null, children: [] }];
    /** @type {Record<Mark, number>} */
    this.open = { "*": 0, _: 0, "~": 0 };
  }

  nodes() {
    let at = 0;
    while (at < this.text.length) {
      SPECIAL.lastIndex = at;
      const next = SPECIAL.exec(this.text)?.index ?? this.text.length;
      if (next > at) this.add(this.text.slice(at, next));
      at = next < this.text.length ? this.special(next) : next;
    }
    return joined(this.flattened(0));
  }

  /** @param {Inlined} child */
  add(child) {
    this.frames[this.frames.length - 1].children.push(child);
  }

  /**
   * Adds what begins at a character that may mean something; returns where to go on.
   *
   * @param {number} at
   * @returns {number}
   */
  special(at) {
    const { text } = this;
    const mark = text[at];
    if (mark === "\n") return this.take(h("br"), at + 1);
    if (mark === "\\" && PUNCTUATION.test(text[at + 1] ?? "")) return this.take(text[at + 1], at + 2);
    if (mark === "`") return this.code(at);
    if (mark === "*" || mark === "_" || mark === "~") return this.emphasis(at);
    if (mark === "[") return (this.links ? this.link(at, at) : null) ?? this.take("[", at + 1);
    if (mark === "!" && text[at + 1] === "[") return this.link(at, at + 1) ?? this.take("!", at + 1);
    if (mark === "<") return this.autolink(at) ?? this.take("<", at + 1);
    if (mark === "&") return this.entity(at);
    if (mark === "h" || mark === "m") return this.bareLink(at) ?? this.take(mark, at + 1);
    return this.take(mark, at + 1);
  }

  /**
   * @param {Inlined} child
   * @param {number} end
   */
  take(child, end) {
    this.add(child);
    return end;
  }

  /** @param {number} at */
  code(at) {
    const length = runLength(this.text, at);
    const end = this.unclosed.has(length) ? -1 : closingRun(this.text, at + length, length);
    if (end < 0) {
      this.unclosed.add(length);
      return this.take("`".repeat(length), at + length);
    }
    const inner = this.text.slice(at + length, end).replaceAll("\n", " ");
    const padded = inner.length > 2 && inner.startsWith(" ") && inner.endsWith(" ") && inner.trim() !== "";
    return this.take(h("code", {}, padded ? inner.slice(1, -1) : inner), end + length);
  }

  /**
   * Opens or closes emphasis. Source: the rules of CommonMark 0.31, 6.2, with a bound on nesting.
   *
   * @param {number} at
   */
  emphasis(at) {
    const run = flanks(this.text, at);
    if (run.mark === "~" && run.count !== 2) return this.take("~".repeat(run.count), at + run.count);
    while (run.closes && run.left > 0) {
      const index = this.openerOf(run);
      const opener = this.frames[index]?.run;
      if (!opener) break;
      this.wrap(index, opener, run);
    }
    if (run.left > 0 && run.opens && this.frames.length <= MAX_NESTING) {
      this.frames.push({ run, children: [] });
      this.open[run.mark] += 1;
    } else if (run.left > 0) this.add(run.mark.repeat(run.left));
    return at + run.count;
  }

  /** @param {Run} closer */
  openerOf(closer) {
    if (this.open[closer.mark] === 0) return -1;
    for (let index = this.frames.length - 1; index > 0; index -= 1) {
      const { run } = this.frames[index];
      if (run?.mark === closer.mark && matches(run, closer)) return index;
    }
    return -1;
  }

  /**
   * @param {number} index
   * @param {Run} run - of the frame there
   * @param {Run} closer
   */
  wrap(index, run, closer) {
    const used = run.left >= 2 && closer.left >= 2 ? 2 : 1;
    run.left -= used;
    closer.left -= used;
    const tag = closer.mark === "~" ? "s" : used === 2 ? "strong" : "em";
    if (closer.mark === "~") run.left = closer.left = 0;
    const wrapped = h(tag, {}, joined(this.flattened(index, { opener: false })));
    this.frames.length = index + 1;
    this.frames[index].children = [wrapped];
    if (run.left > 0) return;
    this.frames.pop();
    this.open[run.mark] -= 1;
    this.add(wrapped);
  }

  /**
   * What is in the frames from one on, those that nothing closed with their marks as text.
   *
   * @param {number} from
   */
  flattened(from, { opener = true } = {}) {
    /** @type {Inlined[]} */
    const found = [];
    for (let index = from; index < this.frames.length; index += 1) {
      const { run, children } = this.frames[index];
      if (run !== null && (opener || index > from)) found.push(run.mark.repeat(run.left));
      if (run !== null && index > from) this.open[run.mark] -= 1;
      for (const child of children) found.push(child);
    }
    return found;
  }

  /**
   * A link, or an image's address as one: images are not loaded. Null where there is none.
   *
   * @param {number} start
   * @param {number} bracket
   */
  link(start, bracket) {
    this.brackets ??= pairs(this.text);
    const end = this.brackets.get(bracket);
    if (end === undefined || this.text[end + 1] !== "(") return null;
    const target = destination(this.text, end + 2);
    if (target === null) return null;
    const isImage = bracket > start;
    const label = this.text.slice(bracket + 1, end);
    const shown = isImage ? [`[picture: ${label || "no description"}]`] : inline(label, { links: false });
    const url = this.links ? safeUrl(target.url) : null;
    if (url !== null) return this.take(anchor(url, shown), target.end);
    for (const node of shown) this.add(node);
    return this.take(isImage || target.url === "" ? "" : ` (${target.url})`, target.end);
  }

  /** @param {number} at */
  autolink(at) {
    const ahead = this.text.slice(at + 1, at + MAX_ADDRESS);
    const inner = ahead.slice(0, Math.max(0, ahead.indexOf(">")));
    if (!/^(https?:\/\/|mailto:)[^\s<]+$/i.test(inner) || !this.links) return null;
    const url = safeUrl(inner);
    return url === null ? null : this.take(anchor(url, [inner]), at + inner.length + 2);
  }

  /** @param {number} at */
  bareLink(at) {
    if (!this.links || /[\p{L}\p{N}]/u.test(this.text[at - 1] ?? "")) return null;
    const head = this.text.slice(at, at + 8);
    if (!/^(https?:\/\/|mailto:)/.test(head)) return null;
    const address = trimmed(/^[^\s<>"`*|]+/.exec(this.text.slice(at, at + MAX_ADDRESS))?.[0] ?? head);
    const url = safeUrl(address);
    return url === null ? null : this.take(anchor(url, [address]), at + address.length);
  }

  /** @param {number} at */
  entity(at) {
    const { text, length } = entityAt(this.text, at);
    return this.take(text, at + length);
  }
}

/**
 * Neighbouring texts as one node each.
 *
 * @param {Inlined[]} children
 */
function joined(children) {
  /** @type {Node[]} */
  const nodes = [];
  let text = "";
  for (const child of children) {
    if (typeof child === "string") {
      text += child;
      continue;
    }
    if (text) nodes.push(document.createTextNode(text));
    text = "";
    nodes.push(child);
  }
  if (text) nodes.push(document.createTextNode(text));
  return nodes;
}
