/** The end of a Markdown text that is still being written: what is half there is completed or held back. */

/** @typedef {import("./markdown.js").Block} Block */

// Items and quotes that a line may begin with.
const CONTAINERS = String.raw`(?:[ \t]*(?:>|[-*+][ \t]|\d{1,9}[.)][ \t]))*[ \t]*`;
// A line that may yet become a heading, an item, a checkbox, a rule, a fence or a part of a table.
const HALF_A_LINE = new RegExp(String.raw`^${CONTAINERS}(?:[-*+_=#~\x60|: \t]+|\d{1,9}[.)]?|\[[ xX]?\]?)?$`);
const LONGEST_HALF = 200;
const ROW = new RegExp(String.raw`^${CONTAINERS}\|`);
const ENDS_BLANK = /\n[ \t]*\n[ \t]*$/;
const FENCE = /^[ \t]*(`{3,}|~{3,})/;

// What matters within a line: escapes, code, HTML and addresses, entities, links, emphasis.
const TOKEN = /\\[\s\S]?|`+|<[^<>\s]*>?|&[\w#]*;?|!?\[|\]|\*+|_+|~+/g;
// Letters of scripts that set blanks between words, and digits.
const ALPHABETIC = /[\p{Ll}\p{Lu}\p{N}]/u;
const HALF_A_TOKEN = /^(?:\\|<[^>]*|&[^;]*)$/;
const DESTINATION = /\(\s*(?!\s)(?:<[^<>\n]*>|(?:\\.|\([^\s()]*\)|[^\s()<\\])*)(?:\s+(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\((?:\\.|[^)\\])*\)))?\s*\)/y;
const HALF_A_DESTINATION = /(?:\(\s*(?!\s)(?:<[^<>\n]*|[^\s<]*)(?:\s+(?:["'(].*)?)?)?$/y;
// A destination that is no address leaves a link's words as text.
const NOWHERE = "(#)";

/** @typedef {{mark: string, at: number}} Open what is open, and where it begins */

/**
 * Return a text whose end is completed or held back, so that no raw marker shows.
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

/** The block at the very end, within whatever holds it. @param {Block[]} blocks @returns {Block | undefined} */
function lastLeaf(blocks) {
  const last = blocks.filter(({ type }) => type !== "space").at(-1);
  const inside = last?.type === "list" ? last.items : last?.type === "list_item" || last?.type === "blockquote" ? last.tokens : null;
  return inside?.length ? (lastLeaf(inside) ?? last) : last;
}

/** Without half of what opens or closes a block of code. @param {string} text @param {string} raw the block's source */
function withCodeCompleted(text, raw) {
  const fence = FENCE.exec(raw)?.[1];
  if (!fence) return text;
  const lines = raw.split("\n");
  const end = lines[lines.length - 1].trim();
  // What stands behind the opening fence is the language, of which there may be more to come.
  if (lines.length === 1) return text.trimEnd().slice(0, fence.length - end.length || undefined);
  const isHalfAFence = end !== "" && end.length < fence.length && fence.startsWith(end);
  return isHalfAFence ? text.slice(0, text.lastIndexOf("\n")) : text;
}

/** Without a last line that may yet become anything. @param {string} text @param {Block} [leaf] */
function withoutHalfALine(text, leaf) {
  const start = text.lastIndexOf("\n") + 1;
  const line = text.slice(start);
  if (line.trim() && line.length < LONGEST_HALF && HALF_A_LINE.test(line)) return text.slice(0, start);
  // The first row of a table looks like any text until the next line is there.
  const lines = text.replace(/\n$/, "").split("\n");
  const row = lines.at(-1) ?? "";
  const isFirstRow = leaf?.type !== "table" && ROW.test(row) && !ROW.test(lines.at(-2) ?? "");
  return isFirstRow ? text.slice(0, text.lastIndexOf(row)) : text;
}

/** With what is open in the last line closed, and what is half open held back. @param {string} text @param {Block} [leaf] */
function withLineCompleted(text, leaf) {
  const isClosed = ENDS_BLANK.test(text) || (leaf?.type !== "paragraph" && leaf?.type !== "text" && text.endsWith("\n"));
  if (!leaf || isClosed) return text;
  const whole = text.trimEnd();
  // Of a table only the last cell is open.
  const line = (leaf.type === "table" ? whole.replace(/^[\s\S]*(?<!\\)\|/, "") : (leaf.text ?? "")).trimEnd();
  const { kept, closers } = closed(line);
  return whole.slice(0, whole.length - (line.length - kept)) + closers;
}

/**
 * Return how many characters to show, and the markers that close the rest.
 * @param {string} line
 * @returns {{kept: number, closers: string}}
 */
function closed(line) {
  /** The innermost last. @type {Open[]} */
  const open = [];
  let kept = line.length;
  for (let match = next(line, 0); match; ) {
    const { 0: token, index } = match;
    let end = index + token.length;
    if (token[0] === "`") {
      const closing = endOfCode(line, end, token.length);
      // Fewer backticks at the end may be half of what closes it.
      if (closing < 0) return withClosers(line.slice(0, line.length - endingBackticks(line, end)), [...open, { mark: token, at: index }]);
      end = closing;
    } else if (token.endsWith("[")) {
      open.push({ mark: "[", at: index });
    } else if (token === "]") {
      const start = open.findLastIndex(({ mark }) => mark === "[");
      const destination = start < 0 ? -1 : endOfDestination(line, end);
      if (destination === line.length + 1) return withClosers(line.slice(0, end), open.slice(0, start), NOWHERE);
      // What is open within the words of a link stays as it is; brackets that are no link are brackets.
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

/** Where the run of backticks ends that closes code, or -1. @param {string} line @param {number} from @param {number} length */
function endOfCode(line, from, length) {
  for (const { 0: run, index } of line.slice(from).matchAll(/`+/g)) if (run.length === length) return from + index + length;
  return -1;
}

/** How many backticks stand at the end, from a place on. @param {string} line @param {number} from */
function endingBackticks(line, from) {
  let start = line.length;
  while (start > from && line[start - 1] === "`") start -= 1;
  return line.length - start;
}

/** Where a link's destination ends: behind the line when it is not all there, -1 when there is none. @param {string} line @param {number} from */
function endOfDestination(line, from) {
  DESTINATION.lastIndex = HALF_A_DESTINATION.lastIndex = from;
  if (DESTINATION.test(line)) return DESTINATION.lastIndex;
  return HALF_A_DESTINATION.test(line) ? line.length + 1 : -1;
}

/**
 * Take in a run of emphasis marks: it closes what is open, or opens, or may do either when more has come.
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
  // CommonMark's rules for what may open and what may close.
  const isLeft = !isBlank(after) && (!isPunctuation(after) || isBlank(before) || isPunctuation(before));
  const isRight = !isBlank(before) && (!isPunctuation(before) || isBlank(after) || isPunctuation(after));
  const canOpen = isLeft && (mark !== "_" || !isRight || isPunctuation(before));
  const canClose = isRight && (mark !== "_" || !isLeft || isPunctuation(after));
  let left = token.length;
  while (left && canClose) {
    const place = open.findLastIndex((one) => one.mark[0] === mark || one.mark === "[");
    const opener = open[place];
    // Fewer at the end than were opened may be half of what closes them.
    if (opener?.mark[0] !== mark || (isAtEnd && opener.mark.length > left)) break;
    const used = Math.min(opener.mark.length, left, 2);
    open.length = place;
    if (opener.mark.length > used) open.push({ mark: opener.mark.slice(used), at: opener.at });
    left -= used;
  }
  if (isAtEnd) return left;
  // A single one within a word or a number, as in 2*3, is most likely no emphasis.
  const isWithinAWord = token === "*" && ALPHABETIC.test(before) && !isBlank(after);
  if (left && canOpen && !isWithinAWord) open.push({ mark: mark.repeat(left), at: index });
  return 0;
}

/** @param {string} shown @param {Open[]} open @param {string} [last] what follows what is shown */
function withClosers(shown, open, last = "") {
  let closers = last;
  let kept = shown.trimEnd();
  for (const { mark, at } of open.reverse()) {
    // Nothing is in it yet.
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
