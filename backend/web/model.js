/** The badge with the model's name, and the line that explains why the configured model does not answer. */

import { get, session } from "./api.js";
import { byId, el } from "./dom.js";

/** @import { Me, ModelNotice } from "./schemas.d.ts" */

export const OFFLINE = "offline-rules-1";

let ending = 0;

/**
 * Show the name of the model that answers. The server reports it first, and then each answer reports its own model.
 * @param {string} model
 * @param {ModelNotice} [notice] why the offline model answers in place of the configured model
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
  // Setting the same words again would make a screen reader repeat them.
  if (line.textContent !== sentence) line.textContent = sentence;
  clearTimeout(ending);
  if (notice && sentence) ending = setTimeout(() => (line.textContent = ""), Date.parse(notice.until) - Date.now());
}

/** @param {ModelNotice} notice @returns {string} an empty string once the notice's time is over */
function inWords({ detail, until }) {
  const end = new Date(until);
  if (end.getTime() <= Date.now()) return "";
  return `${detail} The offline model answers until ${end.toLocaleTimeString("en", { timeStyle: "short" })}.`;
}

/** Show the server's model, and a notice if this guest does not get it. @param {{onError: (error: unknown, retry: () => void) => void}} on */
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
