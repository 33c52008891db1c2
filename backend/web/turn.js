/** One question and its answer, as the thread shows them. */

import { Numbering, openPressed } from "./citations.js";
import { el, failure } from "./dom.js";
import { withoutBeginning, withSigns } from "./marks.js";
import { OFFLINE } from "./model.js";
import { Prose } from "./prose.js";
import { isChange, undoLine } from "./undo.js";
import { inWords } from "./words.js";

/** @import { Citation, MessageSeen, ToolCall, ToolResult } from "./schemas.d.ts" */

const LONGEST_SHOWN = 20_000;
const STATES = { running: "running", done: "done", error: "failed", stopped: "not finished" };

/**
 * @typedef {object} Row a tool call's elements and data
 * @property {HTMLElement} row
 * @property {HTMLElement} state for screen readers
 * @property {HTMLElement} result
 * @property {HTMLElement} outcome contains the result
 * @property {HTMLElement} phrase what the call does, in words
 * @property {string} name
 * @property {Record<string, unknown> | null} given the call's arguments
 * @property {boolean} changed whether the call changed something
 */

/** @param {string} text */
export function question(text) {
  return el("div", { class: "question", "data-testid": "user-message" }, el("span", { class: "visually-hidden" }, "You: "), text);
}

/** The assistant's side of a turn: tool calls first, then the text. */
export class Answer {
  /** The whole text, with its marks. */
  #text = "";
  /** The citations that the server has proven. @type {Citation[]} */
  #citations = [];
  #isMarkdown = true;
  /** The id of the animation frame that will show the text. */
  #frame = 0;
  // The length of the text in code points, because the server's offsets count code points, not UTF-16 units.
  #points = 0;
  /** The tool calls by their ids. @type {Map<string | number, Row>} */
  #rows = new Map();
  #body = el("div", { class: "answer-text", "data-testid": "answer-text" });
  #prose = new Prose(this.#body);
  #tools = el("div", { class: "tools", hidden: true });
  #sources = el("ol", { class: "sources", "data-testid": "sources", "aria-label": "Sources", hidden: true });
  #end = el("div", { class: "answer-end" });
  #undo = el("div");

