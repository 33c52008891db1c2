/** Messages to the user: one notice above the message box, and words for screen readers. */

import { byId, failure } from "./dom.js";

const notice = byId("notice");
/** What the notice's button does. */
let act = () => {};

/** @param {string} kind @param {string} sentence @param {string} [label] @param {() => void} [action] */
export function showNotice(kind, sentence, label, action) {
  act = action ?? act;
  // The same notice is shown only once, so that a screen reader does not repeat it and its button keeps the focus.
  const isThere = notice.dataset.kind === kind && notice.querySelector("p")?.textContent === sentence;
  if (isThere && Boolean(notice.querySelector("button")) === Boolean(action)) return;
  notice.dataset.kind = kind;
  notice.hidden = false;
  notice.replaceChildren(failure(sentence, label, action && (() => act())));
}

/** @param {string} [kind] clear only a notice of this kind */
export function clearNotice(kind) {
  if (kind && notice.dataset.kind !== kind) return;
  notice.hidden = true;
  notice.dataset.kind = "";
  notice.replaceChildren();
}

/** Make a screen reader read a text aloud. @param {string} text */
export function announce(text) {
  byId("announcer").replaceChildren(text);
}
