/** Asks before a document is deleted. */

import { ApiError, call } from "./api.js";
import { byId, failure } from "./dom.js";

/**
 * @param {{onDeleted: (id: number, filename: string, operation: string | null) => void}} on `operation` is null if somebody else deleted it
 * @returns {(document: {id: number, filename: string}) => void} asks for confirmation, then deletes the document
 */
export function createDeletion({ onDeleted }) {
  const dialog = byId("delete-dialog", HTMLDialogElement);
  const confirm = byId("delete-confirm", HTMLButtonElement);
  /** @type {{id: number, filename: string} | null} */
  let asked = null;

  confirm.addEventListener("click", async () => {
    if (asked === null) return;
    const { id, filename } = asked;
    confirm.disabled = true;
    let operation = null;
    try {
      operation = (await call(`/api/documents/${id}`, { method: "DELETE" })).headers.get("Operation-Id");
    } catch (error) {
      // A 404 means that somebody else has already deleted the document, which is what was wanted.
      if (!(error instanceof ApiError && error.status === 404)) {
        byId("delete-error").replaceChildren(failure(/** @type {Error} */ (error).message));
        return;
      }
    } finally {
      confirm.disabled = false;
    }
    dialog.close();
    onDeleted(id, filename, operation);
  });

  return (document) => {
    asked = document;
    byId("delete-title").textContent = `Delete ${document.filename}?`;
    byId("delete-error").replaceChildren();
    dialog.showModal();
  };
}
