/** The blocks of Markdown: paragraphs, headings, code, quotes and lists, found line by line and made when shown. */

import { codeBlock } from "./code.js";
import { h } from "./dom.js";
import { inline } from "./inline.js";
import { isTable, table } from "./tables.js";

/** @typedef {{ to: number, make: () => HTMLElement }} Block - to: the line after its last */

const MAX_NESTING = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\s]*)/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const HEADINGS = /** @type {const} */ (["h2", "h3", "h4", "h5", "h6", "h6"]);
const QUOTE = /^ {0,3}>/;
const ITEM = /^( *)([-+*]|\d{1,9}[.)])( +|$)/;

/**
 * The blocks of some lines, not made yet.
 *
 * @param {string[]} all - lines
 * @param {number} depth
 */
export function blocks(all, depth) {
  /** @type {(Block & { from: number })[]} */
  const found = [];
  let at = 0;
  while (at < all.length) {
    if (all[at].trim() === "") {
      at += 1;
      continue;
    }
    const block = blockAt(all, at, depth);
    found.push({ from: at, ...block });
    at = block.to;
  }
  return found;
}

/**
 * @param {string[]} all - lines
 * @param {number} at
 * @param {number} depth
 * @returns {Block}
 */
function blockAt(all, at, depth) {
  const line = all[at];
  const fence = FENCE.exec(line);
  const mark = HEADING.exec(line);
  if (fence) return fenced(all, at, fence);
  if (mark) return { to: at + 1, make: () => heading(line, mark[1].length) };
  if (RULE.test(line)) return { to: at + 1, make: () => h("hr") };
  if (depth < MAX_NESTING && QUOTE.test(line)) return quote(all, at, depth);
  if (depth < MAX_NESTING && isItem(line)) return list(all, at, depth);
  if (line.startsWith("    ")) return indented(all, at);
  if (isTable(all, at)) return table(all, at);
  return paragraph(all, at, depth);
}

/** @param {string} line */
const isOrdered = (line) => /^ *\d/.test(line);

/** @param {string} line */
const isItem = (line) => (ITEM.exec(line)?.[1].length ?? 9) < 4;

/**
 * Whether a line ends a paragraph before it: a list does only with a bullet or the number one.
 *
 * @param {string[]} all - lines
 * @param {number} at
 * @param {number} depth
 */
function interrupts(all, at, depth) {
  const line = all[at];
  if (line.trim() === "" || FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
  if (depth >= MAX_NESTING) return false;
  return QUOTE.test(line) || /^ {0,3}([-+*]|1[.)]) /.test(line) || isTable(all, at);
}

/**
 * @param {string[]} all - lines
 * @param {number} at
 * @param {number} depth
 * @returns {Block}
 */
function paragraph(all, at, depth) {
  let to = at + 1;
  while (to < all.length && !interrupts(all, to, depth)) to += 1;
  const text = all
    .slice(at, to)
    .map((line) => line.trim())
    .join("\n");
  return { to, make: () => h("p", { dir: "auto" }, inline(text)) };
}

/**
 * @param {string} line
 * @param {number} level
 */
function heading(line, level) {
  let text = line.trim().slice(level).trim();
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  if (end === 0 || text[end - 1] === " ") text = text.slice(0, end).trim();
  // The first level is the conversation's name: an answer's begin below it.
  return h(HEADINGS[level - 1], { dir: "auto" }, inline(text));
}

/**
 * @param {string[]} all - lines
 * @param {number} at
 * @param {RegExpExecArray} fence - what opens it
 * @returns {Block}
 */
function fenced(all, at, [, fence, language]) {
  let end = at + 1;
  while (end < all.length && !closes(all[end], fence)) end += 1;
  const text = all.slice(at + 1, end).join("\n");
  return { to: Math.min(end + 1, all.length), make: () => codeBlock(text, language) };
}

/**
 * @param {string} line
 * @param {string} fence
 */
function closes(line, fence) {
  const text = line.trim();
  return text.length >= fence.length && text === fence[0].repeat(text.length);
}

