/** The marks in the source of an answer, such as [p12]. They travel through Markdown as signs that no model can write. */

// A proven mark names one passage and nothing else; models write several into one, and blanks, which are gone once the
// server has checked the answer.
const MARK = /\[ ?p ?\d{1,9}(?: ?[,;] ?(?:p ?)?\d{1,9})* ?\]/gi;
const BEGINNING = /[ \t\u00a0]*\[ ?(?:p[\dp ,;]*)?$/i;
const LONGEST_BEGINNING = 200;

// Noncharacters: Unicode reserves them for use inside a program. What a model writes loses them, as entities too.
const RESERVED = /[\ufdd0\ufdd1]|&#(?:0*6497[67]|x0*fdd[01]);/gi;
const REPLACEMENT = "\ufffd";
// Brackets around them, because emphasis ends before punctuation: **Refunds take 30 days.**[p1]
const SIGN = /\u27e6\ufdd0(\d+)\ufdd1\u27e7/g;
// With the blanks before it: a number stands right behind its sentence. The search begins at the first blank only.
const SIGN_AND_BLANK = /(?<![ \t\u00a0])[ \t\u00a0]*\u27e6\ufdd0(\d+)\ufdd1\u27e7/;

/**
 * Return a source with a sign in place of each mark, and the marks. A mark keeps out of Markdown's way like this, and
 * nothing but a mark in the source becomes one: `&#91;p12]` is text, though it looks like a mark once it is rendered.
 * @param {string} source
 */
export function withSigns(source) {
  /** @type {string[]} */
  const marks = [];
  const text = source.replace(RESERVED, REPLACEMENT).replace(MARK, (mark) => `\u27e6\ufdd0${marks.push(mark) - 1}\ufdd1\u27e7`);
  return { text, marks };
}

/** A text without its signs. @param {string} text */
export function withoutSigns(text) {
  return text.replace(SIGN, "");
}

/** A text with its marks again. @param {string} text @param {string[]} marks */
export function withMarks(text, marks) {
  return text.replace(SIGN, (_, place) => marks[Number(place)] ?? "");
}

/** The text before, between and behind the signs, and in between the places of their marks. @param {string} text */
export function aroundSigns(text) {
  return text.split(SIGN_AND_BLANK);
}

/** A text without the end that may become a mark. @param {string} text */
export function withoutBeginning(text) {
  const tail = text.slice(-LONGEST_BEGINNING);
  return text.slice(0, text.length - tail.length) + tail.replace(BEGINNING, "");
}
