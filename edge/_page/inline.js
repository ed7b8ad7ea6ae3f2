/** Markdown inside a line as DOM nodes: emphasis, code, links; no HTML, no pictures, linear in its length. */

import { h } from "./dom.js";

const MAX_NESTING = 12;
const MAX_ADDRESS = 2000; // characters
const SAFE_SCHEMES = new Set(["http:", "https:", "mailto:"]);
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const PUNCTUATION = /[\p{P}\p{S}]/u;
const SPECIAL = /[\\`*_~[\]!<&\nhm]/g;

/** The address of a link that may be followed, null for any other: javascript:, data:, file:, relative ones. */
export function safeUrl(text) {
  try {
    const url = new URL(text.trim());
    return SAFE_SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** The nodes of a text; links are left as text where they would stand in another link. */
export function inline(text, { links = true } = {}) {
  return new Inline(text, links).nodes();
}

class Inline {
  constructor(text, links) {
    this.text = text;
    this.links = links;
    this.brackets = null;
    this.unclosed = new Set(); // lengths of runs of backquotes that nothing closes any more
    this.frames = [{ run: null, children: [] }];
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

  add(child) {
    this.frames.at(-1).children.push(child);
  }

  /** Takes what begins at a character that may mean something; returns where to go on. */
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

  take(child, end) {
    this.add(child);
    return end;
  }

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

  /** Opens or closes emphasis. Source: the rules of CommonMark 0.31, 6.2, with a bound on nesting. */
  emphasis(at) {
    const run = flanks(this.text, at);
    if (run.mark === "~" && run.count !== 2) return this.take("~".repeat(run.count), at + run.count);
    while (run.closes && run.left > 0) {
      const index = this.openerOf(run);
      if (index < 0) break;
      this.wrap(index, run);
    }
    if (run.left > 0 && run.opens && this.frames.length <= MAX_NESTING) {
      this.frames.push({ run, children: [] });
      this.open[run.mark] += 1;
    } else if (run.left > 0) this.add(run.mark.repeat(run.left));
    return at + run.count;
  }

  openerOf(closer) {
    if (this.open[closer.mark] === 0) return -1;
    for (let index = this.frames.length - 1; index > 0; index -= 1) {
      const { run } = this.frames[index];
      if (run.mark === closer.mark && matches(run, closer)) return index;
    }
    return -1;
  }

  wrap(index, closer) {
    const { run } = this.frames[index];
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

  /** What stands in the frames from one on, those that nothing closed with their marks as text. */
  flattened(from, { opener = true } = {}) {
    const found = [];
    for (let index = from; index < this.frames.length; index += 1) {
      const { run, children } = this.frames[index];
      if (run !== null && (opener || index > from)) found.push(run.mark.repeat(run.left));
      if (run !== null && index > from) this.open[run.mark] -= 1;
      for (const child of children) found.push(child);
    }
    return found;
  }

  /** A link, or a picture's address as one: pictures are not loaded. Null where there is none. */
  link(start, bracket) {
    this.brackets ??= pairs(this.text);
    const end = this.brackets.get(bracket);
    if (end === undefined || this.text[end + 1] !== "(") return null;
    const target = destination(this.text, end + 2);
    if (target === null) return null;
    const isPicture = bracket > start;
    const label = this.text.slice(bracket + 1, end);
    const shown = isPicture ? [`[picture: ${label || "no description"}]`] : inline(label, { links: false });
    const url = this.links ? safeUrl(target.url) : null;
    if (url !== null) return this.take(anchor(url, shown), target.end);
    for (const node of shown) this.add(node);
    return this.take(isPicture || target.url === "" ? "" : ` (${target.url})`, target.end);
  }

  autolink(at) {
    const ahead = this.text.slice(at + 1, at + MAX_ADDRESS);
    const inner = ahead.slice(0, Math.max(0, ahead.indexOf(">")));
    if (!/^(https?:\/\/|mailto:)[^\s<]+$/i.test(inner) || !this.links) return null;
    const url = safeUrl(inner);
    return url === null ? null : this.take(anchor(url, [inner]), at + inner.length + 2);
  }

  bareLink(at) {
    if (!this.links || /[\p{L}\p{N}]/u.test(this.text[at - 1] ?? "")) return null;
    const head = this.text.slice(at, at + 8);
    if (!/^(https?:\/\/|mailto:)/.test(head)) return null;
    const address = trimmed(/^[^\s<>"`*|]+/.exec(this.text.slice(at, at + MAX_ADDRESS))[0]);
    const url = safeUrl(address);
    return url === null ? null : this.take(anchor(url, [address]), at + address.length);
  }

  entity(at) {
    const found = /^&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,5}));/.exec(this.text.slice(at, at + 12));
    const [whole, decimal, hexadecimal, name] = found ?? ["&"];
    const code = decimal ? Number(decimal) : hexadecimal ? Number.parseInt(hexadecimal, 16) : 0;
    const isCharacter = code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    const character = isCharacter
      ? String.fromCodePoint(code)
      : Object.hasOwn(ENTITIES, name ?? "")
        ? ENTITIES[name]
        : whole;
    return this.take(character, at + whole.length);
  }
}

