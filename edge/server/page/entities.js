/** Characters of a text that are written as HTML writes them: by name or by number. */

/** @type {Record<string, string>} */
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/**
 * What an ampersand begins, and how long it is: the character that is meant, or else the text as it is written.
 *
 * @param {string} text
 * @param {number} at
 */
export function entityAt(text, at) {
  const found = /^&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,5}));/.exec(text.slice(at, at + 12));
  const [whole, decimal, hexadecimal, name] = found ?? ["&"];
  const code = decimal ? Number(decimal) : hexadecimal ? Number.parseInt(hexadecimal, 16) : 0;
  if (isCharacter(code)) return { text: String.fromCodePoint(code), length: whole.length };
  return { text: name && Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : whole, length: whole.length };
}

/** @param {number} code */
const isCharacter = (code) => code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
