/** The document list at the side: each document with its progress and its actions. */

import { ApiError, call, get } from "./api.js";
import { createDeletion } from "./deletion.js";
import { byId, el, failure } from "./dom.js";
import { announce } from "./notices.js";
import { createPolling } from "./polling.js";
import { showUndo } from "./undo.js";
import { openDocument } from "./viewer.js";

/** @import { DocumentSeen, DocumentsListed } from "./schemas.d.ts" */

const UNDER_WAY = ["pending", "processing"];

/** @param {{onError: (error: unknown, retry: (() => void) | null) => void}} on */
export function createDocumentList({ onError }) {
  const list = byId("document-list");
  /** The shown rows, by document id. @type {Map<number, {item: HTMLElement, status: string}>} */
  const rows = new Map();
  const polling = createPolling({ ids: underWay, look });
  const askToDelete = createDeletion({ onDeleted });
  let round = 0;

  /** Read the list again. If a newer request has started meanwhile, the older answer is dropped. */
  function refresh() {
    return fill(++round);
  }

  /** @param {number} mine */
  async function fill(mine, cursor = "") {
    try {
      const query = cursor ? `?${new URLSearchParams({ cursor })}` : "";
      const page = /** @type {DocumentsListed} */ (await get(`/api/documents${query}`));
      if (mine !== round) return;
      list.querySelector(".more")?.remove();
      if (!cursor) keepOnly(page.documents);
      for (const found of page.documents) show(found, "order");
      const next = page.next_cursor;
      if (next) {
        const more = () => fill(mine, next);
        list.append(el("li", { class: "more" }, el("button", { type: "button", class: "quiet", onclick: more }, "Show more")));
      }
    } catch (error) {
      if (mine !== round) return;
      if (cursor || rows.size || (error instanceof ApiError && error.status === 401)) return onError(error, refresh);
      list.replaceChildren(el("li", { class: "more" }, failure(/** @type {Error} */ (error).message, "Try again", refresh)));
    }
    tell();
    polling.start();
  }

  /** @param {DocumentSeen[]} documents */
  function keepOnly(documents) {
    const stay = new Set(documents.map(({ id }) => id));
    for (const id of rows.keys()) if (!stay.has(id)) drop(id);
    for (const item of list.querySelectorAll("li")) if (!item.dataset.documentId) item.remove();
  }

  /** Update a document's row, or add a row at the start of the list or in order. @param {DocumentSeen} found @param {"start" | "order"} place */
  function show(found, place) {
    const before = rows.get(found.id);
    const item = before?.item ?? el("li", { class: "document", "data-testid": "document", "data-document-id": found.id });
    rows.set(found.id, { item, status: found.status });
    fillRow(item, found);
    if (!before && place === "start") list.prepend(item);
    if (!before && place === "order") list.insertBefore(item, olderThan(found.id));
    if (before && before.status !== found.status) sayOutcome(found);
  }

  /** Return the first row of an older document. The newest document comes first. @param {number} id */
  function olderThan(id) {
    return [...list.children].find((item) => item instanceof HTMLElement && Number(item.dataset.documentId) < id) ?? null;
  }

  /** @param {HTMLElement} item @param {DocumentSeen} found */
  function fillRow(item, found) {
    const active = /** @type {HTMLElement | null} */ (document.activeElement);
    const focused = item.contains(active) && active?.dataset.action;
    item.dataset.status = found.status;
    item.replaceChildren(...parts(found, { download, askToDelete }));
    // The row's content was replaced while a keyboard user was in it. The focus goes back to the same place.
    if (!focused) return;
    const buttons = [...item.querySelectorAll("button")];
    (buttons.find(({ dataset }) => dataset.action === focused) ?? buttons[0])?.focus();
  }

  /** @param {DocumentSeen} document */
  async function download({ id, filename }) {
    try {
      const response = await call(`/api/documents/${id}/content`, { headers: { Accept: "*/*" } });
      save(await response.blob(), filename);
    } catch (error) {
      onError(named(error, filename), null);
    }
  }

  /** Update a document's progress. @param {number} id @returns {Promise<boolean>} whether the progress has changed */
  async function look(id) {
    const before = list.textContent;
    try {
      const found = /** @type {DocumentSeen} */ (await get(`/api/documents/${id}`));
      if (rows.has(id)) show(found, "start");
    } catch (error) {
      if (!(error instanceof ApiError) || error.passing) return false;
      if (error.status === 404) drop(id);
      else {
        polling.stop();
        onError(error, null);
      }
    }
    tell();
    return list.textContent !== before;
  }

  /** @param {number} id @param {string} filename @param {string | null} operation */
  function onDeleted(id, filename, operation) {
    const item = rows.get(id)?.item;
    const next = item?.nextElementSibling ?? item?.previousElementSibling;
    drop(id);
    tell();
    (next?.querySelector("button") ?? byId("upload")).focus();
    showUndo("documents", { verb: "Deleted", name: filename, operation, focus: () => rows.get(id)?.item.querySelector("button")?.focus() });
  }

  /** @param {number} id */
  function drop(id) {
    rows.get(id)?.item.remove();
    rows.delete(id);
  }

  function underWay() {
    return [...rows].filter(([, { status }]) => UNDER_WAY.includes(status)).map(([id]) => id);
  }

  function tell() {
    const more = list.querySelector(".more button") ? "+" : "";
    byId("document-count").textContent = rows.size ? `${rows.size}${more}` : "";
    byId("document-count-small").textContent = byId("document-count").textContent;
    byId("documents-empty").hidden = list.childElementCount > 0;
    byId("documents-opener").dataset.busy = String(underWay().length > 0);
  }

  return {
    refresh,
    /** Show a document that the server has just stored. @param {DocumentSeen} document */
    add(document) {
      show(document, "start");
      tell();
      polling.start();
    },
    clear() {
      round += 1;
      polling.stop();
      rows.clear();
      list.replaceChildren();
      tell();
    },
  };
}