function anchor(url, children) {
  return h("a", { href: url, title: url, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}

/** Neighbouring texts as one node each. */
function joined(children) {
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

function runLength(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

function closingRun(text, from, length) {
  let at = text.indexOf("`", from);
  while (at >= 0) {
    const found = runLength(text, at);
    if (found === length) return at;
    at = text.indexOf("`", at + found);
  }
  return -1;
}

/** A run of marks, and whether it may open and close by what stands around it. */
function flanks(text, at) {
  const mark = text[at];
  const count = runLength(text, at);
  const before = at === 0 ? " " : text[at - 1];
  const after = text[at + count] ?? " ";
  const [spaceBefore, spaceAfter] = [/\s/.test(before), /\s/.test(after)];
  const [markBefore, markAfter] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
  const left = !spaceAfter && (!markAfter || spaceBefore || markBefore);
  const right = !spaceBefore && (!markBefore || spaceAfter || markAfter);
  const inWord = mark === "_";
  const opens = left && (!inWord || !right || markBefore);
  const closes = right && (!inWord || !left || markAfter);
  return { mark, count, left: count, opens, closes };
}

function matches(opener, closer) {
  const sum = opener.count + closer.count;
  const both = opener.closes || closer.opens;
  return !(both && sum % 3 === 0 && (opener.count % 3 !== 0 || closer.count % 3 !== 0));
}

/** Every opening bracket with its closing one, found in one pass. */
function pairs(text) {
  const found = new Map();
  const waiting = [];
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "[") waiting.push(at);
    else if (text[at] === "]" && waiting.length > 0) found.set(waiting.pop(), at);
  }
  return found;
}

/** The address in a link's round brackets, its title left out. */
function destination(text, from) {
  let depth = 0;
  const limit = Math.min(text.length, from + MAX_ADDRESS);
  for (let at = from; at < limit; at += 1) {
    if (text[at] === "\n" && text[at + 1] === "\n") return null;
    if (text[at] === "(") depth += 1;
    if (text[at] === ")" && depth === 0) {
      const inner = text
        .slice(from, at)
        .trim()
        .replace(/\s+["'(].*$/s, "");
      return { url: inner.replace(/^<|>$/g, ""), end: at + 1 };
    }
    if (text[at] === ")") depth -= 1;
  }
  return null;
}

/** A bare address without the full stop or bracket of the sentence around it. */
function trimmed(address) {
  let end = address.length;
  let surplus = address.split(")").length - address.split("(").length; // brackets closed and never opened
  while (end > 0 && /[.,:;!?'")\]]/.test(address[end - 1])) {
    if (address[end - 1] === ")" && surplus <= 0) break;
    if (address[end - 1] === ")") surplus -= 1;
    end -= 1;
  }
  return address.slice(0, end);
}
