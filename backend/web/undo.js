/** Undo: the line under an answer that changed something, and the notice after a change by hand. */

import { ApiError, call } from "./api.js";
import { byId, el } from "./dom.js";
import { parsed } from "./words.js";

/** @import { RowUndone, Undone } from "./schemas.d.ts" */

/** How long the notice stays, in milliseconds. */
const STAYS = 8_000;
/** The codes of refusals that stay the same however often the user tries. */
const HOPELESS = ["nothing_to_undo", "already_undone"];
/** What became of a row, by what was pressed. */
const OUTCOMES = {
  Undone: { restored: "is back", removed: "is gone", "changed back": "is as it was before" },
  Redone: { restored: "is back", removed: "is gone", "changed back": "is changed again" },
};

/** @type {{onUndone: () => Promise<unknown>, onError: (error: unknown, retry: null) => void}} */
let on = { onUndone: async () => {}, onError: () => {} };

/**
 * Connect undo to the page.
 * @param {typeof on} listeners `onUndone` refreshes the lists; `onError` gets an error that ended the session
 */
export function connectUndo(listeners) {
  on = listeners;
  for (const id of ["tasks-undo", "documents-undo"]) {
    for (const left of ["pointerleave", "focusout"]) byId(id).addEventListener(left, hideLater);
  }
}

/** Return whether a tool call changed something, as far as its result shows. @param {unknown} result */
export function isChange(result) {
  const { operation_id, status } = parsed(result) ?? {};
  // Only the result of a write has the number of its operation. A dry run is a write that changes nothing.
  return typeof operation_id === "number" && status !== "dry_run";
}

/** Return a line that undoes an answer's changes, and redoes them afterwards. @param {string} runId */
export function undoLine(runId) {
  const ofRun = `/api/runs/${encodeURIComponent(runId)}/undo`;
  /** What undoes the last undo. @type {string | null} */
  let redo = null;
  const said = el("span", { role: "status", "data-testid": "undo-said" });
  const button = el("button", { type: "button", class: "link", "data-testid": "undo", onclick: press });
  name();

  function name() {
    button.textContent = redo ? "Redo" : "Undo";
    button.setAttribute("aria-label", `${button.textContent} the changes of this answer`);
  }

  function press() {
    pressed(button, said, redo ?? ofRun, async ({ rows, operation }) => {
      said.replaceChildren(...inWords(redo ? "Redone" : "Undone", rows));
      redo = redo ? null : pathOf(operation);
      name();
      on.onUndone(); // The button can be pressed again before the lists are there.
    });
  }

  return el("p", { class: "undo-line", "data-testid": "undo-line" }, said, button);
}

/** The element that shows the notice now. There is one notice at a time. @type {HTMLElement | null} */
let notice = null;
let hiding = 0;

/**
 * Report a change by hand for a few seconds, and offer to undo it.
 * @param {"tasks" | "documents"} panel where the change was made
 * @param {object} change
 * @param {string} change.verb such as "Deleted"
 * @param {string} change.name the task's title or the file's name
 * @param {string | null} change.operation the number of the operation; without it, the notice offers nothing
 * @param {() => void} change.focus gives the focus to the row after an undo
 */
export function showUndo(panel, { verb, name, operation, focus }) {
  clearUndo();
  const shown = byId(`${panel}-undo`);
  const said = el("p", {}, `${verb} `, ...quoted(name), ".");
  const path = pathOf(operation);
  const button = el("button", { type: "button", class: "link", "data-testid": "undo" }, "Undo");
  button.addEventListener("click", () => {
    pressed(button, said, String(path), async ({ rows }) => {
      await on.onUndone();
      if (button === document.activeElement) focus();
      said.replaceChildren(...inWords("Undone", rows, name));
      button.remove();
      if (notice === shown) hideLater();
    });
  });
  shown.replaceChildren(said, ...(path ? [button] : []));
  notice = shown;
  hideLater();
}

/** Remove the notice. */
export function clearUndo() {
  clearTimeout(hiding);
  notice?.replaceChildren();
  notice = null;
}

/** Remove the notice after a while, unless the pointer or the focus is in it then. When one of them leaves, wait again. */
function hideLater() {
  clearTimeout(hiding);
  // On a touch screen, an element counts as hovered until another one is touched.
  const isHeld = window.matchMedia("(hover: hover)").matches ? ":hover, :focus-within" : ":focus-within";
  hiding = setTimeout(() => notice?.matches(isHeld) || clearUndo(), STAYS);
}

/**
 * Undo something for a button, and show a refusal beside it. Without hope of success, the button goes.
 * @param {HTMLElement} button
 * @param {HTMLElement} said shows what became of it
 * @param {string} path
 * @param {(done: {rows: RowUndone[], operation: string | null}) => Promise<void>} show the button can be pressed again once it resolves
 */
async function pressed(button, said, path, show) {
  if (button.getAttribute("aria-disabled") === "true") return;
  // A button with the attribute "disabled" would lose the focus.
  button.setAttribute("aria-disabled", "true");
  try {
    const response = await call(path, { method: "POST" });
    const { rows } = /** @type {Undone} */ (await response.json());
    await show({ rows, operation: response.headers.get("Operation-Id") });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) return on.onError(error, null);
    said.replaceChildren(error.message);
    if (error.status === 404 || HOPELESS.includes(error.code)) leave(button, said);
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** Remove a button. If it had the focus, the words beside it get it. @param {HTMLElement} button @param {HTMLElement} said */
function leave(button, said) {
  if (button === document.activeElement) {
    said.tabIndex = -1;
    said.focus();
  }
  button.remove();
}

/** @param {string | null} operation */
function pathOf(operation) {
  return operation && `/api/operations/${encodeURIComponent(operation)}/undo`;
}

/**
 * Say what was undone or redone.
 * @param {keyof typeof OUTCOMES} word
 * @param {RowUndone[]} rows
 * @param {string | null} [name] the name of a single row, if the caller knows it
 * @returns {(Node | string)[]}
 */
function inWords(word, rows, name = null) {
  if (rows.length !== 1) return [`${word}: ${rows.length.toLocaleString("en")} items.`];
  const [{ kind, id, title, change }] = rows;
  const known = name ?? title;
  return [`${word}: `, ...(known === null ? [`${kind} ${id}`] : quoted(known)), ` ${OUTCOMES[word][change]}.`];
}

/** Return a name in quotation marks. Its direction does not affect the words around it. @param {string} name */
function quoted(name) {
  return ["“", el("bdi", {}, name), "”"];
}
