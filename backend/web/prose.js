/** An answer's text as elements. The text grows block by block, and finished blocks keep their nodes. */

import { el } from "./dom.js";
import { blocks, rendered, structure } from "./markdown.js";
import { completed } from "./unfinished.js";

/** The most characters that are rendered as Markdown. A longer text would block the page, so it is shown as plain text. */
const LONGEST_MARKDOWN = 100_000;
const BLANK_LINES = /^(?:[ \t]*\n)+/;
const ENDS_BLANK = /\n[ \t]*\n[ \t]*$/;

export class Prose {
  #body;
  /** The source of each block that is shown. @type {{type: string, raw: string}[]} */
  #shown = [];
  /** The number of blocks that no further text can change. */
  #finished = 0;

  /** @param {HTMLElement} body */
  constructor(body) {
    this.#body = body;
  }

  /**
   * Show a text.
   * @param {string} text
   * @param {object} how
   * @param {boolean} how.isMarkdown
   * @param {boolean} how.isGrowing whether more text may follow
   * @param {boolean} how.isFresh whether to rebuild blocks whose source is unchanged
   * @param {(block: HTMLElement) => void} how.finish called for each new block, in order
   */
  show(text, { isMarkdown, isGrowing, isFresh, finish }) {
    const source = text.replace(/\r\n?/g, "\n").replace(BLANK_LINES, "");
    const isShort = source.length <= LONGEST_MARKDOWN;
    const { next, places, made } = (isMarkdown && isShort && this.#markdown(source, isGrowing, isFresh)) || this.#plain(source, isFresh);
    for (const [index, block] of made.entries()) {
      finish(block);
      this.#place(places[index], block);
    }
    for (let index = this.#shown.length; index > next.length; index -= 1) this.#removeLast();
    this.#shown = next;
    this.#finished = finishedOf(next);
  }

  /**
   * Return the blocks to show, and which of them are new. Return null for a text that is nested too deeply.
   * @param {string} source
   * @param {boolean} isGrowing
   * @param {boolean} isFresh
   */
  #markdown(source, isGrowing, isFresh) {
    try {
      const kept = isFresh ? [] : this.#keptOf(source);
      const rest = source.slice(lengthOf(kept));
      const next = [...kept, ...merged(blocks(isGrowing ? completed(rest, structure) : rest))];
      const places = this.#changed(next, kept.length, isFresh);
      return { next, places, made: rendered(places.map((place) => next[place])) };
    } catch (error) {
      // The parser calls itself for each level of nesting, until the stack is full.
      if (error instanceof RangeError) return null;
      throw error;
    }
  }

  /** @param {string} source @param {boolean} isFresh */
  #plain(source, isFresh) {
    const next = source ? [{ type: "plain", raw: source }] : [];
    const places = this.#changed(next, 0, isFresh);
    return { next, places, made: places.map(() => el("div", { class: "plain" }, source)) };
  }

  /** @param {{type: string, raw: string}[]} next @param {number} from @param {boolean} isFresh */
  #changed(next, from, isFresh) {
    return [...next.keys()].slice(from).filter((place) => isFresh || !isSame(this.#shown[place], next[place]));
  }

  /** @param {string} source */
  #keptOf(source) {
    const kept = this.#shown.slice(0, this.#finished);
    return source.startsWith(kept.map(({ raw }) => raw).join("")) ? kept : [];
  }

  /** @param {number} index @param {HTMLElement} block */
  #place(index, block) {
    const before = this.#body.children[index];
    if (before) become(before, block);
    // The line break between blocks separates their words where only the text is read.
    else this.#body.append(...(index ? ["\n"] : []), block);
  }

  #removeLast() {
    this.#body.lastElementChild?.remove();
    this.#body.lastChild?.remove();
  }
}

/** @param {{type: string, raw: string} | undefined} before @param {{type: string, raw: string}} now */
function isSame(before, now) {
  return before?.raw === now.raw && before.type === now.type;
}

/** @param {{raw: string}[]} all */
function lengthOf(all) {
  return all.reduce((sum, { raw }) => sum + raw.length, 0);
}

/** Join each block with the blank lines after it. @param {import("./markdown.js").Block[]} found */
function merged(found) {
  /** @type {import("./markdown.js").Block[]} */
  const all = [];
  for (const block of found) {
    const last = all.at(-1);
    if (block.type !== "space") all.push(block);
    else if (last) all[all.length - 1] = { ...last, raw: last.raw + block.raw };
  }
  return all;
}

/** Return how many blocks cannot change. A blank line finishes all blocks before it, except a list, which may go on. @param {{type: string, raw: string}[]} all */
function finishedOf(all) {
  let count = Math.max(0, all.length - 1);
  while (count > 0 && (all[count - 1].type === "list" || !ENDS_BLANK.test(all[count - 1].raw))) count -= 1;
  return count;
}

/** Change a node so that it equals a fresh node. Unchanged parts keep their selection and focus. @param {ChildNode} node @param {ChildNode} fresh */
function become(node, fresh) {
  if (node.isEqualNode(fresh)) return;
  if (node instanceof Text && fresh instanceof Text) {
    if (fresh.data.startsWith(node.data)) node.appendData(fresh.data.slice(node.data.length));
    else node.data = fresh.data;
  } else if (node instanceof Element && node.cloneNode(false).isEqualNode(fresh.cloneNode(false))) {
    const children = [...fresh.childNodes];
    for (const [index, child] of children.slice(0, node.childNodes.length).entries()) become(node.childNodes[index], child);
    while (node.childNodes.length > children.length) node.lastChild?.remove();
    node.append(...children.slice(node.childNodes.length));
  } else {
    node.replaceWith(fresh);
  }
}
