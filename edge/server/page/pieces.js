/** Text that is read aloud, piece by piece while it grows: cut behind sentences and blocks, never amid code or a table. */

const MOST = 600; // characters of a piece, where it can be cut
const LONGEST = 2000; // and where it cannot
const FENCE = /^ {0,3}(`{3,}|~{3,})/u;
const SENTENCE = /[.!?…。！？]["'”’)\]*_]*(?=\s)|[。！？]/gu;
// A point behind these ends no sentence, or seldom: it is cut at the next one.
const GOES_ON = /(?:^|[\s("“„])(?:\p{Lu}|\d{1,3}|Mrs?|Ms|Dr|Prof|St|No|Fig|vs|e\.g|i\.e|z\.\s?B|d\.\s?h)\.$/u;

/**
 * Where the next piece of a text ends, null while there is none.
 *
 * @param {string} text
 * @param {number} from - where it begins
 * @param {boolean} isWhole - whether the text grows no more
 */
export function endOfPiece(text, from, isWhole) {
  const rest = text.slice(from);
  if (isWhole && rest.length <= MOST) return text.length;
  const ends = [...cuts(rest)];
  const last = ends.filter((end) => end <= MOST).at(-1) ?? ends[0];
  if (last !== undefined && last <= LONGEST) return from + last;
  if (rest.length > LONGEST) return from + (rest.lastIndexOf(" ", LONGEST) + 1 || LONGEST);
  return isWhole ? text.length : null;
}

/**
 * Where a text may be cut, in order.
 *
 * @param {string} text
 */
function* cuts(text) {
  let [at, fence] = [0, ""];
  for (const line of text.split(/(?<=\n)/u)) {
    const mark = FENCE.exec(line)?.[1] ?? "";
    const isTable = line.trimStart().startsWith("|");
    const wasCode = fence !== "";
    if (wasCode) fence = mark.startsWith(fence) ? "" : fence;
    else fence = mark;
    if (!(wasCode || fence || isTable))
      for (const { index, 0: end } of line.matchAll(SENTENCE))
        if (!GOES_ON.test(line.slice(0, index + 1))) yield at + index + end.length;
    at += line.length;
    const follows = text.slice(at).trimStart();
    if (line.endsWith("\n") && fence === "" && !(isTable && (follows === "" || follows.startsWith("|")))) yield at;
  }
}
