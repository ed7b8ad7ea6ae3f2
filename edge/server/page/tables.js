/** Tables of Markdown. */

import { h } from "./dom.js";
import { inline } from "./inline.js";

/** @import { Block } from "./blocks.js" */

/**
 * The texts of a row.
 *
 * @param {string} line
 */
const cells = (line) =>
  line
    .trim()
    .replace(/^\|/, "")
    .replace(/\|$/, "")
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));

/**
 * Whether a table begins at a line.
 *
 * @param {string[]} all - lines
 * @param {number} at
 */
export function isTable(all, at) {
  if (at + 1 >= all.length || !all[at].includes("|") || !all[at + 1].includes("-")) return false;
  const below = cells(all[at + 1]);
  return below.every((cell) => /^:?-+:?$/.test(cell)) && below.length === cells(all[at]).length;
}

/**
 * The table that begins at a line.
 *
 * @param {string[]} all - lines
 * @param {number} at
 * @returns {Block}
 */
export function table(all, at) {
  let to = at + 2;
  while (to < all.length && all[to].includes("|") && all[to].trim() !== "") to += 1;
  const rows = all.slice(at + 2, to).map(cells);
  return { to, make: () => tableOf(cells(all[at]), cells(all[at + 1]), rows) };
}

/**
 * @param {string[]} head - texts of the first row
 * @param {string[]} below - the marks under them
 * @param {string[][]} rows
 */
function tableOf(head, below, rows) {
  const sides = below.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : "start"));
  /**
   * @param {"th" | "td"} tag
   * @param {string[]} texts
   */
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
