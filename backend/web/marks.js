/** The marks in an answer's source, such as [p12]. They pass through Markdown as signs that no model can write. */

// A proven mark names exactly one passage. Models also write several passages, or blanks, into one mark. Such marks are
// gone once the server has checked the answer.
const MARK = /\[ ?p ?\d{1,9}(?: ?[,;] ?(?:p ?)?\d{1,9})* ?\]/gi;
const BEGINNING = /[ \t\u00a0]*\[ ?(?:p[\dp ,;]*)?$/i;
const LONGEST_BEGINNING = 200;

// Noncharacters: Unicode reserves them for use inside a program. In a model's text they are replaced, also as entities.
const RESERVED = /[\ufdd0\ufdd1]|&#(?:0*6497[67]|x0*fdd[01]);/gi;
const REPLACEMENT = "\ufffd";
// A sign has brackets around its noncharacters, because emphasis ends before punctuation: **Refunds take 30 days.**[p1]
const SIGN = /\u27e6\ufdd0(\d+)\ufdd1\u27e7/g;
// This includes the blanks before a sign, so that the number directly follows its sentence. The search starts only at
// the first blank.
const SIGN_AND_BLANK = /(?<![ \t\u00a0])[ \t\u00a0]*\u27e6\ufdd0(\d+)\ufdd1\u27e7/;

/**
 * Return a source with a sign in place of each mark, and the marks. Markdown does not change the signs. Only marks in the
 * source become numbers: `&#91;p12]` stays text, although it looks like a mark after it is rendered.
 * @param {string} source
 */
export function withSigns(source) {
  /** @type {string[]} */
  const marks = [];
  const text = source.replace(RESERVED, REPLACEMENT).replace(MARK, (mark) => `\u27e6\ufdd0${marks.push(mark) - 1}\ufdd1\u27e7`);
  return { text, marks };
}

/** Return a text without its signs. @param {string} text */
export function withoutSigns(text) {
  return text.replace(SIGN, "");
}

/** Return a text with its signs replaced by their marks. @param {string} text @param {string[]} marks */
export function withMarks(text, marks) {
  return text.replace(SIGN, (_, place) => marks[Number(place)] ?? "");
}

/** Split a text at its signs. Pieces of text alternate with the indexes of the signs' marks. @param {string} text */
export function aroundSigns(text) {
  return text.split(SIGN_AND_BLANK);
}

/** Return a text without an end that may yet become a mark. @param {string} text */
export function withoutBeginning(text) {
  const tail = text.slice(-LONGEST_BEGINNING);
  return text.slice(0, text.length - tail.length) + tail.replace(BEGINNING, "");
}
