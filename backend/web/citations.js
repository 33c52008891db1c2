/** The sources of an answer: marks such as [p12] in its text become numbers that lead to the words they rest on. */

import { el } from "./dom.js";
import { openSource } from "./viewer.js";

// With the blank before it: a number stands right behind its sentence. A proven mark names one passage and nothing
// else; models write several into one, and blanks, which are gone once the server has checked the answer.
const MARK = /[ \t\u00a0]*\[ ?p ?(\d{1,9})(?: ?[,;] ?p ?\d{1,9})* ?\]/gi;
const BEGINNING = /[ \t\u00a0]*\[ ?(?:p[\dp ,;]*)?$/i;
const LONGEST_BEGINNING = 200;

/** @param {string} text */
export function withoutMarks(text) {
  return text.replace(MARK, "");
}

/** Whether the end of a text may be the beginning of a mark. @param {string} text */
export function endsInBeginning(text) {
  return BEGINNING.test(text.slice(-LONGEST_BEGINNING));
}

/**
 * Return an answer's text and its sources as nodes; a mark without a citation is not shown.
 * @param {string} text
 * @param {any[]} citations those that the server has proven
 * @param {boolean} isGrowing whether more may come
 */
export function cited(text, citations, isGrowing) {
  /** The sources by passage, in order of appearance. @type {Map<string, {number: number, uses: number, of: any[]}>} */
  const sources = new Map();
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(MARK)) {
    nodes.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    const of = citations.filter(({ mark }) => mark === match[0].trimStart());
    if (!of.length) continue;
    const source = sources.get(match[1]) ?? { number: sources.size + 1, uses: 0, of };
    sources.set(match[1], source);
    // Each mark has a citation of its own, because each may quote other words of the passage.
    const citation = of[Math.min(source.uses++, of.length - 1)];
    nodes.push(numberFor(source.number, citation));
  }
  const rest = text.slice(from);
  nodes.push(isGrowing ? rest.replace(BEGINNING, "") : rest);
  return { nodes, sources: [...sources.values()].map(({ number, of }) => line(number, of[0])) };
}

/** @param {number} number @param {any} citation */
function numberFor(number, citation) {
  const name = `Source ${number}: ${whereabouts(citation)}`;
  const open = () => openSource(citation);
  return el("button", { type: "button", class: "cite", "data-testid": "citation", "aria-label": name, title: name, onclick: open }, String(number));
}

/** @param {number} number @param {any} citation */
function line(number, citation) {
  const open = () => openSource(citation);
  const where = el("span", { class: "source-where" }, el("bdi", {}, citation.filename), pageText(citation));
  const quote = el("span", { class: "gist" }, citation.quote ? `“${citation.quote}”` : "");
  const button = el("button", { type: "button", "data-testid": "source", onclick: open }, el("span", { class: "cite" }, String(number)), " ", where, " ", quote);
  return el("li", {}, button);
}

/** @param {any} citation */
function whereabouts(citation) {
  return citation.filename + pageText(citation);
}

/** @param {any} citation */
function pageText({ page_number }) {
  return page_number === null || page_number === undefined ? "" : `, page ${page_number}`;
}
