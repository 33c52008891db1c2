/** Uploads of files that were chosen, dropped or pasted. They run one after the other, each in its own row. */

import { ApiError, ensureSession, upload } from "./api.js";
import { named } from "./documents.js";
import { byId, el, failure } from "./dom.js";
import { announce } from "./notices.js";

/** @import { DocumentSeen } from "./schemas.d.ts" */

/**
 * @param {object} on
 * @param {() => void} on.onSession called when there is a session
 * @param {(document: DocumentSeen) => void} on.onStored called when the server has stored a document
 * @param {(error: Error) => void} on.onRefused called for each failure; the message names the file
 */
export function createUploads({ onSession, onStored, onRefused }) {
  const list = byId("uploads");
  /** @type {(() => Promise<void>)[]} */
  const waiting = [];
  let isBusy = false;
  /** @type {Set<AbortController>} */
  const underWay = new Set();

  /** @param {Iterable<File>} files */
  function add(files) {
    for (const file of files) enqueue(file);
    work();
  }

  async function work() {
    if (isBusy) return;
    isBusy = true;
    for (let next = waiting.shift(); next; next = waiting.shift()) await next();
    isBusy = false;
    tell();
  }

  /** @param {File} file @param {HTMLElement} [row] the row of the file's failed upload, which the new row replaces */
  function enqueue(file, row) {
    const item = el("li", { class: "document", "data-testid": "upload-row", "data-status": "waiting" });
    const bar = el("progress", { max: 1, "aria-label": `Upload of ${file.name}` });
    const words = el("p", { "data-testid": "upload-state" }, "Waiting");
    const cancelling = new AbortController();
    const cancel = el("button", { type: "button", class: "link", "aria-label": `Cancel the upload of ${file.name}`, onclick: () => cancelling.abort() }, "Cancel");
    const name = el("p", { class: "document-name" }, el("bdi", {}, file.name));
    item.append(name, el("div", { class: "document-progress" }, bar, words), el("p", { class: "document-actions" }, cancel));
    if (row) row.replaceWith(item);
    else list.append(item);
    const signal = cancelling.signal;
    underWay.add(cancelling);
    signal.addEventListener("abort", () => {
      underWay.delete(cancelling);
      leave(item);
    });
    waiting.push(() => (signal.aborted ? Promise.resolve() : send(file, item, { bar, words, signal })));
    tell();
  }

  /** @param {File} file @param {HTMLElement} item @param {{bar: HTMLProgressElement, words: HTMLElement, signal: AbortSignal}} parts */
  async function send(file, item, { bar, words, signal }) {
    const onProgress = (/** @type {number} */ part) => {
      bar.value = part;
      words.textContent = part < 1 ? `Uploading, ${Math.floor(part * 100)} %` : "Storing";
    };
    try {
      item.dataset.status = "uploading";
      await ensureSession();
      onSession();
      onProgress(0);
      const stored = await upload("/api/documents", file, { onProgress, signal });
      leave(item);
      onStored(stored);
      announce(`${file.name} was uploaded and is being read.`);
    } catch (error) {
      if (!signal.aborted) refuse(file, item, named(error, file.name));
    }
    tell();
  }

  /** @param {File} file @param {HTMLElement} item @param {Error} error */
  function refuse(file, item, error) {
    const again = () => {
      enqueue(file, item);
      work();
    };
    item.dataset.status = "failed";
    const dismiss = el("button", { type: "button", class: "link", "aria-label": `Dismiss ${file.name}`, onclick: () => leave(item) }, "Dismiss");
    const mayPass = error instanceof ApiError && (error.passing || error.status === 401 || error.code === "quota_exceeded");
    item.replaceChildren(failure(error.message, "Try again", mayPass ? again : undefined), el("p", { class: "document-actions" }, dismiss));
    onRefused(error);
  }

  /** @param {HTMLElement} item */
  function leave(item) {
    const hadFocus = item.contains(document.activeElement);
    item.remove();
    if (hadFocus) byId("upload").focus();
    tell();
  }

  function tell() {
    const opener = byId("documents-opener");
    opener.dataset.uploading = String(list.querySelector("[data-status=waiting], [data-status=uploading]") !== null);
    opener.dataset.failed = String(list.querySelector("[data-status=failed]") !== null);
  }

  const chooser = byId("files", HTMLInputElement);
  byId("upload").addEventListener("click", () => chooser.click());
  byId("attach").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    add([...(chooser.files ?? [])]);
    // Without this, choosing the same file again would do nothing.
    chooser.value = "";
  });
  takeDropped(add);
  takePasted(add);

  return {
    /** Cancel the uploads in progress, and remove the failed ones. */
    clear() {
      for (const cancelling of underWay) cancelling.abort();
      list.replaceChildren();
      tell();
    },
  };
}

/** @param {(files: File[]) => void} add */
function takeDropped(add) {
  const veil = byId("drop");
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    // By default, a browser opens a dropped file in place of the page.
    event.preventDefault();
    veil.hidden = document.querySelector("dialog[open]") !== null;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    const isWanted = document.querySelector("dialog[open]") === null;
    veil.hidden = true;
    if (isWanted) add([...(event.dataTransfer?.files ?? [])]);
  });
}

/** @param {(files: File[]) => void} add */
function takePasted(add) {
  document.addEventListener("paste", (event) => {
    const given = event.clipboardData;
    // Text that is copied from an office program also has a picture of itself. It is not an upload.
    if (!given?.files.length || given.types.includes("text/html")) return;
    event.preventDefault();
    if (document.querySelector("dialog[open]") === null) add([...given.files]);
  });
}
