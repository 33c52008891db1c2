/** This browser's guest: what the page says about them, and the dialog that forgets them. */

import { ApiError, call, session } from "./api.js";
import { byId, failure } from "./dom.js";

/** Show who is using the page. */
export function showAccount() {
  const guest = session();
  byId("forget").hidden = !guest;
  byId("first-note").hidden = Boolean(guest);
  byId("done-section").hidden = !guest;
  const date = guest?.expires_at && new Date(guest.expires_at).toLocaleDateString("en", { dateStyle: "medium" });
  byId("account").textContent = !guest ? "Not signed in." : date ? `Guest until ${date}.` : "Guest.";
}

/** Make "Forget me" ask for confirmation. @param {() => void} onForgotten runs after the server has deleted the account */
export function offerToForget(onForgotten) {
  const confirm = byId("forget-confirm", HTMLButtonElement);
  const dialog = byId("forget-dialog", HTMLDialogElement);

  async function forget() {
    confirm.disabled = true;
    try {
      await call("/api/me", { method: "DELETE" });
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 401)) {
        confirm.disabled = false;
        return byId("forget-error").replaceChildren(failure(/** @type {Error} */ (error).message));
      }
    }
    confirm.disabled = false;
    dialog.close();
    onForgotten();
  }

  byId("forget").addEventListener("click", () => {
    byId("forget-error").replaceChildren();
    dialog.showModal();
  });
  confirm.addEventListener("click", forget);
}
