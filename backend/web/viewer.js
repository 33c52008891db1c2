/** Shows a document page's text, with an answer's cited words marked. */

import { get } from "./api.js";
import { byId, el, failure } from "./dom.js";

/** @import { Citation, DocumentSeen, PageSeen, PassageOnPage } from "./schemas.d.ts" */

/**
 * @typedef {object} Place the document that is shown
 * @property {number} document
 * @property {string} word the word for one of its pages
 * @property {{path: string, start?: number, end?: number}} [cited] where the cited words are
 */

const viewer = byId("viewer", HTMLDialogElement);
/** @type {Place | null} */
let place = null;
/** The page that the server returned last. @type {PageSeen | null} */
let shown = null;
/** The page with the cited words, once it is known. @type {PassageOnPage | null} */
let source = null;
let round = 0;

/** Show a citation's words on their page. @param {Citation} citation */
export function openSource({ document_id, passage_id, filename, page_number, start, end }) {
  const path = `/api/documents/${document_id}/passages/${passage_id}`;
  open({ document: document_id, word: page_number === null ? "Part" : "Page", cited: { path, start, end } }, filename, path);
}

/** Show a page of a document. @param {DocumentSeen} document @param {number} [page] */
export function openDocument({ id, filename, has_pages }, page = 1) {
  open({ document: id, word: has_pages ? "Page" : "Part" }, filename, pagePath(id, page));
}

/** @param {number} document @param {number} number */
function pagePath(document, number) {
  return `/api/documents/${document}/pages/${number}`;
}

/** @param {Place} what @param {string} filename @param {string} path */
function open(what, filename, path) {
  place = what;
  shown = source = null;
  byId("viewer-title").textContent = filename;
  byId("viewer-place").textContent = "";
  byId("viewer-text").replaceChildren();
  viewer.showModal();
  load(path);
}

/** @param {string} path */
async function load(path) {
  const mine = ++round;
  viewer.setAttribute("aria-busy", "true");
  try {
    const page = /** @type {PageSeen} */ (await get(path));
    if (mine !== round || place === null) return;
    if (path === place.cited?.path) source = /** @type {PassageOnPage} */ (page);
    show(page, place);
  } catch (error) {
    if (mine !== round) return;
    byId("viewer-text").replaceChildren(failure(/** @type {Error} */ (error).message, "Try again", () => load(path)));
  }
  viewer.removeAttribute("aria-busy");
}

/** @param {PageSeen} page @param {Place} what */
function show(page, { word, cited }) {
  shown = page;
  byId("viewer-title").textContent = page.filename;
  byId("viewer-place").textContent = `${word} ${page.page_number} of ${page.pages}`;
  able("viewer-previous", page.page_number > 1);
  able("viewer-next", page.page_number < page.pages);
  const whole = source?.page_number === page.page_number ? source : null;
  const { start, end } = whole ? { start: cited?.start ?? whole.start, end: cited?.end ?? whole.end } : {};
  byId("viewer-text").replaceChildren(...marked(page, start, end));
  byId("viewer-scroll").scrollTop = 0;
  byId("viewer-text").querySelector("mark")?.scrollIntoView({ block: "center" });
}

/** @param {string} id @param {boolean} can */
function able(id, can) {
  // A disabled button would lose the focus, and a keyboard user would lose their place.
  byId(id).setAttribute("aria-disabled", String(!can));
}

/** @param {PageSeen} page @param {number} [start] @param {number} [end] both in code points, as in the API @returns {(Node | string)[]} */
function marked({ text, is_scanned }, start, end) {
  if (!text.trim()) return [el("p", { class: "note" }, is_scanned ? "This page is an image without text." : "This page has no text.")];
  if (start === undefined || end === undefined || end <= start) return [text];
  const points = Array.from(text);
  const part = (/** @type {number} */ from, /** @type {number} */ to) => points.slice(from, to).join("");
  return [part(0, start), el("mark", { "data-testid": "viewer-mark" }, part(start, end)), part(end, points.length)];
}

/** @param {number} by */
function leaf(by) {
  if (!place || !shown) return;
  const number = shown.page_number + by;
  if (number >= 1 && number <= shown.pages) load(pagePath(place.document, number));
}

byId("viewer-previous").addEventListener("click", () => leaf(-1));
byId("viewer-next").addEventListener("click", () => leaf(1));
byId("viewer-closer").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
viewer.addEventListener("close", () => {
  round += 1;
  place = null;
});
