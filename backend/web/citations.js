/** An answer's sources: proven marks become numbers that open the words they cite. */

import { el } from "./dom.js";
import { aroundSigns, withMarks } from "./marks.js";
import { openSource } from "./viewer.js";

/** @import { Citation } from "./schemas.d.ts" */

/** Numbers the marks of one answer in order of appearance. Each passage has one number. */
export class Numbering {
  #marks;
  #citations;
  /** For each mark the index of its citation, or -1. Two marks never share a citation, because each may quote other words. @type {number[]} */
  #places;
  /** The number of each passage that has appeared. @type {Map<number, number>} */
  #numbers = new Map();
  /** For each number the citation that it first appeared with. @type {Citation[]} */
  #first = [];

  /**
   * @param {string[]} marks the answer's marks, in order
   * @param {Citation[]} citations the citations that the server has proven: one for each proven mark, in the same order
   */
  constructor(marks, citations) {
    this.#marks = marks;
    this.#citations = citations;
    /** @type {Map<string, number[]>} */
    const left = new Map();
    for (const [place, { mark }] of citations.entries()) left.set(mark, [...(left.get(mark) ?? []), place]);
    this.#places = marks.map((mark) => left.get(mark)?.shift() ?? -1);
  }

  /** Replace the proven marks in a text by numbers, and remove the other marks. In code, marks stay text. @param {Node} root */
  apply(root) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    /** @type {Text[]} */
    const found = [];
    while (walker.nextNode()) found.push(/** @type {Text} */ (walker.currentNode));
    /** @type {Map<Element, Node[]>} */
    const behind = new Map();
    for (const text of found) this.#applyTo(text, behind);
    for (const [link, buttons] of behind) link.after(...buttons);
  }

  /** @param {Text} text @param {Map<Element, Node[]>} behind collects the buttons that go after each link */
  #applyTo(text, behind) {
    const pieces = aroundSigns(text.data);
    if (pieces.length === 1) return;
    if (text.parentElement?.closest("code")) {
      text.data = withMarks(text.data, this.#marks);
      return;
    }
    const nodes = pieces.map((piece, index) => (index % 2 ? this.#number(Number(piece)) : piece)).filter(Boolean);
    const link = text.parentElement?.closest("a");
    if (!link) return text.replaceWith(...nodes);
    // A button must not be inside a link, because a click could then mean either.
    behind.set(link, [...(behind.get(link) ?? []), ...nodes.filter((node) => typeof node !== "string")]);
    text.replaceWith(...nodes.filter((node) => typeof node === "string"));
  }

  /** @param {number} mark the mark's index among the marks */
  #number(mark) {
    const place = this.#places[mark] ?? -1;
    if (place < 0) return "";
    const citation = this.#citations[place];
    const number = this.#numbers.get(citation.passage_id) ?? this.#first.push(citation);
    this.#numbers.set(citation.passage_id, number);
    const name = `Source ${number}: ${whereabouts(citation)}`;
    const button = { type: "button", class: "cite", "data-testid": "citation", "data-citation": place, "aria-label": name, title: name };
    return el("button", button, String(number));
  }

  /** Return a line for each source that has appeared. */
  lines() {
    return this.#first.map((citation, index) => line(index + 1, citation));
  }
}

/** If the click was on a source's number, open that source. @param {Event} event @param {Citation[]} citations */
export function openPressed(event, citations) {
  const button = /** @type {Element} */ (event.target).closest("button.cite");
  if (button) openSource(citations[Number(button.getAttribute("data-citation"))]);
}

/** @param {number} number @param {Citation} citation */
function line(number, citation) {
  const open = () => openSource(citation);
  const where = el("span", { class: "source-where" }, el("bdi", {}, citation.filename), pageText(citation));
  const quote = el("span", { class: "gist" }, citation.quote ? `“${citation.quote}”` : "");
  const button = el("button", { type: "button", "data-testid": "source", onclick: open }, el("span", { class: "cite" }, String(number)), " ", where, " ", quote);
  return el("li", {}, button);
}

/** @param {Citation} citation */
function whereabouts(citation) {
  return citation.filename + pageText(citation);
}

/** @param {Citation} citation */
function pageText({ page_number }) {
  return page_number === null || page_number === undefined ? "" : `, page ${page_number}`;
}