  constructor() {
    this.#body.addEventListener("click", (event) => openPressed(event, this.#citations));
    const parts = [this.#tools, this.#body, this.#sources, this.#end, this.#undo];
    this.element = el("article", { class: "answer", "data-testid": "assistant-message" }, ...parts);
    this.element.prepend(el("span", { class: "visually-hidden" }, "DocuTalk: "));
  }

  /** Return an answer that is already complete. @param {MessageSeen} message */
  static stored(message) {
    const answer = new Answer();
    for (const [index, tool] of message.tool_calls.entries()) {
      answer.toolCall({ call_id: index, ...tool });
      answer.toolResult({ call_id: index, ...tool });
    }
    answer.#citations = message.citations;
    answer.writtenBy(message.model);
    answer.end("completed", message.content);
    answer.offerUndo(message.run_id);
    return answer;
  }

  /** The text as a reader sees it, without numbers and buttons. */
  get text() {
    const read = /** @type {HTMLElement} */ (this.#body.cloneNode(true));
    for (const part of read.querySelectorAll(".cite, .code-head")) part.remove();
    return read.textContent;
  }

  /** Record which model writes the answer. @param {string | null} model null if the model is unknown */
  writtenBy(model) {
    // The offline model repeats the user's own words; only language models are known to write Markdown.
    this.#isMarkdown = model !== null && model !== OFFLINE;
  }

  begin() {
    this.element.dataset.state = "streaming";
  }

  /** Add streamed text, without the part that the answer already has. @param {string} delta @param {number} [offset] */
  add(delta, offset = this.#points) {
    const fresh = Array.from(delta).slice(Math.max(0, this.#points - offset));
    this.#text += fresh.join("");
    this.#points += fresh.length;
    this.#showSoon();
  }

  /** Set the citations that the server has proven, in the order of their marks. @param {Citation[]} citations all citations so far */
  cite(citations) {
    this.#citations = citations;
    this.#showSoon();
  }

  get citations() {
    return this.#citations;
  }

  /** Remove the streamed text from `offset` on. @param {number} offset */
  reset(offset = 0) {
    this.#set(Array.from(this.#text).slice(0, offset).join(""));
  }

  /** @param {ToolCall} tool */
  toolCall({ call_id, name: tool, arguments: given }) {
    if (this.#rows.has(call_id)) return;
    const name = tool ?? "";
    const state = el("span", { class: "visually-hidden" });
    const words = inWords(name, given);
    const code = el("code", { "data-testid": "tool-name" }, name);
    const phrase = el("span", { class: "gist", "data-testid": "tool-words" }, words ?? gist(given));
    const result = el("pre", { "data-testid": "tool-result", tabindex: "0" });
    const summary = el("summary", {}, el("span", { class: "mark", "aria-hidden": "true" }), ...(words === null ? [code] : []), phrase, state);
    const label = el("p", { class: "label" }, "Arguments", ...(words === null ? [] : [" of ", code]));
    const request = el("div", {}, label, el("pre", { "data-testid": "tool-arguments", tabindex: "0" }, shown(given)));
    const outcome = el("div", { hidden: true }, el("p", { class: "label" }, "Result"), result);
    const inside = el("div", { class: "tool-inside" }, request, outcome);
    const row = el("details", { class: "tool", "data-testid": "tool-call" }, summary, inside);
    const parts = { row, state, result, outcome, phrase, name, given, changed: false };
    this.#rows.set(call_id, parts);
    this.#mark(parts, "running");
    this.#tools.hidden = false;
    this.#tools.append(row);
  }

  /** @param {ToolResult} tool */
  toolResult({ call_id, result, is_error }) {
    const parts = this.#rows.get(call_id);
    if (!parts) return;
    parts.result.textContent = shown((is_error && errorIn(result)) || result);
    parts.outcome.hidden = false;
    if (!is_error) parts.phrase.textContent = inWords(parts.name, parts.given, result) ?? parts.phrase.textContent;
    parts.changed = !is_error && isChange(result);
    this.#mark(parts, is_error ? "error" : "done");
  }

  /** Show what the run is waiting for. Without a sentence, remove the note. @param {string} [sentence] */
  note(sentence) {
    this.#end.replaceChildren(...(sentence ? [el("p", { class: "note", "data-testid": "answer-note" }, sentence)] : []));
  }

  /**
   * Close the answer.
   * @param {string} status completed, failed or cancelled
   * @param {string | null} [response] the whole text, which replaces the streamed text
   * @param {string} [sentence] the sentence to show under an answer that was stopped
   */
  end(status, response, sentence) {
    this.element.dataset.state = status;
    this.#set(response || this.#text);
    this.#end.replaceChildren();
    for (const parts of this.#rows.values()) if (parts.row.dataset.state === "running") this.#mark(parts, "stopped");
    if (status === "cancelled") this.note(sentence || "You stopped this answer.");
  }

  /** Close the answer, and show what went wrong. @param {string} sentence @param {() => void} [retry] */
  fail(sentence, retry) {
    this.end("failed");
    this.#end.replaceChildren(failure(sentence, "Try again", retry));
  }

  /** If the answer changed something, offer to undo that. @param {string | null} runId the run, which has ended */
  offerUndo(runId) {
    const hasChanged = [...this.#rows.values()].some(({ changed }) => changed);
    if (hasChanged && runId !== null && !this.#undo.hasChildNodes()) this.#undo.append(undoLine(runId));
  }

  /** @param {string} text */
  #set(text) {
    this.#text = text;
    this.#points = Array.from(text).length;
    this.#show();
  }

  #showSoon() {
    this.#frame ||= requestAnimationFrame(() => this.#show());
  }

  #show() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const isGrowing = this.element.dataset.state === "streaming";
    const { text, marks } = withSigns(isGrowing ? withoutBeginning(this.#text) : this.#text);
    const numbering = new Numbering(marks, this.#citations);
    this.#prose.show(text, {
      isMarkdown: this.#isMarkdown,
      isGrowing,
      // A mark's number depends on the marks before it, so all blocks are rebuilt once there are citations.
      isFresh: this.#citations.length > 0,
      finish: (block) => numbering.apply(block),
    });
    this.#sources.replaceChildren(...numbering.lines());
    this.#sources.hidden = !this.#sources.hasChildNodes();
  }

  /** @param {Row} parts @param {keyof typeof STATES} state */
  #mark(parts, state) {
    parts.row.dataset.state = state;
    parts.state.textContent = `, ${STATES[state]}`;
  }
}

/** Return the most telling argument: the first short text, or else the first number. @param {Record<string, unknown> | null} given */
function gist(given) {
  const values = Object.values(given ?? {});
  const text = values.find((value) => typeof value === "string") ?? values.find((value) => typeof value === "number");
  return text === undefined ? "" : String(text).slice(0, 120);
}

/** Return the error sentence in a failed call's result, if there is one. @param {unknown} result */
function errorIn(result) {
  return typeof result === "object" && result !== null && "error" in result ? result.error : null;
}

/** @param {unknown} value */
function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value ?? null, null, 2);
  const more = text.length - LONGEST_SHOWN;
  return more > 0 ? `${text.slice(0, LONGEST_SHOWN)}\n… and ${more.toLocaleString("en")} more characters.` : text;
}
