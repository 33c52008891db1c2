/** The badge that names the model. */

import { get } from "./api.js";
import { byId, el } from "./dom.js";

/** Name the model that answers: what the server says at first, and what each answer says of itself. @param {string} model */
export function nameModel(model) {
  const badge = byId("model");
  const offline = model === "offline-rules-1";
  badge.replaceChildren(el("span", {}, offline ? "Offline rules, no language model" : model));
  badge.dataset.offline = String(offline);
  badge.title = model;
  badge.hidden = false;
}

/** Ask the server for its model. @param {{onError: (error: any, retry: () => void) => void}} on */
export async function showModel({ onError }) {
  try {
    nameModel((await get("/health")).model);
  } catch (error) {
    onError(error, () => showModel({ onError }));
  }
}
