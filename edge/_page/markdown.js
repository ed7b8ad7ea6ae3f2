/** Markdown as DOM nodes, block by block; what did not change since the last token keeps its nodes. */

import { h, icon } from "./dom.js";
import { inline } from "./inline.js";

const MAX_NESTING = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\s]*)/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}>/;
const ITEM = /^( *)([-+*]|\d{1,9}[.)])( +|$)/;

/** A text's nodes. */
export function markdown(text) {
  return blocks(lines(text), 0).map((block) => block.make());
}

/** An element that shows a growing Markdown text: only the blocks that changed are made again. */
export class MarkdownView {
  constructor(element) {
    this.element = element;
    this.shown = [];
  }

  update(text) {
    const all = lines(text);
    const fresh = blocks(all, 0).map((block) => ({
      source: all.slice(block.from, block.to).join("\n"),
      make: block.make,
    }));
    let same = 0;
    while (same < this.shown.length && same < fresh.length && this.shown[same].source === fresh[same].source)
      same += 1;
    for (const old of this.shown.splice(same)) old.node.remove();
    for (const { source, make } of fresh.slice(same)) {
      const node = make();
      this.element.append(node);
      this.shown.push({ source, node });
    }
  }
}

const lines = (text) => text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n");

/** The blocks of some lines, not made yet: {from, to, make}; `to` is the line after the last. */
function blocks(all, depth) {
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

function blockAt(all, at, depth) {
  const line = all[at];
  if (FENCE.test(line)) return fenced(all, at);
  if (HEADING.test(line)) return { to: at + 1, make: () => heading(line) };
  if (RULE.test(line)) return { to: at + 1, make: () => h("hr") };
  if (depth < MAX_NESTING && QUOTE.test(line)) return quote(all, at, depth);
  if (depth < MAX_NESTING && isItem(line)) return list(all, at, depth);
  if (line.startsWith("    ")) return indented(all, at);
  if (isTable(all, at)) return table(all, at);
  return paragraph(all, at, depth);
}

const isItem = (line) => (ITEM.exec(line)?.[1].length ?? 9) < 4;

/** Whether a line ends a paragraph before it: a list does only with a bullet or the number one. */
function interrupts(all, at, depth) {
  const line = all[at];
  if (line.trim() === "" || FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
  if (depth >= MAX_NESTING) return false;
  return QUOTE.test(line) || /^ {0,3}([-+*]|1[.)]) /.test(line) || isTable(all, at);
}

function paragraph(all, at, depth) {
  let to = at + 1;
  while (to < all.length && !interrupts(all, to, depth)) to += 1;
  const text = all
    .slice(at, to)
    .map((line) => line.trim())
    .join("\n");
  return { to, make: () => h("p", { dir: "auto" }, inline(text)) };
}

function heading(line) {
  const level = HEADING.exec(line)[1].length;
  let text = line.trim().slice(level).trim();
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  if (end === 0 || text[end - 1] === " ") text = text.slice(0, end).trim();
  // The first level is the conversation's name: an answer's begin below it.
  return h(`h${Math.min(level + 1, 6)}`, { dir: "auto" }, inline(text));
}

function fenced(all, at) {
  const [, fence, language] = FENCE.exec(all[at]);
  let end = at + 1;
  while (end < all.length && !closes(all[end], fence)) end += 1;
  const text = all.slice(at + 1, end).join("\n");
  return { to: Math.min(end + 1, all.length), make: () => codeBlock(text, language) };
}

function closes(line, fence) {
  const text = line.trim();
  return text.length >= fence.length && text === fence[0].repeat(text.length);
}

function indented(all, at) {
  let to = at + 1;
  while (to < all.length && all[to].startsWith("    ")) to += 1;
  const text = all
    .slice(at, to)
    .map((line) => line.slice(4))
    .join("\n");
  return { to, make: () => codeBlock(text, "") };
}

function codeBlock(text, language) {
  const name = /^[\w+#.-]{1,24}$/.test(language) ? language : "";
  const copy = h(
    "button",
    { type: "button", class: "quiet copy-code", "aria-label": "Copy the code" },
    icon("copy"),
    "Copy",
  );
  const pre = h("pre", { tabindex: "0", dir: "ltr" }, h("code", {}, text));
  return h("div", { class: "code" }, h("div", { class: "code-head" }, h("span", {}, name || "code"), copy), pre);
}

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

function list(all, at, depth) {
  const ordered = /\d/.test(ITEM.exec(all[at])[2]);
  const items = [];
  let to = at;
  while (to < all.length && isItem(all[to]) && !RULE.test(all[to]) && /\d/.test(ITEM.exec(all[to])[2]) === ordered) {
    const item = itemAt(all, to, depth);
    items.push(item);
    to = item.to;
  }
  const start = ordered ? Number.parseInt(ITEM.exec(all[at])[2], 10) : 1;
  const make = () =>
    h(
      ordered ? "ol" : "ul",
      { start: ordered && start !== 1 ? String(start) : null },
      items.map((item) => item.make()),
    );
  return { to, make };
}

/** An item with everything that is indented below it; blank lines belong to it when more of it follows. */
function itemAt(all, at, depth) {
  const [marker, before, sign, space] = ITEM.exec(all[at]);
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

const cells = (line) =>
  line
    .trim()
    .replace(/^\|/, "")
    .replace(/\|$/, "")
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));

function isTable(all, at) {
  if (at + 1 >= all.length || !all[at].includes("|") || !all[at + 1].includes("-")) return false;
  const below = cells(all[at + 1]);
  return below.every((cell) => /^:?-+:?$/.test(cell)) && below.length === cells(all[at]).length;
}

function table(all, at) {
  let to = at + 2;
  while (to < all.length && all[to].includes("|") && all[to].trim() !== "") to += 1;
  const rows = all.slice(at + 2, to).map(cells);
  return { to, make: () => tableOf(cells(all[at]), cells(all[at + 1]), rows) };
}

function tableOf(head, below, rows) {
  const sides = below.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : "start"));
  const row = (tag, texts) =>
    h(
      "tr",
      {},
      head.map((_, i) => h(tag, { class: sides[i], scope: tag === "th" ? "col" : null }, inline(texts[i] ?? ""))),
    );
  const body = rows.map((texts) => row("td", texts));
  return h(
    "div",
    { class: "table", tabindex: "0", role: "group", "aria-label": "Table" },
    h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, body)),
  );
}
