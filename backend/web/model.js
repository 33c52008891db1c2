/** The badge that names the model, and the line that says why it is not the configured one. */

import { get, session } from "./api.js";
import { byId, el } from "./dom.js";

/** @import { Me, ModelNotice } from "./schemas.d.ts" */

export const OFFLINE = "offline-rules-1";

let ending = 0;

/**
 * Name the model that answers: what the server says at first, and what each answer says of itself.
 * @param {string} model
 * @param {ModelNotice} [notice] why the offline model answers in place of the configured one
 */
export function nameModel(model, notice) {
  const badge = byId("model");
  const offline = model === OFFLINE;
  badge.replaceChildren(el("span", {}, offline ? "Offline rules, no language model" : model));
  badge.dataset.offline = String(offline);
  badge.title = model;
  badge.hidden = false;
  const line = byId("model-notice");
  const sentence = notice ? inWords(notice) : "";
  // A screen reader says the same words again each time that they are set.
  if (line.textContent !== sentence) line.textContent = sentence;
  clearTimeout(ending);
  if (notice && sentence) ending = setTimeout(() => (line.textContent = ""), Date.parse(notice.until) - Date.now());
}

/** @param {ModelNotice} notice @returns {string} nothing once its time is over */
function inWords({ detail, until }) {
  const end = new Date(until);
  if (end.getTime() <= Date.now()) return "";
  return `${detail} The offline model answers until ${end.toLocaleTimeString("en", { timeStyle: "short" })}.`;
}

/** Ask the server for its model, and whether this guest gets it. @param {{onError: (error: unknown, retry: () => void) => void}} on */
export async function showModel({ onError }) {
  try {
    const { model } = /** @type {{model: string}} */ (await get("/health"));
    nameModel(model);
    if (!session()) return;
    const { model_notice: notice } = /** @type {Me} */ (await get("/api/me"));
    if (notice) nameModel(OFFLINE, notice);
  } catch (error) {
    onError(error, () => showModel({ onError }));
  }
}