/** @param {DocumentSeen} found @param {{download: (found: DocumentSeen) => void, askToDelete: (found: DocumentSeen) => void}} can */
function parts(found, { download, askToDelete }) {
  const { filename, status } = found;
  const action = (/** @type {string} */ id, /** @type {string} */ label, /** @type {() => void} */ onclick) =>
    el("button", { type: "button", class: "link", "data-action": id, "data-testid": `document-${id}`, "aria-label": `${label} ${filename}`, onclick }, label);
  const actions = el("p", { class: "document-actions" }, action("download", "Download", () => download(found)), action("delete", "Delete", () => askToDelete(found)));
  const state = UNDER_WAY.includes(status) ? [progress(found)] : status === "failed" ? [reason(found)] : [];
  return [nameOf(found), facts(found), ...state, actions];
}

/** @param {DocumentSeen} found */
function nameOf(found) {
  const name = { class: "document-name", "data-testid": "document-name" };
  if (found.status !== "ready") return el("p", name, el("bdi", {}, found.filename));
  const opens = { type: "button", "data-action": "open", title: `Read ${found.filename}`, onclick: () => openDocument(found) };
  return el("button", { ...name, ...opens }, el("bdi", {}, found.filename));
}

/** @param {DocumentSeen} document */
function facts({ id, file_size, pages, has_pages, created_at }) {
  const at = new Date(created_at);
  const year = at.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  const day = at.toLocaleDateString("en", { month: "short", day: "numeric", year });
  const told = [`#${id}`, sizeText(file_size), ...(pages && has_pages ? [`${pages.toLocaleString("en")} ${pages === 1 ? "page" : "pages"}`] : [])];
  const line = el("p", { class: "task-facts", "data-testid": "document-facts" }, ...told.map((fact) => el("span", {}, fact)));
  line.append(el("time", { datetime: created_at }, day));
  return line;
}

/** @param {DocumentSeen} document */
function progress({ filename, has_pages, progress: { stage, done, total } }) {
  const words = { waiting: "Waiting", reading: "Reading", indexing: "Indexing" }[/** @type {string} */ (stage)] ?? "Waiting";
  const counts = done && total ? ` ${done.toLocaleString("en")} of ${total.toLocaleString("en")} ${has_pages ? "pages" : "parts"}` : "";
  const bar = el("progress", { max: total || 1, value: done && total ? done : null, "aria-label": `${filename}: ${words}` });
  return el("div", { class: "document-progress", "data-stage": stage }, bar, el("p", { "data-testid": "document-state" }, words + counts));
}

/** @param {DocumentSeen} document */
function reason(document) {
  return el("p", { class: "document-reason", "data-testid": "document-state" }, document.reason || "This file could not be read.");
}

/** @param {DocumentSeen} document */
function sayOutcome({ filename, status, reason: why }) {
  if (status === "ready") announce(`${filename} is ready. You can ask about it.`);
  if (status === "failed") announce(`${filename} failed. ${why ?? ""}`);
}

/** @param {Blob} blob @param {string} filename */
function save(blob, filename) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: filename }).click();
  // The URL must stay valid for a while, because the browser reads the file after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Return the error with the file's name in its message. @param {unknown} error @param {string} filename */
export function named(error, filename) {
  if (!(error instanceof ApiError) || error.message.includes(filename)) return /** @type {Error} */ (error);
  return new ApiError(error.status, `${filename}: ${error.message}`, error.code);
}

/** Format a size in the same units as the server's messages about limits. @param {number} bytes */
function sizeText(bytes) {
  if (bytes < 1024) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const kibibytes = bytes / 1024;
  if (kibibytes < 1024) return `${Math.round(kibibytes)} KiB`;
  return `${(kibibytes / 1024).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`;
}