/**
 * @param {string[]} all - lines
 * @param {number} at
 * @returns {Block}
 */
function indented(all, at) {
  let to = at + 1;
  while (to < all.length && all[to].startsWith("    ")) to += 1;
  const text = all
    .slice(at, to)
    .map((line) => line.slice(4))
    .join("\n");
  return { to, make: () => codeBlock(text, "") };
}

/**
 * @param {string[]} all - lines
 * @param {number} at
 * @param {number} depth
 * @returns {Block}
 */
function quote(all, at, depth) {
  let to = at;
  while (to < all.length && QUOTE.test(all[to])) to += 1;
  const inner = all.slice(at, to).map((line) => line.replace(/^ {0,3}> ?/, ""));
  return {
    to,
    make: () =>
      h(
        "blockquote",
        {},
        blocks(inner, depth + 1).map((block) => block.make()),
      ),
  };
}

/**
 * @param {string[]} all - lines
 * @param {number} at
 * @param {number} depth
 * @returns {Block}
 */
function list(all, at, depth) {
  const ordered = isOrdered(all[at]);
  /** @type {Block[]} */
  const items = [];
  let to = at;
  while (to < all.length && isItem(all[to]) && !RULE.test(all[to]) && isOrdered(all[to]) === ordered) {
    const item = itemAt(all, to, depth);
    items.push(item);
    to = item.to;
  }
  const start = ordered ? Number.parseInt(all[at].trimStart(), 10) : 1;
  const make = () =>
    h(
      ordered ? "ol" : "ul",
      { start: ordered && start !== 1 ? String(start) : null },
      items.map((item) => item.make()),
    );
  return { to, make };
}

/**
 * An item with everything that is indented below it; blank lines belong to it when more of it follows.
 *
 * @param {string[]} all - lines
 * @param {number} at
 * @param {number} depth
 * @returns {Block}
 */
function itemAt(all, at, depth) {
  const [marker, before, sign, space] = ITEM.exec(all[at]) ?? ["", "", "", ""];
  const width = space.length > 4 || space === "" ? before.length + sign.length + 1 : marker.length;
  // Models often indent less than the marker is wide: two columns are enough.
  const least = before.length + 2;
  const inner = [all[at].slice(width)];
  let [to, nBlank] = [at + 1, 0];
  for (let next = at + 1; next < all.length; next += 1) {
    const line = all[next];
    const indent = line.length - line.trimStart().length;
    if (line.trim() === "") nBlank += 1;
    else if (indent >= least || (nBlank === 0 && !isItem(line) && !interrupts(all, next, depth))) {
      for (; nBlank > 0; nBlank -= 1) inner.push("");
      inner.push(line.slice(Math.min(indent, width)));
      to = next + 1;
    } else break;
  }
  let next = to;
  while (next < all.length && all[next].trim() === "") next += 1;
  const more = next < all.length && isItem(all[next]); // blank lines between items belong to the list
  return { to: more ? next : to, make: () => item(inner, depth) };
}

/**
 * @param {string[]} inner - lines, without the marker and what they are indented by
 * @param {number} depth
 */
function item(inner, depth) {
  const task = /^\[([ xX])\] /.exec(inner[0]);
  const [first, ...rest] = inner;
  const parts = blocks(task ? [first.slice(4), ...rest] : inner, depth + 1).map((block) => block.make());
  // One paragraph and a list below it read as one item, without space around.
  const isTight = parts.filter((node) => node.tagName === "P").length === 1;
  const nodes = parts.flatMap((node) => (isTight && node.tagName === "P" ? [...node.childNodes] : [node]));
  if (!task) return h("li", { dir: "auto" }, nodes);
  const isDone = task[1] !== " ";
  return h(
    "li",
    { dir: "auto", class: "task" },
    h("span", { class: "box", role: "img", "aria-label": isDone ? "done:" : "open:" }, isDone ? "☑" : "☐"),
    " ",
    nodes,
  );
}
