/** The end of a Markdown text that is still being written: an incomplete construct is completed or held back. */

/** @typedef {import("./markdown.js").Block} Block */

// The markers of list items and quotes that a line may begin with.
const CONTAINERS = String.raw`(?:[ \t]*(?:>|[-*+][ \t]|\d{1,9}[.)][ \t]))*[ \t]*`;
// A line that may yet become a heading, a list item, a checkbox, a rule, a fence or a part of a table.
const HALF_A_LINE = new RegExp(String.raw`^${CONTAINERS}(?:[-*+_=#~\x60|: \t]+|\d{1,9}[.)]?|\[[ xX]?\]?)?$`);
const LONGEST_HALF = 200;
const ROW = new RegExp(String.raw`^${CONTAINERS}\|`);
const ENDS_BLANK = /\n[ \t]*\n[ \t]*$/;
const FENCE = /^[ \t]*(`{3,}|~{3,})/;

// The constructs within a line: escapes, code, HTML and addresses, entities, links, emphasis.
const TOKEN = /\\[\s\S]?|`+|<[^<>\s]*>?|&[\w#]*;?|!?\[|\]|\*+|_+|~+/g;
// Digits, and letters of scripts that separate words by blanks.
const ALPHABETIC = /[\p{Ll}\p{Lu}\p{N}]/u;
const HALF_A_TOKEN = /^(?:\\|<[^>]*|&[^;]*)$/;
const DESTINATION = /\(\s*(?!\s)(?:<[^<>\n]*>|(?:\\.|\([^\s()]*\)|[^\s()<\\])*)(?:\s+(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\((?:\\.|[^)\\])*\)))?\s*\)/y;
const HALF_A_DESTINATION = /(?:\(\s*(?!\s)(?:<[^<>\n]*|[^\s<]*)(?:\s+(?:["'(].*)?)?)?$/y;
// This destination is not an address, so the words of an unfinished link are shown as text.
const NOWHERE = "(#)";

/** @typedef {{mark: string, at: number}} Open an open marker, and where it begins */

/**
 * Return a text with its end completed or held back, so that no raw marker shows.
 * @param {string} text
 * @param {(text: string) => Block[]} structure
 */
export function completed(text, structure) {
  for (;;) {
    const leaf = lastLeaf(structure(text));
    if (leaf?.type === "code") return withCodeCompleted(text, leaf.raw);
    const whole = withoutHalfALine(text, leaf);
    if (whole === text) return withLineCompleted(text, leaf);
    text = whole;
  }
}

/** Return the innermost block at the very end. @param {Block[]} blocks @returns {Block | undefined} */
function lastLeaf(blocks) {
  const last = blocks.filter(({ type }) => type !== "space").at(-1);
  const inside = last?.type === "list" ? last.items : last?.type === "list_item" || last?.type === "blockquote" ? last.tokens : null;
  return inside?.length ? (lastLeaf(inside) ?? last) : last;
}

/** Remove half a fence, or half a language name, from a code block's end. @param {string} text @param {string} raw the block's source */
function withCodeCompleted(text, raw) {
  const fence = FENCE.exec(raw)?.[1];
  if (!fence) return text;
  const lines = raw.split("\n");
  const end = lines[lines.length - 1].trim();
  // The text after the opening fence is the language's name, which may be incomplete.
  if (lines.length === 1) return text.trimEnd().slice(0, fence.length - end.length || undefined);
  const isHalfAFence = end !== "" && end.length < fence.length && fence.startsWith(end);
  return isHalfAFence ? text.slice(0, text.lastIndexOf("\n")) : text;
}

/** Remove a last line whose kind is still unknown. @param {string} text @param {Block} [leaf] */
function withoutHalfALine(text, leaf) {
  const start = text.lastIndexOf("\n") + 1;
  const line = text.slice(start);
  if (line.trim() && line.length < LONGEST_HALF && HALF_A_LINE.test(line)) return text.slice(0, start);
  // A table's first row looks like ordinary text until the next line arrives.
  const lines = text.replace(/\n$/, "").split("\n");
  const row = lines.at(-1) ?? "";
  const isFirstRow = leaf?.type !== "table" && ROW.test(row) && !ROW.test(lines.at(-2) ?? "");
  return isFirstRow ? text.slice(0, text.lastIndexOf(row)) : text;
}

/** Close the open markers in the last line, and hold back half a marker. @param {string} text @param {Block} [leaf] */
function withLineCompleted(text, leaf) {
  const isClosed = ENDS_BLANK.test(text) || (leaf?.type !== "paragraph" && leaf?.type !== "text" && text.endsWith("\n"));
  if (!leaf || isClosed) return text;
  const whole = text.trimEnd();
  // In a table, only the last cell can have open markers.
  const line = (leaf.type === "table" ? whole.replace(/^[\s\S]*(?<!\\)\|/, "") : (leaf.text ?? "")).trimEnd();
  const { kept, closers } = closed(line);
  return whole.slice(0, whole.length - (line.length - kept)) + closers;
}

/**
 * Return the part of a line to show, and the markers that close what is open in it.
 * @param {string} line
 * @returns {{kept: number, closers: string}}
 */
function closed(line) {
  /** The open markers, innermost last. @type {Open[]} */
  const open = [];
  let kept = line.length;
  for (let match = next(line, 0); match; ) {
    const { 0: token, index } = match;
    let end = index + token.length;
    if (token[0] === "`") {
      const closing = endOfCode(line, end, token.length);
      // Fewer backticks at the end may be the first part of the closing backticks.
      if (closing < 0) return withClosers(line.slice(0, line.length - endingBackticks(line, end)), [...open, { mark: token, at: index }]);
      end = closing;
    } else if (token.endsWith("[")) {
      open.push({ mark: "[", at: index });
    } else if (token === "]") {
      const start = open.findLastIndex(({ mark }) => mark === "[");
      const destination = start < 0 ? -1 : endOfDestination(line, end);
      if (destination === line.length + 1) return withClosers(line.slice(0, end), open.slice(0, start), NOWHERE);
      // Markers that are open within a link's words stay as they are. Brackets that are not a link are ordinary text.
      if (destination >= 0) open.length = start;
      else if (start >= 0) open.splice(start, 1);
      end = Math.max(end, destination);
    } else if ("*_~".includes(token[0])) {
      kept -= takeEmphasis(line, index, token, open);
    } else if (end === line.length && HALF_A_TOKEN.test(token)) {
      kept = index;
    }
    match = next(line, end);
  }
  return withClosers(line.slice(0, kept), open);
}

/** @param {string} line @param {number} from */
function next(line, from) {
  TOKEN.lastIndex = from;
  return TOKEN.exec(line);
}

/** Return the end of the backticks that close the code, or -1. @param {string} line @param {number} from @param {number} length */
function endOfCode(line, from, length) {
  for (const { 0: run, index } of line.slice(from).matchAll(/`+/g)) if (run.length === length) return from + index + length;
  return -1;
}

/** Count the backticks at the line's end, not before `from`. @param {string} line @param {number} from */
function endingBackticks(line, from) {
  let start = line.length;
  while (start > from && line[start - 1] === "`") start -= 1;
  return line.length - start;
}

/** Return the end of a link's destination: past the line's end if it is incomplete, -1 if there is none. @param {string} line @param {number} from */
function endOfDestination(line, from) {
  DESTINATION.lastIndex = HALF_A_DESTINATION.lastIndex = from;
  if (DESTINATION.test(line)) return DESTINATION.lastIndex;
  return HALF_A_DESTINATION.test(line) ? line.length + 1 : -1;
}

/**
 * Handle a run of emphasis marks. It closes an open marker or opens one; at the line's end this may be undecided.
 * @param {string} line
 * @param {number} index
 * @param {string} token
 * @param {Open[]} open
 * @returns {number} how many of the marks are held back
 */
function takeEmphasis(line, index, token, open) {
  const mark = token[0];
  const before = line[index - 1] ?? " ";
  const after = line[index + token.length] ?? " ";
  const isAtEnd = index + token.length === line.length;
  if (mark === "~" && token.length !== 2 && !isAtEnd) return 0;
  // CommonMark's rules for marks that may open or close emphasis.
  const isLeft = !isBlank(after) && (!isPunctuation(after) || isBlank(before) || isPunctuation(before));
  const isRight = !isBlank(before) && (!isPunctuation(before) || isBlank(after) || isPunctuation(after));
  const canOpen = isLeft && (mark !== "_" || !isRight || isPunctuation(before));
  const canClose = isRight && (mark !== "_" || !isLeft || isPunctuation(after));
  let left = token.length;
  while (left && canClose) {
    const place = open.findLastIndex((one) => one.mark[0] === mark || one.mark === "[");
    const opener = open[place];
    // If fewer marks are at the line's end than were opened, they may be the first part of the closing marks.
    if (opener?.mark[0] !== mark || (isAtEnd && opener.mark.length > left)) break;
    const used = Math.min(opener.mark.length, left, 2);
    open.length = place;
    if (opener.mark.length > used) open.push({ mark: opener.mark.slice(used), at: opener.at });
    left -= used;
  }
  if (isAtEnd) return left;
  // A single asterisk within a word or a number, as in 2*3, is probably not emphasis.
  const isWithinAWord = token === "*" && ALPHABETIC.test(before) && !isBlank(after);
  if (left && canOpen && !isWithinAWord) open.push({ mark: mark.repeat(left), at: index });
  return 0;
}

/** @param {string} shown @param {Open[]} open @param {string} [last] text to add directly after `shown` */
function withClosers(shown, open, last = "") {
  let closers = last;
  let kept = shown.trimEnd();
  for (const { mark, at } of open.reverse()) {
    // A marker with nothing after it yet is removed instead of closed.
    if (!closers && !kept.slice(at).replace(/^(?:!?\[|[*_~`]+)/, "")) kept = kept.slice(0, at).trimEnd();
    else closers += mark === "[" ? `]${NOWHERE}` : mark;
  }
  return { kept: kept.length, closers };
}

/** @param {string} character */
function isBlank(character) {
  return /\s/.test(character);
}

/** @param {string} character */
function isPunctuation(character) {
  return /[\p{P}\p{S}]/u.test(character);
}
