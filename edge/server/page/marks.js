/** The marks of Markdown inside a line, found in plain text: runs, brackets, addresses. */

/**
 * @typedef {"*" | "_" | "~"} Mark
 * @typedef {object} Run - of marks; left: how many of them are not used yet
 * @property {Mark} mark
 * @property {number} count
 * @property {number} left
 * @property {boolean} opens
 * @property {boolean} closes
 */

export const MAX_ADDRESS = 2000; // characters
export const PUNCTUATION = /[\p{P}\p{S}]/u;

/**
 * How often a character is repeated.
 *
 * @param {string} text
 * @param {number} at
 */
export function runLength(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

/**
 * Where the next run of backquotes of some length is, -1 where there is none.
 *
 * @param {string} text
 * @param {number} from
 * @param {number} length
 */
export function closingRun(text, from, length) {
  let at = text.indexOf("`", from);
  while (at >= 0) {
    const found = runLength(text, at);
    if (found === length) return at;
    at = text.indexOf("`", at + found);
  }
  return -1;
}

/**
 * A run of marks, and whether it may open and close by what is around it.
 *
 * @param {string} text
 * @param {number} at
 * @returns {Run}
 */
export function flanks(text, at) {
  const mark = /** @type {Mark} */ (text[at]);
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

/**
 * Whether two runs may be the ends of one emphasis.
 *
 * @param {Run} opener
 * @param {Run} closer
 */
export function matches(opener, closer) {
  const sum = opener.count + closer.count;
  const both = opener.closes || closer.opens;
  return !(both && sum % 3 === 0 && (opener.count % 3 !== 0 || closer.count % 3 !== 0));
}

/**
 * Every opening bracket with its closing one, found in one pass.
 *
 * @param {string} text
 */
export function pairs(text) {
  /** @type {Map<number, number>} */
  const found = new Map();
  /** @type {number[]} */
  const waiting = [];
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "[") waiting.push(at);
    else if (text[at] === "]" && waiting.length > 0) found.set(Number(waiting.pop()), at);
  }
  return found;
}

/**
 * The address in a link's round brackets, its title left out; null where the brackets do not close.
 *
 * @param {string} text
 * @param {number} from
 */
export function destination(text, from) {
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

/**
 * A bare address without the full stop or bracket of the sentence around it.
 *
 * @param {string} address
 */
export function trimmed(address) {
  let end = address.length;
  let surplus = address.split(")").length - address.split("(").length; // brackets closed and never opened
  while (end > 0 && /[.,:;!?'")\]]/.test(address[end - 1])) {
    if (address[end - 1] === ")" && surplus <= 0) break;
    if (address[end - 1] === ")") surplus -= 1;
    end -= 1;
  }
  return address.slice(0, end);
}
